/** How a connection of a vhost-user back end ends, and what is left of it: nothing, and never more than one. */
import { assertEquals } from "@std/assert";
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
  }
});
