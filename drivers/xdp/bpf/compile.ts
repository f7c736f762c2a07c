/**
 * From a program's intermediate form to eBPF that the kernel's verifier takes. Nothing is proved here: the checks that the
 * verifier wants (bounds of a frame, entries that may be missing) are statements of the form, and come out as it knows them.
 *
 * r6 is the context; r0, r1 and r2 are for the steps inside a statement; see `allocate.ts` for the others. At the stack's top are
 * a key and a value for calls, below them the locals that found no register.
 *
 * The length of a frame is a difference of pointers, and a window at a variable offset a sum: a program with one of them needs
 * CAP_PERFMON beside CAP_BPF and CAP_NET_ADMIN. Root has all three.
 *
 * @module
 */
import { type Block, ends, type Input, type Operand, type Part, type Size, type Statement, WINDOW_OFFSET_MAX } from "../ir.ts";
import { isPerCpu, type MapSpec } from "../map_kinds.ts";
import { XDP_ABORTED, XDP_REDIRECT, type XdpProgram } from "../program.ts";
import { allocate, type Allocation } from "./allocate.ts";
import { Assembler, HELPER, type Label, type MemorySize, type Register, type Source } from "./assembler.ts";
import { branch } from "./branch.ts";

const CONTEXT: Register = 6;
const FRAME_POINTER: Register = 10;
const STACK_MAX = 512;
/** Offsets in `struct xdp_md`. */
const MD = { data: 0, dataEnd: 4, ifindex: 12, queue: 16 } as const;

/** A program as bytecode, but for the descriptors of its maps. */
export interface CompiledProgram {
  /** The program's. */
  readonly name: string;
  /** In the order of {@link instructions}. */
  readonly maps: readonly MapSpec[];
  /** How many instructions it has. */
  readonly length: number;
  /** Bytes of the stack that it uses. */
  readonly stack: number;
  /** The bytecode. @param descriptors of the maps, in their order */
  instructions(descriptors: readonly number[]): Uint8Array<ArrayBuffer>;
}

function swapped(value: number, size: Size): number {
  if (size === 1) return value & 0xff;
  if (size === 2) return (value & 0xff) << 8 | (value >>> 8 & 0xff);
  return value << 24 | (value & 0xff00) << 8 | value >>> 8 & 0xff00 | value >>> 24;
}

/** A block that stands behind the rest of the program, where the way seldom goes. */
interface Deferred {
  readonly label: Label;
  readonly block: Block;
  readonly loopEnds: readonly Label[];
}

class Compiler {
  readonly asm = new Assembler();
  readonly #maps: readonly MapSpec[];
  readonly #allocation: Allocation;
  readonly #deferred: Deferred[] = [];
  /** Where `return N` stands, by action. */
  readonly #returns = new Map<number, Label>();
  #loopEnds: Label[] = [];
  /** From the frame pointer down: the key, the value, the slots. */
  readonly #key: number;
  readonly #value: number;
  readonly stack: number;

  constructor(program: XdpProgram) {
    const { maps, block, locals } = program.body;
    this.#maps = maps;
    this.#allocation = allocate(block, locals.length);
    const largest = (of: (map: MapSpec) => number) => Math.max(0, ...maps.map((map) => Math.ceil(of(map) / 8) * 8));
    this.#key = -largest((map) => map.keySize);
    this.#value = this.#key - largest((map) => map.valueSize);
    this.stack = this.#allocation.slots * 8 - this.#value;
    if (this.stack > STACK_MAX) {
      throw new RangeError(`Cannot compile "${program.name}": ${this.stack} bytes of stack; 512 are possible`);
    }
    this.asm.move(CONTEXT, 1);
    this.#block(block);
    for (let next = this.#deferred.shift(); next !== undefined; next = this.#deferred.shift()) {
      this.#loopEnds = [...next.loopEnds];
      this.asm.place(next.label);
      this.#block(next.block);
    }
  }

  #slot(slot: number): number {
    return this.#value - 8 * (slot + 1);
  }

  /** The register of a local, or `scratch` with its value. */
  #in(local: number, scratch: Register): Register {
    const location = this.#allocation.locations[local];
    if ("register" in location) return location.register;
    this.asm.load(8, scratch, FRAME_POINTER, this.#slot(location.slot));
    return scratch;
  }

  /** An operand for an instruction: a constant, or a register. */
  #source(operand: Operand, scratch: Register): Source {
    return "constant" in operand ? { immediate: operand.constant } : { register: this.#in(operand.local, scratch) };
  }

  /** The register to make a local's value in; {@link #keep} afterwards. */
  #target(local: number): Register {
    const location = this.#allocation.locations[local];
    return "register" in location ? location.register : 0;
  }

  #keep(local: number, from: Register): void {
    const location = this.#allocation.locations[local];
    if ("register" in location) this.asm.move(location.register, from);
    else this.asm.store(8, FRAME_POINTER, this.#slot(location.slot), { register: from });
  }

  #put(to: Register, operand: Operand): void {
    if ("constant" in operand) this.asm.alu32("mov", to, { immediate: operand.constant });
    else this.asm.move(to, this.#in(operand.local, to));
  }

  #block(block: Block): void {
    for (const statement of block) this.#statement(statement);
  }

  /** A label for a block that ends by itself: `return N` once for all, anything else behind the program. */
  #aside(block: Block): Label {
    const [only] = block;
    const action = block.length === 1 && only.op === "return" ? only.action : -1;
    const known = this.#returns.get(action);
    if (known !== undefined) return known;
    const label = this.asm.label();
    if (action >= 0) this.#returns.set(action, label);
    this.#deferred.push({ label, block, loopEnds: this.#loopEnds });
    return label;
  }

  #storeNumber(base: Register, at: number, size: Size, big: boolean, value: Operand): void {
    const turned = big && size > 1;
    if ("constant" in value) {
      return this.asm.store(size, base, at, { immediate: turned ? swapped(value.constant, size) : value.constant });
    }
    if (!turned) return this.asm.store(size, base, at, { register: this.#in(value.local, 0) });
    this.#put(0, value);
    this.asm.toBigEndian(0, size === 2 ? 16 : 32);
    this.asm.store(size, base, at, { register: 0 });
  }

  #parts(base: number, parts: readonly Part[]): void {
    let at = base;
    for (const { size, big, value } of parts) {
      this.#storeNumber(FRAME_POINTER, at, size, big, value);
      at += size;
    }
  }

  /** Puts the address of something on the stack into a register. */
  #address(to: Register, at: number): void {
    this.asm.move(to, FRAME_POINTER);
    this.asm.alu64("add", to, { immediate: at });
  }

  #input(to: number, input: Input): void {
    const target = this.#target(to);
    if (input === "length") {
      this.asm.load(4, 1, CONTEXT, MD.data);
      this.asm.load(4, 0, CONTEXT, MD.dataEnd);
      this.asm.alu64("sub", 0, { register: 1 });
      this.asm.alu32("mov", target, { register: 0 });
    } else this.asm.load(4, target, CONTEXT, input === "ifindex" ? MD.ifindex : MD.queue);
    this.#keep(to, target);
  }

  #binary(statement: Statement & { op: "binary" }): void {
    const { to, operator, left, right } = statement;
    const target = this.#target(to);
    if ((operator === "div" || operator === "mod") && "constant" in right && right.constant === 0) {
      // The verifier refuses what at run time would have a result.
      this.#put(target, operator === "div" ? { constant: 0 } : left);
    } else {
      this.#put(target, left);
      const shift = operator === "shl" || operator === "shr";
      const count: Operand = shift && "constant" in right ? { constant: right.constant & 31 } : right;
      this.asm.alu32(operator, target, this.#source(count, 1));
    }
    this.#keep(to, target);
  }

  #window(statement: Statement & { op: "window" }): void {
    const { to, offset, size } = statement;
    const target = this.#target(to);
    const short = this.#aside(statement.otherwise);
    if ("local" in offset) {
      this.#put(2, offset);
      this.asm.jumpIf64("gt", 2, { immediate: WINDOW_OFFSET_MAX }, short);
      this.asm.load(4, target, CONTEXT, MD.data);
      this.asm.alu64("add", target, { register: 2 });
    } else {
      this.asm.load(4, target, CONTEXT, MD.data);
      if (offset.constant > 0) this.asm.alu64("add", target, { immediate: offset.constant });
    }
    this.asm.load(4, 1, CONTEXT, MD.dataEnd);
    this.asm.move(2, target);
    this.asm.alu64("add", 2, { immediate: size });
    this.asm.jumpIf64("gt", 2, { register: 1 }, short);
    this.#keep(to, target);
  }

  #load(statement: Statement & { op: "load" }): void {
    const { to, base, at, size, big } = statement;
    const target = this.#target(to);
    this.asm.load(size, target, this.#in(base, 2), at);
    if (big && size > 1) this.asm.toBigEndian(target, size === 2 ? 16 : 32);
    this.#keep(to, target);
  }

  #move(statement: Statement & { op: "move" }): void {
    const { to, from, size } = statement;
    const base = this.#in(statement.base, 2);
    const steps: [number, MemorySize][] = [];
    for (let at = 0; at < size;) {
      const step: MemorySize = size - at >= 8 ? 8 : size - at >= 4 ? 4 : size - at >= 2 ? 2 : 1;
      steps.push([at, step]);
      at += step;
    }
    // As memmove: never read what was already written.
    for (const [at, step] of to <= from ? steps : steps.reverse()) {
      this.asm.load(step, 0, base, from + at);
      this.asm.store(step, base, to + at, { register: 0 });
    }
  }

  #if(statement: Statement & { op: "if" }): void {
    const { condition, then, otherwise } = statement;
    const operand = (operand: Operand, scratch: Register) => this.#source(operand, scratch);
    if (then.length > 0 && ends(then) && otherwise.length === 0) {
      return branch(this.asm, condition, true, this.#aside(then), operand);
    }
    const [no, end] = [this.asm.label(), this.asm.label()];
    branch(this.asm, condition, false, no, operand);
    this.#block(then);
    if (otherwise.length > 0 && !ends(then)) this.asm.jump(end);
    this.asm.place(no);
    this.#block(otherwise);
    this.asm.place(end);
  }

  #loop(statement: Statement & { op: "loop" }): void {
    const { index, count, body } = statement;
    const [top, end] = [this.asm.label(), this.asm.label()];
    const target = this.#target(index);
    this.asm.alu32("mov", target, { immediate: 0 });
    this.#keep(index, target);
    this.asm.place(top);
    this.asm.jumpIf32("ge", this.#in(index, 0), { immediate: count }, end);
    this.#loopEnds = [...this.#loopEnds, end];
    this.#block(body);
    this.#loopEnds = this.#loopEnds.slice(0, -1);
    if (!ends(body)) {
      const next = this.#in(index, 0);
      this.asm.alu32("add", next, { immediate: 1 });
      this.#keep(index, next);
      this.asm.jump(top);
    }
    this.asm.place(end);
  }

  #lookup(statement: Statement & { op: "lookup" }): void {
    const { to, map, key, found, missing } = statement;
    this.#parts(this.#key, key);
    this.asm.loadMap(1, map);
    this.#address(2, this.#key);
    this.asm.call(HELPER.mapLookup);
    const [no, end] = [this.asm.label(), this.asm.label()];
    this.asm.jumpIf64("eq", 0, { immediate: 0 }, no);
    this.#keep(to, 0);
    this.#block(found);
    if (missing.length > 0 && !ends(found)) this.asm.jump(end);
    this.asm.place(no);
    this.#block(missing);
    this.asm.place(end);
  }

  #change(statement: Statement & { op: "update" | "delete" }): void {
    this.#parts(this.#key, statement.key);
    if (statement.op === "update") {
      this.#parts(this.#value, statement.value);
      this.#address(3, this.#value);
      this.asm.alu64("mov", 4, { immediate: statement.flags });
    }
    this.asm.loadMap(1, statement.map);
    this.#address(2, this.#key);
    this.asm.call(statement.op === "update" ? HELPER.mapUpdate : HELPER.mapDelete);
    this.asm.alu32("mov", 0, { register: 0 });
    this.#keep(statement.to, 0);
  }

  #count(statement: Statement & { op: "count" }): void {
    const { at, by, map } = statement;
    const base = this.#in(statement.base, 2);
    if (!isPerCpu(this.#maps[map].kind)) {
      this.#put(0, by);
      return this.asm.atomicAdd64(base, at, 0);
    }
    // Nobody else has this copy. A constant in an instruction has a sign, ours hasn't.
    const immediate = "constant" in by && by.constant >= 0 && by.constant <= 0x7fffffff;
    if (!immediate) this.#put(1, by);
    this.asm.load(8, 0, base, at);
    this.asm.alu64("add", 0, immediate ? { immediate: by.constant } : { register: 1 });
    this.asm.store(8, base, at, { register: 0 });
  }

  #adjust(statement: Statement & { op: "adjust" }): void {
    this.asm.move(1, CONTEXT);
    this.asm.alu64("mov", 2, { immediate: statement.delta });
    this.asm.call(statement.end === "head" ? HELPER.adjustHead : HELPER.adjustTail);
    this.asm.jumpIf64("ne", 0, { immediate: 0 }, this.#aside(statement.otherwise));
  }

  #leave(statement: Statement & { op: "return" | "redirect" | "redirectMap" }): void {
    switch (statement.op) {
      case "return":
        this.asm.alu32("mov", 0, { immediate: statement.action });
        return this.asm.exit();
      case "redirect":
        this.#put(1, statement.ifindex);
        this.asm.alu32("mov", 2, { immediate: 0 });
        this.asm.call(HELPER.redirect);
        return this.asm.exit();
      case "redirectMap": {
        const [only] = statement.otherwise;
        const simple = statement.otherwise.length === 1 && only.op === "return";
        // The key first: it may be where the third argument goes.
        this.#put(2, statement.key);
        this.asm.loadMap(1, statement.map);
        // The helper itself returns one of the lower actions when there is no entry.
        this.asm.alu64("mov", 3, { immediate: simple ? only.action : XDP_ABORTED });
        this.asm.call(HELPER.redirectMap);
        if (!simple) this.asm.jumpIf32("ne", 0, { immediate: XDP_REDIRECT }, this.#aside(statement.otherwise));
        return this.asm.exit();
      }
    }
  }

  #tailCall(statement: Statement & { op: "tailCall" }): void {
    this.#put(3, statement.index);
    this.asm.move(1, CONTEXT);
    this.asm.loadMap(2, statement.map);
    this.asm.call(HELPER.tailCall);
  }

  #statement(statement: Statement): void {
    switch (statement.op) {
      case "input":
        return this.#input(statement.to, statement.input);
      case "variable":
      case "set": {
        const target = this.#target(statement.to);
        this.#put(target, statement.from);
        return this.#keep(statement.to, target);
      }
      case "binary":
        return this.#binary(statement);
      case "window":
        return this.#window(statement);
      case "load":
        return this.#load(statement);
      case "store":
        return this.#storeNumber(this.#in(statement.base, 2), statement.at, statement.size, statement.big, statement.value);
      case "move":
        return this.#move(statement);
      case "adjust":
        return this.#adjust(statement);
      case "if":
        return this.#if(statement);
      case "loop":
        return this.#loop(statement);
      case "break":
        // The builder lets no break stand outside a loop.
        return this.asm.jump(this.#loopEnds.at(-1)!);
      case "lookup":
        return this.#lookup(statement);
      case "update":
      case "delete":
        return this.#change(statement);
      case "count":
        return this.#count(statement);
      case "tailCall":
        return this.#tailCall(statement);
      default:
        return this.#leave(statement);
    }
  }
}

/** Compiles a program. @throws {RangeError} when it needs more stack or instructions than there may be */
export function compileProgram(program: XdpProgram): CompiledProgram {
  const { asm, stack } = new Compiler(program);
  const instructions = (descriptors: readonly number[]) => asm.finish(descriptors);
  return { name: program.name, maps: program.maps, length: asm.length, stack, instructions };
}
