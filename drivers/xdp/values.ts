/**
 * What a description of an XDP program works with.
 *
 * @module
 */
import type { Operand } from "./ir.ts";

/** A description that can't be a program. */
export class ProgramError extends Error {
  /** "ProgramError". */
  override name = "ProgramError";
  /** "EPROGRAM". */
  readonly code = "EPROGRAM";
}

/** A number of 32 bits, unsigned. */
export interface Value {
  /** For the builder. */
  readonly operand: Operand;
}

/** A number that can be set again. */
export interface Variable extends Value {
  /** Gives it another value. */
  set(value: Value | number): void;
}

/** A piece of the frame that is known to be there. Numbers in it are in network order; `at` counts from its beginning. */
export interface Window {
  /** A byte. */
  u8(at: number): Value;
  /** Two bytes. */
  u16(at: number): Value;
  /** Four bytes. */
  u32(at: number): Value;
  /** Writes a byte. */
  setU8(at: number, value: Value | number): void;
  /** Writes two bytes. */
  setU16(at: number, value: Value | number): void;
  /** Writes four bytes. */
  setU32(at: number, value: Value | number): void;
  /** Moves `size` bytes inside the window, as `memmove` does. */
  move(to: number, from: number, size: number): void;
}

/** The value of a map's entry. Numbers in it are little-endian, and stand at multiples of their size. */
export interface Entry {
  /** A byte. */
  u8(at: number): Value;
  /** Two bytes. */
  u16(at: number): Value;
  /** Four bytes. */
  u32(at: number): Value;
  /** Writes four bytes. */
  setU32(at: number, value: Value | number): void;
  /** Adds to a counter of 64 bits. Without loss where the entry is shared between CPUs. */
  count(at: number, by?: Value | number): void;
}

/** A piece of a key or value: little-endian `u8`, `u16`, `u32`, or `be16`, `be32` in network order. */
export type KeyPart =
  | { readonly u8: Value | number }
  | { readonly u16: Value | number }
  | { readonly u32: Value | number }
  | { readonly be16: Value | number }
  | { readonly be32: Value | number };
