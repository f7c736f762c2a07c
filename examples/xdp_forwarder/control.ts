/**
 * Commands for a forwarder that runs in a process, over a unix socket: a line of JSON each way, then the end.
 *
 * @module
 */

/** What may be asked. */
export type Question =
  | { command: "add"; names: string[]; promiscuous: boolean }
  | { command: "remove"; names: string[] }
  | { command: "set-router-iface"; name: string }
  | { command: "stats" }
  | { command: "down" };

type Answer = { ok: true; value: unknown } | { ok: false; error: string };

/** Bytes of a line at most: thousands of interfaces fit into an answer. */
const LINE_MAX = 4 << 20;
/** Who asks at one time; more wait until one of them has its answer or its time is over. */
const CLIENTS_MAX = 16;
/** How long a client may take to send its line, and as long again to take the answer. */
const PATIENCE_MS = 2000;

/** The line that comes, without its end; "" if none does. */
async function readLine(conn: Deno.UnixConn): Promise<string> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(65_536);
  let text = "";
  while (!text.includes("\n") && text.length < LINE_MAX) {
    const count = await conn.read(buffer);
    if (count === null) return "";
    text += decoder.decode(buffer.subarray(0, count), { stream: true });
  }
  return text.slice(0, Math.max(0, text.indexOf("\n")));
}

async function writeLine(conn: Deno.UnixConn, value: unknown): Promise<void> {
  const bytes = new TextEncoder().encode(`${JSON.stringify(value)}\n`);
  for (let sent = 0; sent < bytes.length;) sent += await conn.write(bytes.subarray(sent));
}

/** Asks a running forwarder. @throws {Error} with what it says when it can't, or when none is there */
export async function ask(path: string, question: Question): Promise<unknown> {
  let conn: Deno.UnixConn;
  try {
    conn = await Deno.connect({ transport: "unix", path });
  } catch (error) {
    const gone = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused;
    if (!gone) throw error;
    throw new Error(`Cannot open map "router_iface" (ENOENT): no forwarder listens at ${path}. Bring one up`);
  }
  using _ = conn;
  await writeLine(conn, question);
  const line = await readLine(conn);
  if (line === "") throw new Error(`the forwarder at ${path} ended without an answer`);
  const answer = JSON.parse(line) as Answer;
  if (!answer.ok) throw new Error(answer.error);
  return answer.value;
}

/** Whether somebody listens there. */
export async function isListening(path: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) return false;
    throw error;
  }
}

/** Listens for commands: this user's only. */
export class ControlServer {
  readonly #listener: Deno.UnixListener;
  readonly #path: string;
  readonly #answer: (question: Question) => unknown;
  /** Who is connected; true: the answer is on its way. */
  readonly #clients = new Map<Deno.UnixConn, boolean>();
  readonly #serving = new Set<Promise<void>>();
  #listening = true;

  private constructor(listener: Deno.UnixListener, path: string, answer: (question: Question) => unknown) {
    this.#listener = listener;
    this.#path = path;
    this.#answer = answer;
    this.#run();
  }

  /**
   * Begins to listen; a socket that a killed forwarder left is replaced.
   *
   * @param answer does what is asked: what it throws is told
   */
  static async open(path: string, answer: (question: Question) => unknown): Promise<ControlServer> {
    if (await isListening(path)) {
      throw new Error(`A forwarder listens at ${path} already: take it down, or choose another --socket`);
    }
    const found = await Deno.lstat(path).catch(() => null);
    if (found?.isSocket) await Deno.remove(path);
    const mask = Deno.umask(0o177);
    try {
      return new ControlServer(Deno.listen({ transport: "unix", path }), path, answer);
    } finally {
      Deno.umask(mask);
    }
  }

  async #run(): Promise<void> {
    for await (const conn of this.#listener) {
      const serving = this.#serve(conn);
      this.#serving.add(serving);
      serving.then(() => this.#serving.delete(serving));
      if (this.#serving.size >= CLIENTS_MAX) await Promise.race(this.#serving);
    }
  }

  async #serve(conn: Deno.UnixConn): Promise<void> {
    this.#clients.set(conn, false);
    let timer = setTimeout(() => this.#end(conn), PATIENCE_MS);
    try {
      const line = await readLine(conn);
      if (line === "") return;
      clearTimeout(timer);
      this.#clients.set(conn, true);
      const answer = this.#do(line);
      timer = setTimeout(() => this.#end(conn), PATIENCE_MS);
      await writeLine(conn, answer);
    } catch {
      // Whoever asked has gone.
    } finally {
      clearTimeout(timer);
      this.#end(conn);
    }
  }

  #do(line: string): Answer {
    try {
      const question: unknown = JSON.parse(line);
      if (typeof question !== "object" || question === null) throw new TypeError("a command is an object");
      return { ok: true, value: this.#answer(question as Question) ?? null };
    } catch (error) {
      return { ok: false, error: error instanceof Error ? error.message : String(error) };
    }
  }

  #end(conn: Deno.UnixConn): void {
    if (this.#clients.delete(conn)) conn.close();
  }

  /** Takes no more commands, and removes the socket. */
  stop(): void {
    if (!this.#listening) return;
    this.#listening = false;
    this.#listener.close();
    try {
      Deno.removeSync(this.#path);
    } catch { /* somebody has removed it */ }
  }

  /** {@link stop}, and waits until what was answered has been sent; not for ever. */
  async close(): Promise<void> {
    this.stop();
    for (const [conn, answering] of this.#clients) if (!answering) this.#end(conn);
    await Promise.all(this.#serving);
  }
}
