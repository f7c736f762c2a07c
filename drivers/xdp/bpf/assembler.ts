/**
 * An assembler for eBPF: instructions of 8 bytes, jumps by label.
 *
 *      0        1        2                 4                                   8
 *     +--------+----+----+-----------------+-----------------------------------+
 *     | opcode |src |dst | offset i16      | immediate i32                     |
 *     +--------+----+----+-----------------+-----------------------------------+
 *
 * The low 3 bits of the opcode are its class. Names are those of RFC 9669.
 *
 * @module
 */

/** A register: r0 results, r1-r5 arguments (lost in a call), r6-r9 kept, r10 the frame pointer (read-only). */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;
/** Bytes of a load or store. */
export type MemorySize = 1 | 2 | 4 | 8;

/** Operations, by their bits in the opcode. */
export const ALU = {
  add: 0x00,
  sub: 0x10,
  mul: 0x20,
  div: 0x30,
  or: 0x40,
  and: 0x50,
  shl: 0x60,
  shr: 0x70,
  mod: 0x90,
  xor: 0xa0,
  mov: 0xb0,
} as const;
/** An operation on a register. */
export type AluOperation = keyof typeof ALU;

/** Comparisons, by their bits in the opcode. */
export const JUMP = { eq: 0x10, gt: 0x20, ge: 0x30, set: 0x40, ne: 0x50, lt: 0xa0, le: 0xb0 } as const;
/** A comparison that jumps when it is true; all unsigned. */
export type JumpTest = keyof typeof JUMP;

/** The helpers that we call, by the kernel's numbers. */
export const HELPER = {
  mapLookup: 1,
  mapUpdate: 2,
  mapDelete: 3,
  tailCall: 12,
  redirect: 23,
  adjustHead: 44,
  redirectMap: 51,
  adjustTail: 65,
} as const;

const CLASS_LD = 0;
const CLASS_LDX = 1;
const CLASS_ST = 2;
const CLASS_STX = 3;
const CLASS_ALU32 = 4;
const CLASS_JMP = 5;
const CLASS_JMP32 = 6;
const CLASS_ALU64 = 7;
const MODE_MEM = 0x60;
const MODE_ATOMIC = 0xc0;
const SIZES: Record<MemorySize, number> = { 4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18 };
const SOURCE_REGISTER = 8;
const DOUBLE_WORD_IMMEDIATE = 0x18;
const BYTE_SWAP = 0xd0;
const TO_BIG = 8;
const CALL = 0x80;
const EXIT = 0x90;
const PSEUDO_MAP_FD = 1;
/** Of the kernel, for a program loaded with CAP_BPF a million; ours are far smaller. */
const INSTRUCTIONS_MAX = 4096;

/** A place in the program, to jump to. */
export interface Label {
  /** The instruction's number, or -1 before it is placed. */
  at: number;
}

interface Instruction {
  opcode: number;
  destination: number;
  source: number;
  offset: number;
  immediate: number;
  /** Where it jumps to. */
  label: Label | null;
  /** Which map's descriptor goes into the immediate, or -1. */
  map: number;
}

/** An operand: a register, or a constant of 32 bits (sign-extended where the operation has 64). */
export type Source = { readonly register: Register } | { readonly immediate: number };

/** A program being assembled. */
export class Assembler {
  readonly #instructions: Instruction[] = [];

  /** How many instructions there are so far; loading a map's descriptor counts as two. */
  get length(): number {
    return this.#instructions.length;
  }

  #emit(opcode: number, destination: number, source: number, offset = 0, immediate = 0, label: Label | null = null): void {
    if (offset < -0x8000 || offset > 0x7fff) throw new RangeError(`an offset of ${offset} in an instruction`);
    if (this.#instructions.length >= INSTRUCTIONS_MAX) throw new RangeError(`more than ${INSTRUCTIONS_MAX} instructions`);
    this.#instructions.push({ opcode, destination, source, offset, immediate: immediate | 0, label, map: -1 });
  }

  #operate(kind: number, operation: number, to: Register, source: Source, label: Label | null = null): void {
    if ("register" in source) this.#emit(kind | SOURCE_REGISTER | operation, to, source.register, 0, 0, label);
    else this.#emit(kind | operation, to, 0, 0, source.immediate, label);
  }

  /** On 32 bits; the upper half of the register becomes 0. */
  alu32(operation: AluOperation, to: Register, source: Source): void {
    this.#operate(CLASS_ALU32, ALU[operation], to, source);
  }

  /** On 64 bits. */
  alu64(operation: AluOperation, to: Register, source: Source): void {
    this.#operate(CLASS_ALU64, ALU[operation], to, source);
  }

  /** All 64 bits: also of pointers. */
  move(to: Register, from: Register): void {
    if (to !== from) this.alu64("mov", to, { register: from });
  }

  /** The low `bits` in network order, the rest 0. */
  toBigEndian(to: Register, bits: 16 | 32): void {
    this.#emit(CLASS_ALU32 | BYTE_SWAP | TO_BIG, to, 0, 0, bits);
  }

  /** `to = *(from + at)`, the rest of the register 0. */
  load(size: MemorySize, to: Register, from: Register, at: number): void {
    this.#emit(CLASS_LDX | MODE_MEM | SIZES[size], to, from, at);
  }

  /** `*(base + at) = source`. */
  store(size: MemorySize, base: Register, at: number, source: Source): void {
    if ("register" in source) this.#emit(CLASS_STX | MODE_MEM | SIZES[size], base, source.register, at);
    else this.#emit(CLASS_ST | MODE_MEM | SIZES[size], base, 0, at, source.immediate);
  }

  /** `*(base + at) += register`, at once for all CPUs. */
  atomicAdd64(base: Register, at: number, from: Register): void {
    this.#emit(CLASS_STX | MODE_ATOMIC | SIZES[8], base, from, at, ALU.add);
  }

  /** The descriptor of map number `map`, put in when the program is finished. */
  loadMap(to: Register, map: number): void {
    this.#emit(CLASS_LD | DOUBLE_WORD_IMMEDIATE, to, PSEUDO_MAP_FD);
    this.#instructions[this.#instructions.length - 1].map = map;
    this.#emit(0, 0, 0);
  }

  /** A label, to be placed once. */
  label(): Label {
    return { at: -1 };
  }

  /** The next instruction is where the label's jumps go. */
  place(label: Label): void {
    if (label.at >= 0) throw new Error("a label placed twice");
    label.at = this.#instructions.length;
  }

  /** Always. */
  jump(label: Label): void {
    this.#emit(CLASS_JMP, 0, 0, 0, 0, label);
  }

  /** If the low 32 bits compare so. */
  jumpIf32(test: JumpTest, left: Register, right: Source, label: Label): void {
    this.#operate(CLASS_JMP32, JUMP[test], left, right, label);
  }

  /** If all 64 bits compare so: also for pointers, and for numbers whose bound the verifier is to learn. */
  jumpIf64(test: JumpTest, left: Register, right: Source, label: Label): void {
    this.#operate(CLASS_JMP, JUMP[test], left, right, label);
  }

  /** Calls a helper: arguments in r1-r5, which are lost; the result in r0. */
  call(helper: number): void {
    this.#emit(CLASS_JMP | CALL, 0, 0, 0, helper);
  }

  /** Ends the program with r0. */
  exit(): void {
    this.#emit(CLASS_JMP | EXIT, 0, 0);
  }

  /**
   * The finished program.
   *
   * @param descriptors of the maps, by number
   * @throws {RangeError} for a label that is not placed or too far away, or a map that isn't there
   */
  finish(descriptors: readonly number[] = []): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#instructions.length * 8);
    const view = new DataView(bytes.buffer);
    for (const [i, { opcode, destination, source, offset, immediate, label, map }] of this.#instructions.entries()) {
      let jump = offset;
      if (label !== null) {
        if (label.at < 0) throw new RangeError("a jump to a label that was not placed");
        jump = label.at - i - 1;
        if (jump < -0x8000 || jump > 0x7fff) throw new RangeError("a jump that is too far");
      }
      if (map >= 0 && descriptors[map] === undefined) throw new RangeError(`no descriptor for map ${map}`);
      view.setUint8(i * 8, opcode);
      view.setUint8(i * 8 + 1, source << 4 | destination);
      view.setInt16(i * 8 + 2, jump, true);
      view.setInt32(i * 8 + 4, map >= 0 ? descriptors[map] : immediate, true);
    }
    return bytes;
  }
}
