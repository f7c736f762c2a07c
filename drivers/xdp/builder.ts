/**
 * How an XDP program is written: calls that add statements to the block that is open. What the verifier would refuse for its
 * form (a way without an action, a window used after adjust_head, a value used outside its block) is refused here, by name.
 *
 * @module
 */
import {
  type BinaryOperator,
  type Block,
  type Comparison,
  type Condition,
  ends,
  type Input,
  type LocalKind,
  type Operand,
  type Part,
  type ProgramBody,
  type Size,
  type Statement,
  WINDOW_OFFSET_MAX,
  XDP_ABORTED,
  XDP_DROP,
  XDP_PASS,
  XDP_TX,
} from "./ir.ts";
import { isRedirectable, type MapSpec } from "./map_kinds.ts";
import { type Entry, type KeyPart, ProgramError, type Value, type Variable, type Window } from "./values.ts";

interface OpenBlock {
  readonly statements: Statement[];
  readonly inLoop: boolean;
}

/** What the builder knows of a local: the block that it lives in, and for windows how often the frame had been adjusted. */
interface Known {
  readonly block: OpenBlock;
  readonly epoch: number;
}

function part(piece: KeyPart): [Size, boolean, Value | number] {
  if ("u8" in piece) return [1, false, piece.u8];
  if ("u16" in piece) return [2, false, piece.u16];
  if ("u32" in piece) return [4, false, piece.u32];
  if ("be16" in piece) return [2, true, piece.be16];
  return [4, true, piece.be32];
}

/** See the module. Made by `defineProgram`. */
export class ProgramBuilder {
  readonly #maps: readonly MapSpec[];
  readonly #locals: LocalKind[] = [];
  readonly #known: Known[] = [];
  readonly #open: OpenBlock[] = [];
  #epoch = 0;

  /** For `defineProgram`. @param maps the program's */
  constructor(maps: readonly MapSpec[]) {
    this.#maps = maps;
  }

  /** Runs a description. For `defineProgram`. */
  describe(run: (p: ProgramBuilder) => void): ProgramBody {
    const block = this.#block(() => run(this), false);
    return { maps: this.#maps, locals: this.#locals, block };
  }

  /** Refuses the description. @throws {ProgramError} always */
  fail(why: string): never {
    throw new ProgramError(`Cannot make the program: ${why}`);
  }

  #block(run: () => void, inLoop = this.#open.at(-1)?.inLoop ?? false): Block {
    const block: OpenBlock = { statements: [], inLoop };
    const epoch = this.#epoch;
    this.#open.push(block);
    run();
    this.#open.pop();
    // What a way that ends did to the frame is of no matter to the others.
    if (ends(block.statements)) this.#epoch = epoch;
    return block.statements;
  }

  #ending(run: () => void, what: string): Block {
    const block = this.#block(run);
    if (!ends(block)) this.fail(`what happens without ${what} must end with an action or a break`);
    return block;
  }

  #add(statement: Statement): void {
    const block = this.#open.at(-1) ?? this.fail("it is finished");
    if (ends(block.statements)) this.fail(`"${statement.op}" can't be reached`);
    block.statements.push(statement);
  }

  #local(kind: LocalKind, block: OpenBlock = this.#open.at(-1) ?? this.fail("it is finished")): number {
    this.#known.push({ block, epoch: this.#epoch });
    return this.#locals.push(kind) - 1;
  }

  #use(id: number): number {
    const { block, epoch } = this.#known[id] ?? this.fail("a value of another program");
    if (!this.#open.includes(block)) this.fail("a value is used outside the block that it was made in");
    if (this.#locals[id].holds === "window" && epoch !== this.#epoch) this.fail("a window is used after the frame was adjusted");
    return id;
  }

  #operand(value: Value | number): Operand {
    if (typeof value !== "number") {
      if (typeof value?.operand !== "object") return this.fail(`neither a number nor a value of the program: ${value}`);
      if ("local" in value.operand) this.#use(value.operand.local);
      return value.operand;
    }
    const fits = Number.isInteger(value) && value >= -0x8000_0000 && value <= 0xffff_ffff;
    return fits ? { constant: value >>> 0 } : this.fail(`${value} isn't a number of 32 bits`);
  }

  #number(make: (to: number) => Statement): Value {
    const to = this.#local({ holds: "number" });
    this.#add(make(to));
    return { operand: { local: to } };
  }

  #map(map: MapSpec): number {
    const index = this.#maps.findIndex((one) => one.name === map.name);
    return index >= 0 ? index : this.fail(`it has no map "${map.name}"`);
  }

  #parts(pieces: readonly KeyPart[], size: number, what: string): Part[] {
    let at = 0;
    const parts = pieces.map((piece) => {
      const [size, big, value] = part(piece);
      // The kernel's stack is written aligned.
      if (at % size !== 0) this.fail(`${what}: a piece of ${size} bytes at ${at}`);
      at += size;
      return { size, big, value: this.#operand(value) };
    });
    if (at !== size) this.fail(`${what} has ${size} bytes, not ${at}`);
    return parts;
  }

  #input(input: Input): Value {
    return this.#number((to) => ({ op: "input", to, input }));
  }

  /** The interface that the frame came by. */
  ifindex(): Value {
    return this.#input("ifindex");
  }

  /** The receive queue that the frame came by. */
  queue(): Value {
    return this.#input("queue");
  }

  /** Bytes of the frame, as it is now. */
  length(): Value {
    return this.#input("length");
  }

  /** A variable with a first value. */
  variable(first: Value | number): Variable {
    const { operand } = this.#number((to) => ({ op: "variable", to, from: this.#operand(first) }));
    const set = (value: Value | number) =>
      this.#add({ op: "set", to: this.#use((operand as { local: number }).local), from: this.#operand(value) });
    return { operand, set };
  }

  #binary(operator: BinaryOperator, left: Value | number, right: Value | number): Value {
    return this.#number((to) => ({
      op: "binary",
      to,
      operator,
      left: this.#operand(left),
      right: this.#operand(right),
    }));
  }

  /** Wraps at 2^32. */
  add = (a: Value | number, b: Value | number): Value => this.#binary("add", a, b);
  /** Wraps below 0. */
  sub = (a: Value | number, b: Value | number): Value => this.#binary("sub", a, b);
  /** The low 32 bits. */
  mul = (a: Value | number, b: Value | number): Value => this.#binary("mul", a, b);
  /** Rounded down; 0 for a division by 0. */
  div = (a: Value | number, b: Value | number): Value => this.#binary("div", a, b);
  /** The dividend for a division by 0. */
  mod = (a: Value | number, b: Value | number): Value => this.#binary("mod", a, b);
  /** Bits of both. */
  and = (a: Value | number, b: Value | number): Value => this.#binary("and", a, b);
  /** Bits of either. */
  or = (a: Value | number, b: Value | number): Value => this.#binary("or", a, b);
  /** Bits of one. */
  xor = (a: Value | number, b: Value | number): Value => this.#binary("xor", a, b);
  /** Counts modulo 32. */
  shl = (a: Value | number, b: Value | number): Value => this.#binary("shl", a, b);
  /** Zeros come in; counts modulo 32. */
  shr = (a: Value | number, b: Value | number): Value => this.#binary("shr", a, b);

  #compare(test: Comparison, left: Value | number, right: Value | number): Condition {
    return { test, left: this.#operand(left), right: this.#operand(right) };
  }

  /** Equal? */
  eq = (a: Value | number, b: Value | number): Condition => this.#compare("eq", a, b);
  /** Not equal? */
  ne = (a: Value | number, b: Value | number): Condition => this.#compare("ne", a, b);
  /** Less? All comparisons are unsigned. */
  lt = (a: Value | number, b: Value | number): Condition => this.#compare("lt", a, b);
  /** Less or equal? */
  le = (a: Value | number, b: Value | number): Condition => this.#compare("le", a, b);
  /** Greater? */
  gt = (a: Value | number, b: Value | number): Condition => this.#compare("gt", a, b);
  /** Greater or equal? */
  ge = (a: Value | number, b: Value | number): Condition => this.#compare("ge", a, b);
  /** Have they a bit in common? */
  hasBits = (a: Value | number, b: Value | number): Condition => this.#compare("set", a, b);
  /** Every one; those behind the first that is false are not asked. */
  all = (...of: [Condition, ...Condition[]]): Condition => ({ test: "all", of });
  /** One of them. */
  any = (...of: [Condition, ...Condition[]]): Condition => ({ test: "any", of });
  /** The opposite. */
  not = (of: Condition): Condition => ({ test: "not", of });

  /** Then, or else. */
  if(condition: Condition, then: () => void, otherwise: () => void = () => {}): void {
    this.#add({ op: "if", condition, then: this.#block(then), otherwise: this.#block(otherwise) });
  }

  /** Runs the body `count` times (known when the program is written) with 0, 1, …, or until {@link break}. */
  loop(count: number, body: (index: Value) => void): void {
    if (!Number.isInteger(count) || count < 1 || count > 64) this.fail(`a loop of ${count} rounds; 1 to 64 are possible`);
    // The index lives inside, though it is made out here.
    let index = -1;
    const block = this.#block(() => {
      index = this.#local({ holds: "number" });
      body({ operand: { local: index } });
    }, true);
    this.#add({ op: "loop", index, count, body: block });
  }

  /** Leaves the innermost loop. */
  break(): void {
    if (!this.#open.at(-1)?.inLoop) this.fail("a break outside a loop");
    this.#add({ op: "break" });
  }

  /**
   * A piece of the frame. Good until the frame is adjusted.
   *
   * @param offset from the frame's beginning, at most 32767
   * @param size bytes, at most 256
   * @param otherwise what happens when the frame is too short; ends with an action or a break
   */
  window(offset: Value | number, size: number, otherwise: () => void): Window {
    if (!Number.isInteger(size) || size < 1 || size > 256) this.fail(`a window of ${size} bytes; 1 to 256 are possible`);
    if (typeof offset === "number" && !(offset >= 0 && offset <= WINDOW_OFFSET_MAX)) this.fail(`a window at ${offset}`);
    const from = this.#operand(offset);
    const block = this.#ending(otherwise, "the window");
    const to = this.#local({ holds: "window" });
    this.#add({ op: "window", to, offset: from, size, otherwise: block });
    const inside = (at: number, bytes: number) => {
      if (!(Number.isInteger(at) && at >= 0 && at + bytes <= size)) this.fail(`${bytes} bytes at ${at} of a window of ${size}`);
      return at;
    };
    const load = (size: Size) => (at: number) =>
      this.#number((value) => ({ op: "load", to: value, base: this.#use(to), at: inside(at, size), size, big: true }));
    const store = (size: Size) => (at: number, value: Value | number) =>
      this.#add({ op: "store", base: this.#use(to), at: inside(at, size), size, big: true, value: this.#operand(value) });
    const move = (target: number, source: number, bytes: number) =>
      this.#add({ op: "move", base: this.#use(to), to: inside(target, bytes), from: inside(source, bytes), size: bytes });
    return { u8: load(1), u16: load(2), u32: load(4), setU8: store(1), setU16: store(2), setU32: store(4), move };
  }

  /**
   * Moves the frame's beginning (negative: bytes are gained, with any content). Windows end here.
   *
   * @param otherwise no headroom, or fewer than 14 bytes would be left; ends with an action
   */
  adjustHead(delta: number, otherwise: () => void): void {
    this.#adjust("head", delta, otherwise);
  }

  /** Moves the frame's end (positive: zeros are gained). Windows end here. */
  adjustTail(delta: number, otherwise: () => void): void {
    this.#adjust("tail", delta, otherwise);
  }

  #adjust(end: "head" | "tail", delta: number, otherwise: () => void): void {
    if (!Number.isInteger(delta) || Math.abs(delta) > 0x4000) this.fail(`the ${end} adjusted by ${delta}`);
    if (this.#open.some((block) => block.inLoop)) this.fail("a frame adjusted inside a loop");
    // In the failed case too, the kernel's pointers are no longer good.
    this.#epoch++;
    this.#add({ op: "adjust", end, delta, otherwise: this.#ending(otherwise, "room") });
  }

  /** Finds an entry of a map. It can be used in `found` only. */
  lookup(map: MapSpec, key: readonly KeyPart[], found: (entry: Entry) => void, missing: () => void = () => {}): void {
    const index = this.#map(map);
    if (isRedirectable(map.kind) || map.kind === "prog_array") this.fail(`a ${map.kind} can't be looked up by a program`);
    const parts = this.#parts(key, map.keySize, "the key");
    let to = -1;
    const then = this.#block(() => {
      to = this.#local({ holds: "entry", map: index });
      found(this.#entry(to, index));
    });
    this.#add({ op: "lookup", to, map: index, key: parts, found: then, missing: this.#block(missing) });
  }

  #entry(base: number, map: number): Entry {
    const { valueSize } = this.#maps[map];
    const inside = (at: number, bytes: number) => {
      if (!(Number.isInteger(at) && at >= 0 && at % bytes === 0 && at + bytes <= valueSize)) {
        this.fail(`${bytes} bytes at ${at} of a value of ${valueSize}`);
      }
      return at;
    };
    const load = (size: Size) => (at: number) =>
      this.#number((to) => ({ op: "load", to, base: this.#use(base), at: inside(at, size), size, big: false }));
    const setU32 = (at: number, value: Value | number) =>
      this.#add({ op: "store", base: this.#use(base), at: inside(at, 4), size: 4, big: false, value: this.#operand(value) });
    const count = (at: number, by: Value | number = 1) =>
      this.#add({ op: "count", base: this.#use(base), map, at: inside(at, 8), by: this.#operand(by) });
    return { u8: load(1), u16: load(2), u32: load(4), setU32, count };
  }

  /** Puts a value under a key. The result is 0 or a negative errno (as 32 bits). */
  update(map: MapSpec, key: readonly KeyPart[], value: readonly KeyPart[], flags = 0): Value {
    const index = this.#map(map);
    const keys = this.#parts(key, map.keySize, "the key");
    const values = this.#parts(value, map.valueSize, "the value");
    return this.#number((to) => ({ op: "update", to, map: index, key: keys, value: values, flags }));
  }

  /** Takes a key out. The result is 0 or a negative errno (as 32 bits). */
  delete(map: MapSpec, key: readonly KeyPart[]): Value {
    const keys = this.#parts(key, map.keySize, "the key");
    return this.#number((to) => ({ op: "delete", to, map: this.#map(map), key: keys }));
  }

  /** Adds to counter `index` of an array (or per-CPU array) of counters of 64 bits. */
  count(map: MapSpec, index: Value | number, by: Value | number = 1): void {
    this.lookup(map, [{ u32: index }], (entry) => entry.count(0, by));
  }

  /** Ends: a fault of the program; the frame is dropped. */
  aborted = (): void => this.#add({ op: "return", action: XDP_ABORTED });
  /** Ends: the frame is dropped. */
  drop = (): void => this.#add({ op: "return", action: XDP_DROP });
  /** Ends: the frame goes where it would go without the program. */
  pass = (): void => this.#add({ op: "return", action: XDP_PASS });
  /** Ends: the frame goes out where it came in. */
  tx = (): void => this.#add({ op: "return", action: XDP_TX });

  /** Sends the frame out of an interface. */
  redirect(ifindex: Value | number): void {
    this.#add({ op: "redirect", ifindex: this.#operand(ifindex) });
  }

  /** Sends the frame where the map says. @param otherwise what happens when it says nothing; ends with an action or a break */
  redirectMap(map: MapSpec, key: Value | number, otherwise: () => void): void {
    const index = this.#map(map);
    if (!isRedirectable(map.kind)) this.fail(`a redirect by a ${map.kind}`);
    const from = this.#operand(key);
    this.#add({ op: "redirectMap", map: index, key: from, otherwise: this.#ending(otherwise, "an entry") });
  }

  /** Goes on with another program; goes on here when there is none at the index, or after 33 tail calls. */
  tailCall(map: MapSpec, index: Value | number): void {
    if (map.kind !== "prog_array") this.fail(`a tail call by a ${map.kind}`);
    this.#add({ op: "tailCall", map: this.#map(map), index: this.#operand(index) });
  }
}
