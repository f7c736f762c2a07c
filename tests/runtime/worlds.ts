// Two stacks: the programs of the tests run over "mine" without knowing it, and meet "peer".
import {
  cable,
  NetStack,
  type NetStackOptions,
  type RuntimeHook,
  type TcpListener,
  useStack,
  type UseStackOptions,
} from "../../mod.ts";

export interface Hooked extends AsyncDisposable {
  mine: NetStack;
  peer: NetStack;
  hook: RuntimeHook;
}

export function hooked(options: UseStackOptions = {}, mineOptions: NetStackOptions = {}): Hooked {
  const [left, right] = cable();
  const peer = new NetStack(left, { address: "10.0.0.1/24" });
  const mine = new NetStack(right, { address: "10.0.0.2/24", ...mineOptions });
  const hook = useStack(mine, options);
  return {
    mine,
    peer,
    hook,
    async [Symbol.asyncDispose]() {
      this.hook.undo();
      await mine[Symbol.asyncDispose]();
      await peer[Symbol.asyncDispose]();
    },
  };
}

/** Sends back what comes, until the listener is closed. */
export async function echo(listener: TcpListener | Deno.TcpListener): Promise<void> {
  const all: Promise<void>[] = [];
  for await (const conn of listener) all.push(conn.readable.pipeTo(conn.writable).catch(() => {}));
  await Promise.all(all);
}

/** Writes a text and reads as many bytes back. */
export async function say(conn: Deno.Conn, text: string): Promise<string> {
  const bytes = new TextEncoder().encode(text);
  await conn.write(bytes);
  const back = new Uint8Array(bytes.length);
  for (let at = 0; at < back.length;) {
    const count = await conn.read(back.subarray(at));
    if (count === null) return new TextDecoder().decode(back.subarray(0, at));
    at += count;
  }
  return new TextDecoder().decode(back);
}

/** A name server on a stack that knows one address for every name below "test", and no other name. */
export async function nameServer(stack: NetStack, address: string): Promise<void> {
  const socket = stack.listenDatagram({ port: 53 });
  for await (const [query, from] of socket) {
    const known = new TextDecoder().decode(query).includes("\x04test\x00");
    const answer = Uint8Array.of(0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...address.split(".").map(Number));
    const end = query.indexOf(0, 12) + 5;
    const reply = new Uint8Array(known ? end + answer.length : end);
    reply.set(query.subarray(0, end));
    reply.set([0x81, known ? 0x80 : 0x83, 0, 1, 0, known ? 1 : 0, 0, 0, 0, 0], 2);
    if (known) reply.set(answer, end);
    await socket.send(reply, from);
  }
}
