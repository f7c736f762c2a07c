/**
 * Memory that frames of AF_XDP sockets live in, as chunks. Sockets that share one hand frames over to each other without moving
 * a byte.
 *
 * @module
 */
import { errnoError } from "../ffi/errno.ts";
import { addressOf } from "../ffi/libc.ts";
import { createSharedMemory, Mapping } from "../ffi/shared_memory.ts";
import type { XdpSocket } from "../ffi/af_xdp.ts";
import { FrameMemory, NO_MEMORY } from "../stack/device.ts";

/** Bytes of a chunk: a frame of 1,500 bytes, its link header, and the kernel's headroom. */
export const CHUNK_SIZE = 2048;
/** Chunks at most: 1 GiB. */
const CHUNKS_MAX = 1 << 19;

/** Options of `new Umem`. */
export interface UmemOptions {
  /** Chunks of 2048 bytes, a power of two from 64 on. Default 4096 (8 MiB, an ordinary user's limit of locked memory). */
  chunks?: number;
}

/** The chunks, as sockets use them. */
export class UmemChunks {
  /** Chunks there are. */
  readonly chunks: number;
  /** All chunks, one after the other. */
  memory: FrameMemory;
  /** The chunk of the frame that is being received, until somebody sends it on: then -1, and its place is the sender's. */
  held: number = -1;
  readonly #sockets = new Map<number, XdpSocket>();
  readonly #mapping: Mapping;
  readonly #free: Int32Array;
  /** Who has a chunk: the number of a socket, 0 for nobody. */
  readonly #users: Int32Array;
  #count: number;
  #lastUser = 0;

  /** Takes the memory. @throws {RangeError} for a number of chunks that can't be; `OutOfMemory` (ENOMEM) */
  constructor(options: UmemOptions = {}) {
    const { chunks = 4096 } = options;
    if (!(Number.isInteger(chunks) && chunks >= 64 && chunks <= CHUNKS_MAX && (chunks & (chunks - 1)) === 0)) {
      throw new RangeError(`chunks must be a power of two, 64 to ${CHUNKS_MAX}: ${chunks}`);
    }
    this.chunks = chunks;
    using shared = createSharedMemory("tapioca-umem", chunks * CHUNK_SIZE);
    this.#mapping = Mapping.map(shared.fd, chunks * CHUNK_SIZE);
    this.memory = new FrameMemory(this.#mapping.bytes);
    this.memory.address = addressOf(this.#mapping.bytes);
    this.#free = Int32Array.from({ length: chunks }, (_, i) => (chunks - 1 - i) * CHUNK_SIZE);
    this.#users = new Int32Array(chunks);
    this.#count = chunks;
  }

  /** Chunks that nobody uses. */
  get free(): number {
    return this.#count;
  }

  /** A chunk for a socket: its offset, or -1. */
  take(user: number): number {
    if (this.#count === 0) return -1;
    const chunk = this.#free[--this.#count];
    this.#users[chunk / CHUNK_SIZE] = user;
    return chunk;
  }

  /** Gives back the chunk that an address lies in. */
  release(address: number): void {
    const chunk = address & -CHUNK_SIZE;
    this.#users[chunk / CHUNK_SIZE] = 0;
    this.#free[this.#count++] = chunk;
  }

  /** The frame that is being received becomes the socket's that sends it. */
  move(user: number): void {
    this.#users[this.held / CHUNK_SIZE] = user;
    this.held = -1;
  }

  /**
   * A socket begins to use it; the first one registers it.
   *
   * @returns the socket's number
   * @throws what registering says
   */
  join(socket: XdpSocket): number {
    if (this.memory === NO_MEMORY) throw new Deno.errors.BadResource("The memory was given back with its last socket");
    if (this.#sockets.size === 0) {
      const code = socket.registerUmem(this.memory.address, this.chunks * CHUNK_SIZE, CHUNK_SIZE);
      if (code < 0) {
        const hint = "Memory that sockets share is locked: raise the limit (`ulimit -l`), or ask for fewer chunks";
        throw errnoError("register", "memory for an AF_XDP socket", code, hint);
      }
    }
    this.#sockets.set(++this.#lastUser, socket);
    return this.#lastUser;
  }

  /** A socket, bound already, that another one can share the memory with: its descriptor, or -1 for the first. */
  partner(user: number): number {
    for (const [other, socket] of this.#sockets) if (other !== user) return socket.fd;
    return -1;
  }

  /** A socket is closed: what it had is free. The memory goes with the last one. */
  leave(user: number): void {
    this.#sockets.delete(user);
    if (this.#sockets.size === 0) return this.close();
    for (const [i, by] of this.#users.entries()) if (by === user) this.release(i * CHUNK_SIZE);
  }

  /** Gives the memory back, if no socket has it: else it goes with the last. A second call does nothing. */
  close(): void {
    if (this.#sockets.size > 0) return;
    this.memory = NO_MEMORY;
    this.#mapping.unmap();
  }
}

let chunksOf: (umem: Umem) => UmemChunks;

/**
 * Memory that AF_XDP devices share, so that frames go from one to another without being copied. It lives until the last of its
 * devices is closed; without one, until it is closed itself.
 *
 * ```ts ignore
 * const umem = new Umem({ chunks: 8192 });
 * const [left, right] = ["eth1", "eth2"].map((name) => AfXdpDevice.open({ name, umem }));
 * ```
 */
export class Umem implements Disposable {
  readonly #chunks: UmemChunks;

  static {
    chunksOf = (umem) => umem.#chunks;
  }

  /** Takes the memory. @throws {RangeError} for a number of chunks that can't be; {Error} (ENOMEM) */
  constructor(options: UmemOptions = {}) {
    this.#chunks = new UmemChunks(options);
  }

  /** Chunks there are: each holds a frame. */
  get chunks(): number {
    return this.#chunks.chunks;
  }

  /** Chunks that nobody uses: neither the kernel nor a device. */
  get free(): number {
    return this.#chunks.free;
  }

  /** Gives the memory back, if no device has it: else it goes with the last. A second call does nothing. */
  close(): void {
    this.#chunks.close();
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** What a socket works with. */
export function umemChunks(umem: Umem): UmemChunks {
  return chunksOf(umem);
}
