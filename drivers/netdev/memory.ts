/**
 * The memory of who calls an ioctl: read and written by address, because the caller may be another process.
 *
 * @module
 */
import { EFAULT, errnoError } from "../../ffi/errno.ts";
import type { Fields, Structure, ValuesOf } from "../../ffi/structure.ts";

/** A caller's memory. Addresses are the caller's own. Both answer 0, or -EFAULT (or another negative errno) with nothing promised. */
export interface IoctlMemory {
  /** Fills `into` from the caller's memory. */
  read(address: number, into: Uint8Array<ArrayBuffer>): number;
  /** Puts `bytes` into the caller's memory. */
  write(address: number, bytes: Uint8Array<ArrayBuffer>): number;
}

/** Memory within the process that an address stands for: for callers in the process, and for tests. */
export class LocalMemory implements IoctlMemory {
  readonly #bytes: Uint8Array;
  readonly #base: number;

  /** `bytes` are what lies at address `base`; around them there is nothing. */
  constructor(bytes: Uint8Array, base = 0x1000) {
    this.#bytes = bytes;
    this.#base = base;
  }

  /** Where the memory begins: what goes into `ifr_data`. */
  get address(): number {
    return this.#base;
  }

  #inside(address: number, length: number): boolean {
    return address >= this.#base && address + length <= this.#base + this.#bytes.length;
  }

  /** See {@link IoctlMemory}. */
  read(address: number, into: Uint8Array<ArrayBuffer>): number {
    if (!this.#inside(address, into.length)) return -EFAULT;
    into.set(this.#bytes.subarray(address - this.#base, address - this.#base + into.length));
    return 0;
  }

  /** See {@link IoctlMemory}. */
  write(address: number, bytes: Uint8Array<ArrayBuffer>): number {
    if (!this.#inside(address, bytes.length)) return -EFAULT;
    this.#bytes.set(bytes, address - this.#base);
    return 0;
  }
}

/**
 * What `ifr_data` points to, as a handler gets it. A wrong pointer throws an error with the code EFAULT; left alone, it
 * becomes the caller's errno.
 */
export class IoctlData {
  /** `ifr_data` itself: an address, or whatever else the caller put there. */
  readonly address: number;
  readonly #memory: IoctlMemory | null;
  #over = false;

  /** Memory, or null when the caller has none to give, and the address in it. */
  constructor(memory: IoctlMemory | null, address: number) {
    this.#memory = memory;
    this.address = address;
  }

  /** No more reading and writing: the caller has its answer. */
  end(): void {
    this.#over = true;
  }

  #check(code: number | undefined, op: string, at: number): void {
    if (code === undefined || code < 0) throw errnoError(op, `the caller's memory at 0x${at.toString(16)}`, code ?? -EFAULT);
  }

  /** `length` bytes at `address + offset`: a copy. */
  read(length: number, offset = 0): Uint8Array<ArrayBuffer> {
    const into = new Uint8Array(length);
    const at = this.address + offset;
    this.#check(this.#over ? -EFAULT : this.#memory?.read(at, into), "read", at);
    return into;
  }

  /** Puts bytes at `address + offset`. */
  write(bytes: Uint8Array, offset = 0): void {
    const at = this.address + offset;
    this.#check(this.#over ? -EFAULT : this.#memory?.write(at, new Uint8Array(bytes)), "write", at);
  }

  /** A structure at `address + offset`. */
  get<F extends Fields>(structure: Structure<F>, offset = 0): ValuesOf<F> {
    return structure.parse(this.read(structure.size, offset));
  }

  /** Puts a structure at `address + offset`; what isn't named is zero. */
  set<F extends Fields>(structure: Structure<F>, values: Partial<ValuesOf<F>>, offset = 0): void {
    this.write(structure.make(values), offset);
  }
}
