/**
 * The memory behind a request: that of a supervised program, or bytes of this process for a request made in it.
 *
 * @module
 */
import { EFAULT, EMSGSIZE } from "../../ffi/errno.ts";
import { readProcess, readProcessText, TRANSFER_MAX, writeProcess } from "../../ffi/process_memory.ts";
import type { NotificationListener } from "../../ffi/seccomp.ts";
import { badAddress, IoctlError, type IoctlMemory } from "./device.ts";
import type { Structure } from "./structure.ts";

/** Whose memory: a call that waits. */
export interface Caller {
  readonly listener: NotificationListener;
  readonly id: bigint;
  readonly tid: number;
  /** Set when the call has been answered: from then on its memory is no longer ours to touch. */
  over: boolean;
}

/** Memory of a caller who waits for our answer. */
export class CallerMemory implements IoctlMemory {
  readonly #caller: Caller;
  readonly address: number;

  constructor(caller: Caller, address: number) {
    this.#caller = caller;
    this.address = address;
  }

  /** Refuses before anything is touched: an id that ended may be a stranger's by now. */
  #check(length: number): void {
    if (length > TRANSFER_MAX) throw new IoctlError(EMSGSIZE, `${length} bytes of a caller's memory, at most ${TRANSFER_MAX}`);
    if (this.#caller.over || !this.#caller.listener.isValid(this.#caller.id)) {
      throw new IoctlError(EFAULT, "the request has ended, and its memory is out of reach");
    }
  }

  #place(offset: number): number {
    return this.address + offset;
  }

  read(length: number, offset = 0): Uint8Array<ArrayBuffer> {
    this.#check(length);
    const bytes = new Uint8Array(length);
    if (readProcess(this.#caller.tid, this.#place(offset), bytes) < 0) throw badAddress();
    this.#check(0); // what was read is the caller's only if it still waits
    return bytes;
  }

  write(bytes: Uint8Array, offset = 0): void {
    this.#check(bytes.length);
    const own = bytes.buffer instanceof ArrayBuffer ? bytes as Uint8Array<ArrayBuffer> : new Uint8Array(bytes);
    if (writeProcess(this.#caller.tid, this.#place(offset), own) < 0) throw badAddress();
    this.#check(0);
  }

  get<T>(structure: Structure<T>, offset = 0): T {
    return structure.parse(this.read(structure.size, offset));
  }

  set<T>(structure: Structure<T>, value: Partial<T>, offset = 0): void {
    this.write(structure.emit(value), offset);
  }

  text(max: number, offset = 0): string {
    this.#check(max);
    const bytes = readProcessText(this.#caller.tid, this.#place(offset), max);
    if (typeof bytes === "number") throw bytes === -EMSGSIZE ? new IoctlError(EMSGSIZE) : badAddress();
    this.#check(0);
    return new TextDecoder().decode(bytes);
  }

  at(address: number | bigint): IoctlMemory {
    return new CallerMemory(this.#caller, Number(address));
  }
}

/**
 * Bytes of this process as a request's memory, at the address 0x1000: for a device that is asked without a kernel between.
 * Pointers inside it are offsets of the same bytes, from that address.
 */
export class BytesMemory implements IoctlMemory {
  static readonly #BASE = 0x1000;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly address: number;

  /** @param bytes what the device reads and writes, in place */
  constructor(bytes: Uint8Array<ArrayBuffer>, address: number = BytesMemory.#BASE) {
    this.#bytes = bytes;
    this.address = address;
  }

  #window(length: number, offset: number): Uint8Array<ArrayBuffer> {
    const at = this.address - BytesMemory.#BASE + offset;
    if (!(Number.isSafeInteger(at) && at >= 0 && length >= 0 && at + length <= this.#bytes.length)) throw badAddress();
    return this.#bytes.subarray(at, at + length);
  }

  /** As {@link IoctlMemory.read}. */
  read(length: number, offset = 0): Uint8Array<ArrayBuffer> {
    return this.#window(length, offset).slice();
  }

  /** As {@link IoctlMemory.write}. */
  write(bytes: Uint8Array, offset = 0): void {
    this.#window(bytes.length, offset).set(bytes);
  }

  /** As {@link IoctlMemory.get}. */
  get<T>(structure: Structure<T>, offset = 0): T {
    return structure.parse(this.read(structure.size, offset));
  }

  /** As {@link IoctlMemory.set}. */
  set<T>(structure: Structure<T>, value: Partial<T>, offset = 0): void {
    this.write(structure.emit(value), offset);
  }

  /** As {@link IoctlMemory.text}. */
  text(max: number, offset = 0): string {
    const at = this.address - BytesMemory.#BASE + offset;
    const rest = this.#window(Math.min(max, Math.max(0, this.#bytes.length - at)), offset);
    const end = rest.indexOf(0);
    if (end < 0) throw rest.length < max ? badAddress() : new IoctlError(EMSGSIZE);
    return new TextDecoder().decode(rest.slice(0, end));
  }

  /** As {@link IoctlMemory.at}. */
  at(address: number | bigint): IoctlMemory {
    return new BytesMemory(this.#bytes, Number(address));
  }
}
