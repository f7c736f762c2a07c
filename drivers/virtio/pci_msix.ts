/**
 * MSI-X: interrupts that are writes to memory (PCI 3.0, 6.8.2). A table of vectors, and one bit each for those that wait
 * behind a mask.
 *
 * @module
 */
import { NO_VECTOR } from "./pci_registers.ts";
import type { RegisterFile } from "./register_file.ts";

/** Bytes of a table's entry: address low and high, data, control. */
const ENTRY_SIZE = 16;
/** Entry control: masked. */
const MASKED = 1;
/** Message control: all are masked. */
const CONTROL_MASK_ALL = 0x4000;
/** Message control: in use. */
const CONTROL_ENABLE = 0x8000;
/** Where the pending bits lie in the BAR. */
export const MSIX_PENDING = 0x800;
/** Most vectors that fit before them. */
export const MSIX_VECTORS_MAX: number = MSIX_PENDING / ENTRY_SIZE;

/** The table and the pending bits, as one BAR. */
export class MsixTable implements RegisterFile {
  readonly #words: Uint32Array;
  readonly #pending: Uint8Array;
  readonly #send: (address: number, data: number) => void;
  #control = 0;

  /** @param send writes a message: an address of 64 bits, and data */
  constructor(readonly vectors: number, send: (address: number, data: number) => void) {
    this.#words = new Uint32Array(4 * vectors);
    this.#pending = new Uint8Array(vectors);
    this.#send = send;
    for (let i = 0; i < vectors; i++) this.#words[4 * i + 3] = MASKED;
  }

  /** True if messages are sent, and no line is used. */
  get enabled(): boolean {
    return (this.#control & CONTROL_ENABLE) !== 0;
  }

  /** The message control register. */
  get control(): number {
    return this.#control | (this.vectors - 1);
  }

  set control(value: number) {
    this.#control = value & (CONTROL_ENABLE | CONTROL_MASK_ALL);
    for (let i = 0; i < this.vectors; i++) this.#release(i);
  }

  /** Sends the message of a vector, now or when its mask is taken away. */
  raise(vector: number): void {
    if (vector === NO_VECTOR || vector >= this.vectors) return;
    this.#pending[vector] = 1;
    this.#release(vector);
  }

  #release(vector: number): void {
    const open = this.enabled && (this.#control & CONTROL_MASK_ALL) === 0;
    if (!open || this.#pending[vector] === 0 || (this.#words[4 * vector + 3] & MASKED) !== 0) return;
    this.#pending[vector] = 0;
    this.#send(this.#words[4 * vector + 1] * 0x1_0000_0000 + this.#words[4 * vector], this.#words[4 * vector + 2]);
  }

  read(offset: number, size: number): number {
    if (size !== 4 || offset % 4 !== 0 || offset < 0) return 0;
    if (offset < ENTRY_SIZE * this.vectors) return this.#words[offset / 4];
    let bits = 0;
    if (offset >= MSIX_PENDING) {
      const first = 8 * (offset - MSIX_PENDING);
      for (let i = 0; i < 32; i++) bits |= (this.#pending[first + i] ?? 0) << i;
    }
    return bits >>> 0;
  }

  write(offset: number, size: number, value: number): void {
    if (size !== 4 || offset % 4 !== 0 || offset < 0 || offset >= ENTRY_SIZE * this.vectors) return;
    // Of the control only the mask is a bit; an address is aligned to words.
    this.#words[offset / 4] = offset % ENTRY_SIZE === 12 ? value & MASKED : offset % ENTRY_SIZE === 0 ? value & ~3 : value;
    if (offset % ENTRY_SIZE === 12) this.#release(offset >>> 4);
  }
}
