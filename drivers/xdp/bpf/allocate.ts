/**
 * Where a program's locals live: registers by linear scan over the tree, in the order in which it runs, and the stack for the rest.
 *
 * A statement has two positions, 2p and 2p + 1. What it reads is read at 2p, and at 2p its result may already be written, so that
 * `a = a + b` needs one register; what must outlast the writing of the result (the right side) is read at 2p + 1. A call is at
 * 2p, and its result comes at 2p + 1.
 *
 * @module
 */
import { type Block, blocksOf, type Condition, type Operand, type Part, type Statement } from "../ir.ts";
import type { Register } from "./assembler.ts";

/** A register, or a place on the stack: the number of a slot of 8 bytes. */
export type Location = { readonly register: Register } | { readonly slot: number };

/** Where each local lives, by id, and how many slots of the stack that takes. */
export interface Allocation {
  /** By id. */
  readonly locations: readonly Location[];
  /** Of 8 bytes each. */
  readonly slots: number;
}

/** Lost in a call. r0, r1 and r2 are for the compiler's own steps. */
const TEMPORARY: readonly Register[] = [3, 4, 5];
/** Kept over a call. r6 is the context. */
const KEPT: readonly Register[] = [7, 8, 9];

interface Interval {
  readonly id: number;
  from: number;
  /** Positions of uses, and of the ends of loops that it must outlast. */
  readonly uses: number[];
}

interface Call {
  readonly at: number;
  /** After the call, control doesn't get beyond this position: the end of a block that ends with an action. */
  readonly limit: number;
}

/** Whether some way through a block leaves a loop around it. */
function breaksOut(block: Block): boolean {
  return block.some((statement) => statement.op === "break" || (statement.op !== "loop" && blocksOf(statement).some(breaksOut)));
}

/** Whether a block ends with the end of the program. A break ends the block only. */
function finishes(block: Block): boolean {
  const last = block.at(-1);
  switch (last?.op) {
    case "return":
    case "redirect":
      return true;
    case "redirectMap":
      return finishes(last.otherwise);
    case "if":
      return finishes(last.then) && finishes(last.otherwise);
    case "lookup":
      return finishes(last.found) && finishes(last.missing);
    default:
      return false;
  }
}

function* operandsOf(condition: Condition): Generator<Operand> {
  if ("left" in condition) yield* [condition.left, condition.right];
  else if (condition.test === "not") yield* operandsOf(condition.of);
  else for (const one of condition.of) yield* operandsOf(one);
}

/** Walks a program once and notes where locals begin and are used, and where calls are. */
class Scan {
  readonly intervals = new Map<number, Interval>();
  readonly calls: Call[] = [];
  #position = 0;

  block(block: Block): void {
    const before = this.calls.length;
    for (const statement of block) {
      this.#position += 2;
      this.#statement(statement, this.#position);
    }
    if (!finishes(block) || breaksOut(block)) return;
    // Only now is it known where the block ends; inner blocks have set limits of their own, which are lower.
    const limit = this.#position + 1;
    for (let i = before; i < this.calls.length; i++) {
      if (this.calls[i].limit === Infinity) this.calls[i] = { at: this.calls[i].at, limit };
    }
  }

  #begin(id: number, at: number): void {
    this.intervals.set(id, { id, from: at, uses: [] });
  }

  #useLocal(id: number, at: number): void {
    this.intervals.get(id)?.uses.push(at);
  }

  #use(operand: Operand, at: number): void {
    if ("local" in operand) this.#useLocal(operand.local, at);
  }

  #useParts(parts: readonly Part[], at: number): void {
    for (const { value } of parts) this.#use(value, at);
  }

  #call(at: number): void {
    this.calls.push({ at, limit: Infinity });
  }

  #blocks(statement: Statement): void {
    for (const block of blocksOf(statement)) this.block(block);
  }

  #loop(statement: Statement & { op: "loop" }, at: number): void {
    this.#begin(statement.index, at);
    const older = [...this.intervals.values()].map((interval) => ({ interval, used: interval.uses.length }));
    this.block(statement.body);
    this.#position += 2;
    // What was made before the loop and is used in it is wanted again in the next round.
    for (const { interval, used } of older) {
      if (interval.uses.length > used || interval.id === statement.index) interval.uses.push(this.#position);
    }
  }

  #statement(statement: Statement, at: number): void {
    switch (statement.op) {
      case "input":
        return this.#begin(statement.to, at);
      case "variable":
        this.#use(statement.from, at);
        return this.#begin(statement.to, at);
      case "set":
        this.#use(statement.from, at);
        return this.#useLocal(statement.to, at + 1);
      case "binary":
        this.#use(statement.left, at);
        this.#use(statement.right, at + 1);
        return this.#begin(statement.to, at);
      case "window":
        this.#use(statement.offset, at);
        this.#blocks(statement);
        return this.#begin(statement.to, at);
      case "load":
        this.#useLocal(statement.base, at);
        return this.#begin(statement.to, at);
      case "store":
        this.#use(statement.value, at);
        return this.#useLocal(statement.base, at);
      case "count":
        this.#use(statement.by, at);
        return this.#useLocal(statement.base, at);
      case "move":
        return this.#useLocal(statement.base, at);
      case "if":
        for (const operand of operandsOf(statement.condition)) this.#use(operand, at);
        return this.#blocks(statement);
      case "loop":
        return this.#loop(statement, at);
      case "adjust":
        this.#call(at);
        return this.#blocks(statement);
      case "lookup":
        this.#useParts(statement.key, at);
        this.#call(at);
        this.#begin(statement.to, at + 1);
        return this.#blocks(statement);
      case "update":
        this.#useParts(statement.value, at);
        // falls through
      case "delete":
        this.#useParts(statement.key, at);
        this.#call(at);
        return this.#begin(statement.to, at + 1);
      case "redirect":
        this.#use(statement.ifindex, at);
        return this.#call(at);
      case "redirectMap":
        this.#use(statement.key, at);
        this.#call(at);
        return this.#blocks(statement);
      case "tailCall":
        this.#use(statement.index, at);
        return this.#call(at);
    }
  }
}

function crossesCall(interval: Interval, calls: readonly Call[]): boolean {
  return calls.some(({ at, limit }) => interval.from < at && interval.uses.some((use) => use > at && use <= limit));
}

/** Finds a place for every local of a program. */
export function allocate(block: Block, locals: number): Allocation {
  const scan = new Scan();
  scan.block(block);
  const locations = new Array<Location>(locals).fill({ slot: 0 });
  // Until which position a place is taken.
  const registers = new Map<Register, number>([...TEMPORARY, ...KEPT].map((register) => [register, -1]));
  const slots: number[] = [];
  for (const interval of [...scan.intervals.values()].sort((a, b) => a.from - b.from)) {
    const end = Math.max(interval.from, ...interval.uses);
    const possible = crossesCall(interval, scan.calls) ? KEPT : [...TEMPORARY, ...KEPT];
    const register = possible.find((register) => registers.get(register)! <= interval.from);
    if (register !== undefined) {
      registers.set(register, end);
      locations[interval.id] = { register };
      continue;
    }
    const free = slots.findIndex((until) => until <= interval.from);
    const slot = free < 0 ? slots.length : free;
    slots[slot] = end;
    locations[interval.id] = { slot };
  }
  return { locations, slots: slots.length };
}
