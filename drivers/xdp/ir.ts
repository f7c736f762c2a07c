/**
 * The intermediate form of an XDP program: a tree of blocks of statements over numbered locals. Made by `ProgramBuilder`,
 * turned into a function by `program_function.ts` and into bytecode by `bpf/compile.ts`.
 *
 * Every number is an unsigned integer of 32 bits; arithmetic wraps. Division by 0 gives 0, and the remainder of a division
 * by 0 is the dividend, as in eBPF. Shift counts count modulo 32.
 *
 * @module
 */
import type { MapSpec } from "./map_kinds.ts";

/** The program failed; the frame is dropped. The five actions have the numbers of the kernel. */
export const XDP_ABORTED = 0;
/** The frame is dropped. */
export const XDP_DROP = 1;
/** The frame goes where it would go without a program. */
export const XDP_PASS = 2;
/** The frame goes out where it came in. */
export const XDP_TX = 3;
/** The frame goes where the program said. */
export const XDP_REDIRECT = 4;

/** The actions by name, in the order of their numbers. */
export const ACTION_NAMES = ["ABORTED", "DROP", "PASS", "TX", "REDIRECT"] as const;

/** The shortest frame that may be left by adjust_head and adjust_tail: the kernel's rule. */
export const FRAME_MIN = 14;
/** The largest variable offset into a frame: the verifier gives up at 65535 with what is added to it. */
export const WINDOW_OFFSET_MAX = 0x7fff;

/** Bytes of a number in a frame, key or value. */
export type Size = 1 | 2 | 4;
/** Arithmetic on 32 bits, unsigned. */
export type BinaryOperator = "add" | "sub" | "mul" | "div" | "mod" | "and" | "or" | "xor" | "shl" | "shr";
/** Unsigned; "set": a bit in common. */
export type Comparison = "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "set";
/** What a program can ask about a frame beside its bytes. */
export type Input = "ifindex" | "queue" | "length";

/** A number known when the program is written, or a local by its id. */
export type Operand = { readonly constant: number } | { readonly local: number };

/** What an `if` asks. "set" is true when both sides have a bit in common; comparisons are unsigned. */
export type Condition =
  | { readonly test: Comparison; readonly left: Operand; readonly right: Operand }
  | { readonly test: "all" | "any"; readonly of: readonly Condition[] }
  | { readonly test: "not"; readonly of: Condition };

/** A piece of a key or of a value: `big` is in network order, otherwise little-endian. */
export interface Part {
  /** Bytes. */
  readonly size: Size;
  /** In network order. */
  readonly big: boolean;
  /** The number; bits beyond the size are left out. */
  readonly value: Operand;
}

/** Statements, one after the other. */
export type Block = readonly Statement[];

/** A step of a program. */
export type Statement =
  | { readonly op: "input"; readonly to: number; readonly input: Input }
  // A variable's first value, and the later ones.
  | { readonly op: "variable"; readonly to: number; readonly from: Operand }
  | { readonly op: "set"; readonly to: number; readonly from: Operand }
  | {
    readonly op: "binary";
    readonly to: number;
    readonly operator: BinaryOperator;
    readonly left: Operand;
    readonly right: Operand;
  }
  // `to` is a pointer into the frame behind which `size` bytes are known to be.
  | { readonly op: "window"; readonly to: number; readonly offset: Operand; readonly size: number; readonly otherwise: Block }
  // `base` is a window (network order) or an entry of a map (little-endian).
  | {
    readonly op: "load";
    readonly to: number;
    readonly base: number;
    readonly at: number;
    readonly size: Size;
    readonly big: boolean;
  }
  | {
    readonly op: "store";
    readonly base: number;
    readonly at: number;
    readonly size: Size;
    readonly big: boolean;
    readonly value: Operand;
  }
  | { readonly op: "move"; readonly base: number; readonly to: number; readonly from: number; readonly size: number }
  | { readonly op: "adjust"; readonly end: "head" | "tail"; readonly delta: number; readonly otherwise: Block }
  | { readonly op: "if"; readonly condition: Condition; readonly then: Block; readonly otherwise: Block }
  | { readonly op: "loop"; readonly index: number; readonly count: number; readonly body: Block }
  | { readonly op: "break" }
  // `to` is a pointer to an entry inside `found`.
  | {
    readonly op: "lookup";
    readonly to: number;
    readonly map: number;
    readonly key: readonly Part[];
    readonly found: Block;
    readonly missing: Block;
  }
  | {
    readonly op: "update";
    readonly to: number;
    readonly map: number;
    readonly key: readonly Part[];
    readonly value: readonly Part[];
    readonly flags: number;
  }
  | { readonly op: "delete"; readonly to: number; readonly map: number; readonly key: readonly Part[] }
  // Adds to a counter of 64 bits at `at` of an entry.
  | { readonly op: "count"; readonly base: number; readonly map: number; readonly at: number; readonly by: Operand }
  | { readonly op: "return"; readonly action: number }
  | { readonly op: "redirect"; readonly ifindex: Operand }
  | { readonly op: "redirectMap"; readonly map: number; readonly key: Operand; readonly otherwise: Block }
  | { readonly op: "tailCall"; readonly map: number; readonly index: Operand };

/** What a local holds: a number, a place in the frame, or an entry of the map with that number. */
export type LocalKind = { readonly holds: "number" | "window" } | { readonly holds: "entry"; readonly map: number };

/** A whole program. */
export interface ProgramBody {
  /** In the order of their numbers. */
  readonly maps: readonly MapSpec[];
  /** By id. */
  readonly locals: readonly LocalKind[];
  /** What happens to a frame. */
  readonly block: Block;
}

/** Whether control never leaves the block at its end. */
export function ends(block: Block): boolean {
  const last = block.at(-1);
  if (last === undefined) return false;
  switch (last.op) {
    case "return":
    case "redirect":
    case "redirectMap":
    case "break":
      return true;
    case "if":
      return ends(last.then) && ends(last.otherwise);
    case "lookup":
      return ends(last.found) && ends(last.missing);
    default:
      return false;
  }
}

/** The blocks that a statement holds. */
export function blocksOf(statement: Statement): readonly Block[] {
  switch (statement.op) {
    case "window":
    case "adjust":
    case "redirectMap":
      return [statement.otherwise];
    case "if":
      return [statement.then, statement.otherwise];
    case "loop":
      return [statement.body];
    case "lookup":
      return [statement.found, statement.missing];
    default:
      return [];
  }
}
