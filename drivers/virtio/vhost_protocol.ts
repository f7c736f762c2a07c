/**
 * The vhost-user protocol: messages over a unix socket, with descriptors beside them. Names and numbers are those of QEMU's
 * docs/interop/vhost-user.rst.
 *
 *      0         4         8         12
 *     +---------+---------+---------+------------- - -
 *     | request | flags   | size    | payload
 *     +---------+---------+---------+------------- - -
 *
 * @module
 */
import { libc } from "../../ffi/libc.ts";
import { createWaker, type Hold, type Waker } from "../../ffi/poll.ts";
import { again, DESCRIPTORS_MAX, type UnixSocket } from "../../ffi/unix_socket.ts";

export const GET_FEATURES = 1;
export const SET_FEATURES = 2;
export const SET_OWNER = 3;
export const RESET_OWNER = 4;
export const SET_MEM_TABLE = 5;
export const SET_VRING_NUM = 8;
export const SET_VRING_ADDR = 9;
export const SET_VRING_BASE = 10;
export const GET_VRING_BASE = 11;
export const SET_VRING_KICK = 12;
export const SET_VRING_CALL = 13;
export const SET_VRING_ERR = 14;
export const GET_PROTOCOL_FEATURES = 15;
export const SET_PROTOCOL_FEATURES = 16;
export const GET_QUEUE_NUM = 17;
export const SET_VRING_ENABLE = 18;
export const SEND_RARP = 19;
export const NET_SET_MTU = 20;
export const RESET_DEVICE = 34;
export const GET_MAX_MEM_SLOTS = 36;
export const ADD_MEM_REG = 37;
export const REM_MEM_REG = 38;
export const SET_STATUS = 39;
export const GET_STATUS = 40;

export const PROTOCOL_F_MQ = 1n << 0n;
export const PROTOCOL_F_RARP = 1n << 2n;
export const PROTOCOL_F_REPLY_ACK = 1n << 3n;
export const PROTOCOL_F_NET_MTU = 1n << 4n;
export const PROTOCOL_F_RESET_DEVICE = 1n << 13n;
export const PROTOCOL_F_CONFIGURE_MEM_SLOTS = 1n << 15n;
export const PROTOCOL_F_STATUS = 1n << 16n;

const VERSION = 1;
const FLAG_REPLY = 4;
const FLAG_NEED_REPLY = 8;
export const HEADER = 12;
/** Most bytes of a payload; the largest that is defined has 8 regions of 32 bytes. */
export const PAYLOAD_MAX = 1024;
/** Reads in a row, two a message: a peer that never stops talking isn't all there is in an event loop. */
const RECEIVES_MAX = 128;
/** Descriptor of a vring message: index in the low byte, and whether there is none. */
export const VRING_INDEX = 0xff;
export const VRING_NO_FD = 0x100;

/** One message as it came; valid during the call only. Whoever takes a descriptor out of `descriptors` owns it. */
export interface VhostMessage {
  readonly request: number;
  /** The sender wants to know how it went. */
  readonly needReply: boolean;
  readonly reply: boolean;
  readonly size: number;
  readonly payload: DataView<ArrayBuffer>;
  readonly descriptors: number[];
}

/** Told of what comes over a channel. */
export interface ChannelHandler {
  message(message: VhostMessage): void;
  /** The other side has gone (null), or broke the protocol. Called once, never from inside `send`, and not after `close`. */
  ended(reason: string | null): void;
}

/** Sends and receives whole messages. */
export class VhostChannel {
  readonly #socket: UnixSocket;
  readonly #handler: ChannelHandler;
  readonly #waker: Waker;
  readonly #bytes = new Uint8Array(HEADER + PAYLOAD_MAX);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #payload = new DataView(this.#bytes.buffer, HEADER);
  #descriptors: number[] = [];
  #have = 0;
  #broken: string | null = null;
  #closed = false;

  constructor(socket: UnixSocket, handler: ChannelHandler, hold: Hold) {
    this.#socket = socket;
    this.#handler = handler;
    this.#waker = createWaker(socket.fd, () => this.#ready(), hold);
    this.#waker.arm();
  }

  #ready(): void {
    for (let calls = 0; !this.#closed && this.#broken === null; calls++) {
      if (calls === RECEIVES_MAX) return this.#waker.arm();
      const need = this.#have < HEADER ? HEADER : HEADER + this.#view.getUint32(8, true);
      const n = this.#socket.receive(this.#bytes, this.#have, need - this.#have, this.#descriptors);
      if (again(n)) return this.#waker.arm();
      if (n <= 0) return this.#end(n === 0 && this.#have === 0 ? null : "the other side stopped in the middle of a message");
      if (this.#descriptors.length > DESCRIPTORS_MAX) return this.#end(`more than ${DESCRIPTORS_MAX} descriptors in a message`);
      this.#have += n;
      if (this.#have < need) continue;
      const size = this.#view.getUint32(8, true);
      const flags = this.#view.getUint32(4, true);
      if (size > PAYLOAD_MAX) return this.#end(`a message of ${size} bytes`);
      if ((flags & 3) !== VERSION) return this.#end(`protocol version ${flags & 3}`);
      if (this.#have < HEADER + size) continue;
      this.#have = 0;
      this.#give(size, flags);
    }
  }

  #give(size: number, flags: number): void {
    const descriptors = this.#descriptors;
    this.#descriptors = [];
    this.#handler.message({
      request: this.#view.getUint32(0, true),
      needReply: (flags & FLAG_NEED_REPLY) !== 0,
      reply: (flags & FLAG_REPLY) !== 0,
      size,
      payload: this.#payload,
      descriptors,
    });
    // What nobody took is not wanted.
    closeAll(descriptors);
  }

  /** Why nothing is sent any more, or null. The handler is told, or will be in a moment. */
  get broken(): string | null {
    return this.#broken;
  }

  /** Sends a message. A peer that takes none any more has broken the protocol: see {@link fail}. */
  send(request: number, payload: Uint8Array, descriptors: readonly number[] = [], reply = false, needReply = false): void {
    if (this.#closed || this.#broken !== null) return;
    const bytes = new Uint8Array(HEADER + payload.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, request, true);
    view.setUint32(4, VERSION | (reply ? FLAG_REPLY : 0) | (needReply ? FLAG_NEED_REPLY : 0), true);
    view.setUint32(8, payload.length, true);
    bytes.set(payload, HEADER);
    if (this.#socket.send(bytes, descriptors) !== bytes.length) this.fail("the other side reads no messages");
  }

  /**
   * Gives the connection up, in a moment: whoever sends may be in the midst of memory that the end of the connection takes away.
   * Nothing is sent from now on.
   */
  fail(reason: string): void {
    if (this.#closed || this.#broken !== null) return;
    this.#broken = reason;
    queueMicrotask(() => this.#end(reason));
  }

  #end(reason: string | null): void {
    if (this.#closed) return;
    this.close();
    this.#handler.ended(reason);
  }

  /** Ends it. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waker.close();
    this.#socket.close();
    closeAll(this.#descriptors);
  }
}

function closeAll(descriptors: number[]): void {
  for (const fd of descriptors.splice(0)) libc().close(fd);
}

/** A payload of 64-bit numbers. */
export function words(...values: bigint[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8 * values.length);
  values.forEach((value, i) => new DataView(bytes.buffer).setBigUint64(8 * i, value, true));
  return bytes;
}

/** A payload of two 32-bit numbers: a vring's index and what is said of it. */
export function vringState(index: number, value: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, index, true);
  new DataView(bytes.buffer).setUint32(4, value >>> 0, true);
  return bytes;
}
