/**
 * A vhost-user front end that says what a test wants it to say.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { createEvent } from "../../../ffi/eventfd.ts";
import { createSharedMemory, Mapping } from "../../../ffi/shared_memory.ts";
import { libc } from "../../../ffi/libc.ts";
import { UnixSocket } from "../../../ffi/unix_socket.ts";
import { FEATURES } from "../../../drivers/virtio/features.ts";
import { VhostUserDevice } from "../../../drivers/virtio/vhost_back_end.ts";
import * as p from "../../../drivers/virtio/vhost_protocol.ts";

// Loaded before any test, so that none is said to have left it open.
libc();

/** Bytes of the peer's memory, and where it lies for the guest and for its own process. */
export const MEMORY = 64 * 1024;
export const GUEST = 0x4000_0000;
export const USER = 0x7f00_0000_0000;
/** Where a ring of 8 lies: descriptors, then available, then used. */
export const ringAt = (index: number) => 8192 * index;
const RING_SIZE = 8;

/** A few turns of the event loop, so that the other side has had its say. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 6; i++) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** A device that listens, and a peer that has connected to it. */
export class VhostPeer implements Disposable {
  readonly device: VhostUserDevice;
  readonly socket: UnixSocket;
  readonly memory = createSharedMemory("peer", MEMORY);
  readonly mapping = Mapping.map(this.memory.fd, MEMORY);
  readonly view = new DataView(this.mapping.bytes.buffer);
  readonly events = Array.from({ length: 6 }, () => createEvent());
  readonly #folder = Deno.makeTempDirSync({ prefix: "tapioca_vhost_" });

  readonly path = `${this.#folder}/socket`;

  constructor() {
    this.device = VhostUserDevice.open({ path: this.path, name: "vhost9" });
    this.socket = UnixSocket.connect(this.path);
  }

  /** Sends a message as it is. */
  send(request: number, payload: Uint8Array, descriptors: number[] = [], flags = 1): number {
    const bytes = new Uint8Array(p.HEADER + payload.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, request, true);
    view.setUint32(4, flags, true);
    view.setUint32(8, payload.length, true);
    bytes.set(payload, p.HEADER);
    return this.socket.send(bytes, descriptors);
  }

  /** Sends a message and waits for the acknowledgement: 0n for good. Null if the connection has ended. */
  async ask(request: number, payload: Uint8Array, descriptors: number[] = []): Promise<bigint | null> {
    this.send(request, payload, descriptors, 1 | 8);
    const bytes = new Uint8Array(p.HEADER + 8);
    for (let tries = 0; tries < 2000; tries++) {
      const n = this.socket.receive(bytes, 0, bytes.length, []);
      if (n === bytes.length) {
        const view = new DataView(bytes.buffer);
        assertEquals(view.getUint32(0, true), request);
        return view.getBigUint64(p.HEADER, true);
      }
      if (n === 0 || n === -104) return null;
      assert(n < 0, "part of a message");
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    throw new Error(`no answer to ${request}`);
  }

  /** Features, and memory of one region. */
  async begin(): Promise<void> {
    assertEquals(
      await this.#all([
        [p.SET_PROTOCOL_FEATURES, p.words(p.PROTOCOL_F_REPLY_ACK | p.PROTOCOL_F_CONFIGURE_MEM_SLOTS)],
        [p.SET_FEATURES, p.words(FEATURES.VERSION_1 | FEATURES.VHOST_PROTOCOL)],
        [p.SET_MEM_TABLE, p.words(1n, BigInt(GUEST), BigInt(MEMORY), BigInt(USER), 0n), [this.memory.fd]],
      ]),
      [0n, 0n, 0n],
    );
  }

  /** A ring's messages. */
  async ring(index: number): Promise<void> {
    const at = BigInt(USER + ringAt(index));
    assertEquals(
      await this.#all([
        [p.SET_VRING_NUM, p.vringState(index, RING_SIZE)],
        [p.SET_VRING_BASE, p.vringState(index, 0)],
        [p.SET_VRING_ADDR, p.words(BigInt(index), at, at + 2048n, at + 1024n, 0n)],
        [p.SET_VRING_CALL, p.words(BigInt(index)), [this.events[2 + index].fd]],
        [p.SET_VRING_ERR, p.words(BigInt(index)), [this.events[4 + index].fd]],
        [p.SET_VRING_KICK, p.words(BigInt(index)), [this.events[index].fd]],
        [p.SET_VRING_ENABLE, p.vringState(index, 1)],
      ]),
      [0n, 0n, 0n, 0n, 0n, 0n, 0n],
    );
  }

  async #all(messages: [number, Uint8Array, number[]?][]): Promise<(bigint | null)[]> {
    const answers: (bigint | null)[] = [];
    for (const [request, payload, descriptors] of messages) answers.push(await this.ask(request, payload, descriptors));
    return answers;
  }

  /** Ends both. */
  [Symbol.dispose](): void {
    this.socket.close();
    this.device.close();
    this.mapping.unmap();
    this.memory.close();
    this.events.forEach((event) => event.close());
    Deno.removeSync(this.#folder, { recursive: true });
  }
}

/** Descriptors that this process has open. */
export function openDescriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}
