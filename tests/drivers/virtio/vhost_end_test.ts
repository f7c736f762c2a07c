/** How a connection of a vhost-user back end ends, and what is left of it: nothing, and never more than one. */
import { assert, assertEquals } from "@std/assert";
import { Hold } from "../../../ffi/hold.ts";
import { wakersIdle } from "../../../ffi/poll.ts";
import { UnixListener, UnixSocket } from "../../../ffi/unix_socket.ts";
import { VhostUserDevice } from "../../../drivers/virtio/vhost_back_end.ts";
import * as p from "../../../drivers/virtio/vhost_protocol.ts";
import { settle } from "./vhost_peer.ts";

/** A message as it goes over the socket. */
function messageOf(request: number, payload: Uint8Array, flags: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(p.HEADER + payload.length);
  const view = new DataView(bytes.buffer);
  [request, flags, payload.length].forEach((value, i) => view.setUint32(4 * i, value, true));
  bytes.set(payload, p.HEADER);
  return bytes;
}

/** Two ends of a connection, by way of a socket that is gone again. */
function connectedPair(): [UnixSocket, UnixSocket] {
  const folder = Deno.makeTempDirSync({ prefix: "tapioca_end_" });
  const listener = UnixListener.listen(`${folder}/socket`);
  const one = UnixSocket.connect(listener.path);
  const other = listener.accept();
  assert(other instanceof UnixSocket);
  listener.close();
  Deno.removeSync(folder);
  return [one, other];
}

Deno.test("vhost-user: a peer that never stops talking doesn't stop the event loop", async () => {
  const [mine, theirs] = connectedPair();
  const done = Promise.withResolvers<void>();
  let messages = 0;
  const handler = { message: () => void messages++, ended: () => done.resolve() };
  const channel = new p.VhostChannel(mine, handler, new Hold());
  // As many as the socket takes, then the end.
  const many = new Uint8Array(p.HEADER * 1000);
  for (let i = 0; i < 1000; i++) many.set(messageOf(p.SET_OWNER, new Uint8Array(), 1), p.HEADER * i);
  let sent = 0;
  for (let n = theirs.send(many); n > 0; n = theirs.send(many.subarray(sent % p.HEADER))) sent += n;
  assert(sent >= 5000 * p.HEADER, `${sent} bytes`);
  const turns: number[] = [];
  let turn = setImmediate(function next() {
    turns.push(messages);
    turn = setImmediate(next);
  });
  theirs.close();
  await done.promise;
  clearImmediate(turn);
  channel.close();
  await wakersIdle();
  assertEquals(messages, Math.floor(sent / p.HEADER));
  // Other things have had their turns all the while.
  const between = new Set(turns.filter((count) => count > 0 && count < messages));
  assert(between.size >= 3, `${[...between]} of ${messages}`);
});

Deno.test("vhost-user: a connection ends once, whatever ends it, and one that is tried again is one", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "tapioca_end_" });
  const path = `${folder}/socket`;
  const listener = UnixListener.listen(path);
  const device = VhostUserDevice.open({ path, connect: true });
  const counts: number[] = [];
  try {
    for (let round = 1; round <= 4; round++) {
      let accepted: UnixSocket | number = -1;
      while (typeof accepted === "number") {
        await settle();
        accepted = listener.accept();
      }
      // A message that nobody knows, whose answer nobody takes: there are two reasons to end.
      accepted.send(messageOf(p.SET_PROTOCOL_FEATURES, p.words(p.PROTOCOL_F_REPLY_ACK), 1));
      accepted.send(messageOf(99, new Uint8Array(), 1 | 8));
      accepted.close();
      while (device.connected) await settle();
      counts.push(device.statistics().sessions);
      assertEquals(device.fault, "message 99: it is not known");
    }
    assertEquals(counts, [1, 2, 3, 4]);
    assertEquals(device.statistics().faults, 4);
  } finally {
    device.close();
    listener.close();
    Deno.removeSync(folder);
    await wakersIdle();
  }
});
