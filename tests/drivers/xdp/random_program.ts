/**
 * Random programs of the subset, for comparing what is made of them. Everything that a program can do is in them somewhere.
 *
 * @module
 */
import type { MapSpec } from "../../../drivers/xdp/map_kinds.ts";
import {
  defineProgram,
  type Entry,
  type KeyPart,
  type ProgramBuilder,
  type Value,
  type Variable,
  type Window,
  type XdpProgram,
} from "../../../drivers/xdp/program.ts";

export const TABLE: MapSpec = { name: "table", kind: "array", keySize: 4, valueSize: 16, maxEntries: 4 };
export const HASH: MapSpec = { name: "hash", kind: "hash", keySize: 8, valueSize: 16, maxEntries: 6 };
export const COUNTS: MapSpec = { name: "counts", kind: "percpu_array", keySize: 4, valueSize: 8, maxEntries: 4 };
export const TARGETS: MapSpec = { name: "targets", kind: "devmap", keySize: 4, valueSize: 4, maxEntries: 4 };
export const MORE_TARGETS: MapSpec = { name: "more_targets", kind: "devmap_hash", keySize: 4, valueSize: 4, maxEntries: 4 };

type Condition = Parameters<ProgramBuilder["if"]>[0];

/** What can be used in a block, and in those inside it. */
interface Scope {
  values: Value[];
  variables: Variable[];
  windows: [Window, number][];
  entries: Entry[];
  loop: boolean;
  depth: number;
}

const NASTY = [0, 1, 2, 3, 7, 8, 31, 32, 33, 255, 256, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

class Author {
  readonly #p: ProgramBuilder;
  readonly #random: () => number;
  #left: number;

  constructor(p: ProgramBuilder, random: () => number) {
    this.#p = p;
    this.#random = random;
    this.#left = 10 + random() % 60;
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#random() % list.length];
  }

  #operand(scope: Scope): Value | number {
    const known = scope.values.length + scope.variables.length;
    if (known === 0 || this.#random() % 4 === 0) {
      return this.#random() % 2 === 0 ? this.#pick(NASTY) : this.#random();
    }
    return this.#pick([...scope.values, ...scope.variables]);
  }

  #small(scope: Scope, mask: number): Value {
    return this.#p.and(this.#operand(scope), mask);
  }

  #condition(scope: Scope, depth = 0): Condition {
    const p = this.#p;
    const kind = depth < 2 ? this.#random() % 10 : 9;
    if (kind === 0) return p.not(this.#condition(scope, depth + 1));
    if (kind === 1) {
      return p.all(this.#condition(scope, depth + 1), this.#condition(scope, depth + 1), this.#condition(scope, depth + 1));
    }
    if (kind === 2) return p.any(this.#condition(scope, depth + 1), this.#condition(scope, depth + 1));
    const compare = this.#pick([p.eq, p.ne, p.lt, p.le, p.gt, p.ge, p.hasBits]);
    return compare(this.#operand(scope), this.#operand(scope));
  }

  /** An inner block: what it makes is gone at its end. */
  #inside(scope: Scope, loop = scope.loop): () => void {
    return () => this.#block({ ...copy(scope), loop, depth: scope.depth + 1 });
  }

  /** An inner block that ends. */
  #ending(scope: Scope, forgetWindows = false): () => void {
    return () => {
      const inner = { ...copy(scope), depth: 9 };
      if (forgetWindows) inner.windows = [];
      this.#scopes.push(inner);
      for (let n = this.#random() % 3; n > 0; n--) this.#step(inner);
      this.#end(inner);
      this.#scopes.pop();
    };
  }

  #end(scope: Scope): void {
    const p = this.#p;
    switch (this.#random() % (scope.loop ? 10 : 9)) {
      case 0:
        return p.aborted();
      case 1:
        return p.tx();
      case 2:
        return p.redirect(this.#operand(scope));
      case 3:
        return p.redirectMap(this.#pick([TARGETS, MORE_TARGETS]), this.#small(scope, 7), () => {
          if (this.#random() % 2 === 0) p.count(COUNTS, 2, 0xffffffff);
          p.pass();
        });
      case 4:
        return p.drop();
      case 9:
        return p.break();
      default:
        return p.pass();
    }
  }

  #key(scope: Scope): KeyPart[] {
    return [{ be32: this.#small(scope, 3) }, { be16: this.#small(scope, 1) }, { u8: 0x1234 }, { u8: this.#small(scope, 0) }];
  }

  #offset(scope: Scope): Value | number {
    const offset = this.#random() % 2 === 0 ? this.#small(scope, 31) : this.#operand(scope);
    return typeof offset === "number" ? offset & 0x7fff : offset;
  }

  #window(scope: Scope): void {
    const size = this.#pick([1, 2, 4, 8, 14, 20]);
    const offset = this.#random() % 2 === 0 ? this.#random() % 20 : this.#offset(scope);
    scope.windows.push([this.#p.window(offset, size, this.#ending(scope)), size]);
  }

  #frame(scope: Scope, [window, size]: [Window, number]): void {
    const bytes = this.#pick([1, 2, 4].filter((bytes) => bytes <= size));
    const at = this.#random() % (size - bytes + 1);
    switch (this.#random() % 3) {
      case 0: {
        const [to, from] = [this.#random() % size, this.#random() % size];
        const most = size - Math.max(to, from);
        return window.move(to, from, 1 + this.#random() % most);
      }
      case 1: {
        const value = this.#operand(scope);
        return bytes === 1 ? window.setU8(at, value) : bytes === 2 ? window.setU16(at, value) : window.setU32(at, value);
      }
      default:
        scope.values.push(bytes === 1 ? window.u8(at) : bytes === 2 ? window.u16(at) : window.u32(at));
    }
  }

  #entry(scope: Scope, entry: Entry): void {
    switch (this.#random() % 4) {
      case 0:
        return entry.setU32(this.#pick([0, 4, 8, 12]), this.#operand(scope));
      case 1:
        return entry.count(this.#pick([0, 8]), this.#operand(scope));
      case 2:
        return void scope.values.push(entry.u8(this.#random() % 16), entry.u16(2 * (this.#random() % 8)));
      default:
        scope.values.push(entry.u32(this.#pick([0, 4, 8, 12])));
    }
  }

  #maps(scope: Scope): void {
    const p = this.#p;
    const value: KeyPart[] = [{ be32: this.#operand(scope) }, { u32: this.#operand(scope) }, { u32: 0 }, {
      be16: this.#operand(scope),
    }, {
      u16: this.#operand(scope),
    }];
    const indexed = this.#random() % 2 === 0;
    const [map, key] = indexed ? [TABLE, [{ u32: this.#small(scope, 7) }]] : [HASH, this.#key(scope)];
    switch (this.#random() % 5) {
      case 0:
        return void scope.values.push(p.update(map, key, value, this.#random() % 3));
      case 1:
        return void scope.values.push(p.delete(map, key));
      case 2:
        return p.count(COUNTS, this.#small(scope, 7), this.#operand(scope));
      default: {
        const found = (entry: Entry) =>
          this.#block({ ...copy(scope), entries: [...scope.entries, entry], depth: scope.depth + 1 });
        if (this.#random() % 2 === 0) p.lookup(map, key, found);
        else p.lookup(map, key, found, this.#inside(scope));
      }
    }
  }

  #arithmetic(scope: Scope): void {
    const p = this.#p;
    const operate = this.#pick([p.add, p.sub, p.mul, p.div, p.mod, p.and, p.or, p.xor, p.shl, p.shr]);
    scope.values.push(operate(this.#operand(scope), this.#operand(scope)));
  }

  #adjust(scope: Scope): void {
    const p = this.#p;
    if (scope.loop) return this.#arithmetic(scope);
    const delta = this.#random() % 33 - 16;
    const forget = this.#ending(scope, true);
    if (this.#random() % 2 === 0) p.adjustHead(delta, forget);
    else p.adjustTail(delta, forget);
    this.#forget();
    // What headroom holds isn't the same in both: it is written before anything can read it.
    if (delta < 0) {
      const head = p.window(0, -delta, () => p.pass());
      for (let at = 0; at < -delta; at++) head.setU8(at, this.#operand(scope));
    }
    scope.windows = [];
  }

  /** Windows of every scope are gone once the frame was adjusted. */
  #forget(): void {
    for (const scope of this.#scopes) scope.windows = [];
  }

  readonly #scopes: Scope[] = [];

  #step(scope: Scope): void {
    const p = this.#p;
    this.#left--;
    switch (this.#random() % 14) {
      case 0:
        return void scope.values.push(this.#pick([p.ifindex, p.queue, p.length]).call(p));
      case 1:
        return void scope.variables.push(p.variable(this.#operand(scope)));
      case 2:
        return scope.variables.length > 0 ? this.#pick(scope.variables).set(this.#operand(scope)) : this.#arithmetic(scope);
      case 3:
        return this.#window(scope);
      case 4:
      case 5:
        return scope.windows.length > 0 ? this.#frame(scope, this.#pick(scope.windows)) : this.#window(scope);
      case 6:
        return scope.entries.length > 0 ? this.#entry(scope, this.#pick(scope.entries)) : this.#maps(scope);
      case 7:
        return scope.depth < 4 ? this.#maps(scope) : this.#arithmetic(scope);
      case 8:
      case 9:
        if (scope.depth >= 4) return this.#arithmetic(scope);
        if (this.#random() % 4 === 0) return p.if(this.#condition(scope), this.#ending(scope));
        return p.if(this.#condition(scope), this.#inside(scope), this.#random() % 2 === 0 ? this.#inside(scope) : undefined);
      case 10:
        if (scope.depth >= 3 || scope.loop) return this.#arithmetic(scope);
        return p.loop(1 + this.#random() % 4, (index) => {
          const inner = { ...copy(scope), values: [...scope.values, index], loop: true, depth: scope.depth + 1 };
          this.#block(inner);
        });
      case 11:
        return this.#adjust(scope);
      default:
        return this.#arithmetic(scope);
    }
  }

  #block(scope: Scope): void {
    this.#scopes.push(scope);
    for (let n = 1 + this.#random() % 6; n > 0 && this.#left > 0; n--) this.#step(scope);
    this.#scopes.pop();
  }

  write(): void {
    const p = this.#p;
    const scope: Scope = { values: [], variables: [], windows: [], entries: [], loop: false, depth: 0 };
    this.#scopes.push(scope);
    while (this.#left > 0) this.#step(scope);
    // Whatever was computed shows in the frame.
    const out = p.window(0, 14, () => p.drop());
    for (const [i, value] of [...scope.variables, ...scope.values].slice(-12).entries()) {
      out.setU8(i % 14, p.xor(out.u8(i % 14), value));
    }
    for (const value of scope.values) p.if(p.gt(value, 0x80000000), () => out.setU8(13, p.add(out.u8(13), 1)));
    if (this.#random() % 2 === 0) p.redirectMap(TARGETS, this.#small(scope, 7), () => p.drop());
    else this.#pick([p.pass, p.tx, p.drop, p.aborted])();
  }
}

function copy(scope: Scope): Scope {
  const { values, variables, windows, entries } = scope;
  return { ...scope, values: [...values], variables: [...variables], windows: [...windows], entries: [...entries] };
}

/** A program, made of chance. */
export function randomProgram(random: () => number): XdpProgram {
  return defineProgram("random", [TABLE, HASH, COUNTS, TARGETS, MORE_TARGETS], (p) => new Author(p, random).write());
}
