/**
 * Plugs into a vhost-user switch that goes away at every moment there is, the driver in the midst of its memory. A program of its
 * own: what it is about would end the process that runs it.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { Mapping } from "../../../ffi/shared_memory.ts";
import { UnixListener, UnixSocket } from "../../../ffi/unix_socket.ts";
import { EAGAIN, EIO, ENETDOWN } from "../../../stack/codes.ts";
import { FrameMemory, TxFrame } from "../../../stack/device.ts";
import { FEATURES } from "../../../drivers/virtio/features.ts";
import { VhostUserPort } from "../../../drivers/virtio/vhost_front_end.ts";
import * as p from "../../../drivers/virtio/vhost_protocol.ts";
import { SHARED_BYTES } from "../../../drivers/virtio/vhost_transport.ts";

const OFFERED = FEATURES.VERSION_1 | FEATURES.VHOST_PROTOCOL;
const BASE = 0x1000_0000;
/** All that a front end says before its rings run, in its order. */
const REQUESTS = [
  p.GET_FEATURES,
  p.GET_PROTOCOL_FEATURES,
  p.SET_PROTOCOL_FEATURES,
  p.SET_OWNER,
  p.SET_FEATURES,
  p.SET_MEM_TABLE,
  ...[0, 1].flatMap(() => [p.SET_VRING_NUM, p.SET_VRING_BASE, p.SET_VRING_ADDR, p.SET_VRING_CALL, p.SET_VRING_KICK]),
  p.SET_VRING_ENABLE,
  p.SET_VRING_ENABLE,
];

/** A switch in the same thread: it has read a message, and may be gone, before the front end's `send` returns. */
class Switch implements Disposable {
  readonly #folder = Deno.makeTempDirSync({ prefix: "tapioca_vanish_" });
  readonly path = `${this.#folder}/socket`;
  readonly #listener = UnixListener.listen(this.path);
  readonly seen: number[] = [];
  /** The mapped memory, once there is one, and where the used and available rings lie in it. */
  mapping: Mapping | null = null;
  readonly used = [0, 0];
  readonly available = [0, 0];
  socket: UnixSocket | null = null;

  /** @param patience messages that are read before it goes for the first time */
  constructor(public patience: number) {
    switches.add(this);
  }

  /** Reads all that waits, and answers what asks. */
  serve(): void {
    const accepted = this.socket ?? this.#listener.accept();
    if (typeof accepted === "number") return;
    this.socket = accepted;
    const bytes = new Uint8Array(p.HEADER + p.PAYLOAD_MAX);
    const view = new DataView(bytes.buffer);
    const fds: number[] = [];
    while (accepted.receive(bytes, 0, p.HEADER, fds) === p.HEADER) {
      const size = view.getUint32(8, true);
      if (size > 0) accepted.receive(bytes, p.HEADER, size, fds);
      const request = view.getUint32(0, true);
      this.seen.push(request);
      this.#take(request, view, fds);
      for (const fd of fds.splice(0)) new UnixSocket(fd).close();
      if (--this.patience === 0) return this.leave();
    }
  }

  #take(request: number, view: DataView, fds: number[]): void {
    if (request === p.GET_FEATURES || request === p.GET_PROTOCOL_FEATURES) {
      const answer = new Uint8Array(p.HEADER + 8);
      answer.set(new Uint8Array(view.buffer, 0, p.HEADER));
      answer[4] = 5;
      answer[8] = 8;
      new DataView(answer.buffer).setBigUint64(p.HEADER, request === p.GET_FEATURES ? OFFERED : 0n, true);
      send.call(this.socket!, answer);
    } else if (request === p.SET_MEM_TABLE) {
      this.mapping?.unmap();
      this.mapping = Mapping.map(fds[0], SHARED_BYTES);
    } else if (request === p.SET_VRING_ADDR) {
      const index = view.getUint32(p.HEADER, true);
      this.used[index] = Number(view.getBigUint64(p.HEADER + 16, true)) - BASE;
      this.available[index] = Number(view.getBigUint64(p.HEADER + 24, true)) - BASE;
    }
  }

  /** Goes away, to be there again for the next connection. */
  leave(): void {
    this.socket?.close();
    this.socket = null;
  }

  [Symbol.dispose](): void {
    switches.delete(this);
    this.leave();
    this.mapping?.unmap();
    this.#listener.close();
    Deno.removeSync(this.#folder, { recursive: true });
  }
}

const { send } = UnixSocket.prototype;
const switches = new Set<Switch>();
UnixSocket.prototype.send = function (bytes, descriptors) {
  const n = send.call(this, bytes, descriptors);
  for (const one of switches) one.serve();
  return n;
};

/** The switch goes after so many messages; the port is there all the same when it is back. */
async function comingUp(patience: number): Promise<void> {
  using there = new Switch(patience);
  using port = await VhostUserPort.open({ path: there.path });
  assertEquals(there.seen, [...REQUESTS.slice(0, patience), ...REQUESTS]);
  assertEquals([port.connected, port.fault, port.statistics().sessions], [true, null, 1]);
}

/** With a full ring the switch shows one chain that is used, and one that never was, and is gone. */
async function transmitting(): Promise<void> {
  using there = new Switch(-1);
  using port = await VhostUserPort.open({ path: there.path });
  let wakes = 0;
  port.open(() => wakes++);
  const frame = new TxFrame();
  frame.memory = new FrameMemory(2048);
  frame.reset(1000);
  frame.offset = 0;
  while (port.transmit(frame) !== EAGAIN);
  const view = new DataView(there.mapping!.bytes.buffer);
  const [, used] = there.used;
  view.setUint32(used + 4, view.getUint16(there.available[1] + 4, true), true);
  view.setUint32(used + 12, 9999, true);
  view.setUint16(used + 2, 2, true);
  there.leave();
  assertEquals([port.transmit(frame), port.transmit(frame), wakes], [EIO, EIO, 1]);
  assertEquals(port.receive({ frame: () => {} }, 10), 0);
  assertEquals([port.transmit(frame), port.connected], [ENETDOWN, false]);
  assertEquals(port.fault, "the device used chain 9999, which it didn't have");
}

if (import.meta.main) {
  for (let patience = 1; patience < REQUESTS.length; patience++) await comingUp(patience);
  console.log("while transmitting");
  await transmitting();
  console.log("done");
}
