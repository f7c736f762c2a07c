/**
 * From a program's intermediate form to a function of JavaScript: source text, so that V8 compiles it as if written by hand
 * (measured for the multiplexer: 7 ns a frame, and 87 as closures over the same tree). The text is made of numbers and of names chosen here:
 * nothing that a user wrote gets into it.
 *
 * @module
 */
import {
  type BinaryOperator,
  type Block,
  type Comparison,
  type Condition,
  FRAME_MIN,
  type Operand,
  type Part,
  type ProgramBody,
  type Size,
  type Statement,
  WINDOW_OFFSET_MAX,
  XDP_REDIRECT,
} from "./ir.ts";
import { isIndexed, type MapMemory } from "./map_kinds.ts";
import type { XdpFunction } from "./program.ts";

const SETTERS: Record<Size, string> = { 1: "setUint8", 2: "setUint16", 4: "setUint32" };
const GETTERS: Record<Size, string> = { 1: "getUint8", 2: "getUint16", 4: "getUint32" };

const COMPARISONS: Record<Exclude<Comparison, "set">, string> = {
  eq: "===",
  ne: "!==",
  lt: "<",
  le: "<=",
  gt: ">",
  ge: ">=",
};

function binary(operator: BinaryOperator, left: string, right: string): string {
  switch (operator) {
    case "add":
      return `(${left} + ${right}) >>> 0`;
    case "sub":
      return `(${left} - ${right}) >>> 0`;
    case "mul":
      return `Math.imul(${left}, ${right}) >>> 0`;
    case "div":
      return `${right} === 0 ? 0 : (${left} / ${right}) >>> 0`;
    case "mod":
      return `${right} === 0 ? ${left} : ${left} % ${right}`;
    case "and":
      return `(${left} & ${right}) >>> 0`;
    case "or":
      return `(${left} | ${right}) >>> 0`;
    case "xor":
      return `(${left} ^ ${right}) >>> 0`;
    case "shl":
      return `(${left} << ${right}) >>> 0`;
    case "shr":
      return `${left} >>> ${right}`;
  }
}

function operand(value: Operand): string {
  return "constant" in value ? String(value.constant) : `v${value.local}`;
}

function condition(asked: Condition): string {
  switch (asked.test) {
    case "all":
      return asked.of.length === 0 ? "true" : `(${asked.of.map(condition).join(" && ")})`;
    case "any":
      return asked.of.length === 0 ? "false" : `(${asked.of.map(condition).join(" || ")})`;
    case "not":
      return `!(${condition(asked.of)})`;
    case "set":
      return `(${operand(asked.left)} & ${operand(asked.right)}) !== 0`;
    default:
      return `${operand(asked.left)} ${COMPARISONS[asked.test]} ${operand(asked.right)}`;
  }
}

/** Writes the text of one program. */
class Writer {
  readonly #body: ProgramBody;
  readonly #lines: string[] = [];
  #indent = 1;
  #temporaries = 0;

  constructor(body: ProgramBody) {
    this.#body = body;
  }

  text(): string {
    this.#block(this.#body.block);
    return this.#lines.join("\n");
  }

  #line(text: string): void {
    this.#lines.push("  ".repeat(this.#indent) + text);
  }

  #block(block: Block): void {
    this.#indent++;
    for (const statement of block) this.#statement(statement);
    this.#indent--;
  }

  /** `head {block}`, with `else` where it has something. */
  #braces(head: string, block: Block, otherwise: Block = []): void {
    this.#line(`${head} {`);
    this.#block(block);
    if (otherwise.length > 0) {
      this.#line("} else {");
      this.#block(otherwise);
    }
    this.#line("}");
  }

  #temporary(): string {
    return `t${this.#temporaries++}`;
  }

  #parts(view: string, parts: readonly Part[]): void {
    let at = 0;
    for (const { size, big, value } of parts) {
      this.#line(`${view}.${SETTERS[size]}(${at}, ${operand(value)}${size === 1 ? "" : `, ${!big}`});`);
      at += size;
    }
  }

  /** Where in `s…` the entry for a key stands, as an expression; the key is written before. */
  #find(map: number, key: readonly Part[]): string {
    const { kind, maxEntries, valueSize } = this.#body.maps[map];
    if (isIndexed(kind) && key.length === 1 && !key[0].big) {
      const index = operand(key[0].value);
      return `${index} < ${maxEntries} ? ${index} * ${valueSize} : -1`;
    }
    this.#parts(`k${map}`, key);
    return `m${map}.lookup()`;
  }

  /** The view that a base is an offset into. */
  #viewOf(base: number): string {
    const local = this.#body.locals[base];
    return local.holds === "entry" ? `s${local.map}` : "view";
  }

  #move(base: number, to: number, from: number, size: number): void {
    const steps: [number, Size][] = [];
    for (let at = 0; at < size;) {
      const step: Size = size - at >= 4 ? 4 : size - at >= 2 ? 2 : 1;
      steps.push([at, step]);
      at += step;
    }
    // As memmove: never read what was already written.
    for (const [at, step] of to <= from ? steps : steps.reverse()) {
      const value = `view.${GETTERS[step]}(v${base} + ${from + at})`;
      this.#line(`view.${SETTERS[step]}(v${base} + ${to + at}, ${value});`);
    }
  }

  #adjust(statement: Statement & { op: "adjust" }): void {
    const t = this.#temporary();
    if (statement.end === "head") {
      this.#line(`const ${t} = offset + ${statement.delta};`);
      this.#braces(`if (${t} < context.headStart || ${t} > end - ${FRAME_MIN})`, statement.otherwise);
      this.#line(`context.offset = offset = ${t};`);
      return;
    }
    this.#line(`const ${t} = end + ${statement.delta};`);
    this.#braces(`if (${t} > context.tailEnd || ${t} < offset + ${FRAME_MIN})`, statement.otherwise);
    if (statement.delta > 0) this.#line(`for (let i = end; i < ${t}; i++) view.setUint8(i, 0);`);
    this.#line(`context.end = end = ${t};`);
  }

  #count(base: number, map: number, at: number, by: Operand): void {
    const t = this.#temporary();
    this.#line(`const ${t} = s${map}.getUint32(v${base} + ${at}, true) + ${operand(by)};`);
    this.#line(`s${map}.setUint32(v${base} + ${at}, ${t}, true);`);
    const high = `v${base} + ${at + 4}, `;
    this.#line(`if (${t} > 0xffffffff) s${map}.setUint32(${high}s${map}.getUint32(${high}true) + 1, true);`);
  }

  #redirectMap(map: number, key: Operand, otherwise: Block): void {
    const { kind } = this.#body.maps[map];
    const [place, target] = [this.#temporary(), this.#temporary()];
    this.#line(`const ${place} = ${this.#find(map, [{ size: 4, big: false, value: key }])};`);
    this.#line(`const ${target} = ${place} < 0 ? 0 : s${map}.getUint32(${place}, true);`);
    this.#braces(`if (${target} === 0)`, otherwise);
    this.#line(`context.redirectIfindex = ${kind === "xskmap" ? "0" : target};`);
    this.#line(`context.redirectMap = m${map};`);
    this.#line(`context.redirectKey = ${operand(key)};`);
    this.#line(`return ${XDP_REDIRECT};`);
  }

  #tailCall(map: number, index: Operand): void {
    const t = this.#temporary();
    this.#line(`const ${t} = context.tailCalls < 33 ? m${map}.programs?.[${operand(index)}] : null;`);
    this.#line(`if (${t} != null) {`);
    this.#line("  context.tailCalls++;");
    this.#line(`  return ${t}(view, offset, end, ifindex, context);`);
    this.#line("}");
  }

  #memory(statement: Statement & { op: "load" | "store" }): void {
    const { base, at, size, big } = statement;
    const order = size === 1 ? "" : `, ${!big}`;
    const place = `v${base} + ${at}`;
    if (statement.op === "load") {
      this.#line(`const v${statement.to} = ${this.#viewOf(base)}.${GETTERS[size]}(${place}${order});`);
    } else this.#line(`${this.#viewOf(base)}.${SETTERS[size]}(${place}, ${operand(statement.value)}${order});`);
  }

  #control(statement: Statement & { op: "if" | "loop" | "window" | "lookup" }): void {
    switch (statement.op) {
      case "if":
        return this.#braces(`if (${condition(statement.condition)})`, statement.then, statement.otherwise);
      case "loop": {
        const v = `v${statement.index}`;
        return this.#braces(`for (let ${v} = 0; ${v} < ${statement.count}; ${v}++)`, statement.body);
      }
      case "window": {
        const { offset, to, size } = statement;
        const far = "local" in offset ? `${operand(offset)} > ${WINDOW_OFFSET_MAX} || ` : "";
        this.#line(`const v${to} = offset + ${operand(offset)};`);
        return this.#braces(`if (${far}end - v${to} < ${size})`, statement.otherwise);
      }
      case "lookup":
        this.#line(`const v${statement.to} = ${this.#find(statement.map, statement.key)};`);
        return this.#braces(`if (v${statement.to} >= 0)`, statement.found, statement.missing);
    }
  }

  #statement(statement: Statement): void {
    switch (statement.op) {
      case "input": {
        const from = { ifindex: "ifindex >>> 0", queue: "context.queue >>> 0", length: "end - offset" }[statement.input];
        return this.#line(`const v${statement.to} = ${from};`);
      }
      case "variable":
        return this.#line(`let v${statement.to} = ${operand(statement.from)};`);
      case "set":
        return this.#line(`v${statement.to} = ${operand(statement.from)};`);
      case "binary": {
        const { to, operator, left, right } = statement;
        return this.#line(`const v${to} = ${binary(operator, operand(left), operand(right))};`);
      }
      case "load":
      case "store":
        return this.#memory(statement);
      case "move":
        return this.#move(statement.base, statement.to, statement.from, statement.size);
      case "adjust":
        return this.#adjust(statement);
      case "if":
      case "loop":
      case "window":
      case "lookup":
        return this.#control(statement);
      case "break":
        return this.#line("break;");
      case "update":
        this.#parts(`k${statement.map}`, statement.key);
        this.#parts(`x${statement.map}`, statement.value);
        return this.#line(`const v${statement.to} = m${statement.map}.update(${statement.flags}) >>> 0;`);
      case "delete":
        this.#parts(`k${statement.map}`, statement.key);
        return this.#line(`const v${statement.to} = m${statement.map}.delete() >>> 0;`);
      case "count":
        return this.#count(statement.base, statement.map, statement.at, statement.by);
      case "return":
        return this.#line(`return ${statement.action};`);
      case "redirect":
        this.#line("context.redirectMap = null;");
        this.#line(`context.redirectIfindex = ${operand(statement.ifindex)};`);
        return this.#line(`return ${XDP_REDIRECT};`);
      case "redirectMap":
        return this.#redirectMap(statement.map, statement.key, statement.otherwise);
      case "tailCall":
        return this.#tailCall(statement.map, statement.index);
    }
  }
}

/** The body of a function that is given `maps` and returns the program. */
export function functionSource(body: ProgramBody): string {
  const views = body.maps.map((_, i) =>
    `const m${i} = maps[${i}], k${i} = m${i}.key, x${i} = m${i}.value, s${i} = m${i}.values;\n`
  );
  const text = new Writer(body).text();
  return `"use strict";\n${views.join("")}return function program(view, offset, end, ifindex, context) {\n${text}\n};\n`;
}

/** Makes the function of a source text. `name` holds letters, digits and underscores only. */
export function instantiateSource(name: string, source: string, maps: readonly MapMemory[]): XdpFunction {
  const make = new Function("maps", `${source}//# sourceURL=xdp/${name}.js\n`) as (maps: readonly MapMemory[]) => XdpFunction;
  return make(maps);
}
