/**
 * Conditions as jumps.
 *
 * @module
 */
import type { Comparison, Condition, Operand } from "../ir.ts";
import type { Assembler, JumpTest, Label, Register, Source } from "./assembler.ts";

const OPPOSITE: Record<Exclude<Comparison, "set">, JumpTest> = { eq: "ne", ne: "eq", lt: "ge", ge: "lt", gt: "le", le: "gt" };
const MIRRORED: Record<Comparison, JumpTest> = { eq: "eq", ne: "ne", lt: "gt", gt: "lt", le: "ge", ge: "le", set: "set" };

type Comparing = Extract<Condition, { left: Operand }>;
/** Makes an operand one of an instruction, with a register that it may use. */
type Operands = (operand: Operand, scratch: Register) => Source;

function compare(asm: Assembler, { test, left, right }: Comparing, target: Label, operands: Operands): void {
  const [one, other] = [operands(left, 0), operands(right, 1)];
  if ("register" in one) return asm.jumpIf32(test, one.register, other, target);
  if ("register" in other) return asm.jumpIf32(MIRRORED[test], other.register, one, target);
  asm.alu32("mov", 0, one);
  asm.jumpIf32(test, 0, other, target);
}

/**
 * Jumps to `target` when the condition is as `when` says, and goes on otherwise.
 *
 * @param operands makes an operand one of an instruction, with a register that it may use
 */
export function branch(asm: Assembler, condition: Condition, when: boolean, target: Label, operands: Operands): void {
  switch (condition.test) {
    case "not":
      return branch(asm, condition.of, !when, target, operands);
    case "all":
    case "any": {
      // "any is true" and "all is not true" jump at the first that decides it; the other two must see all.
      if (when === (condition.test === "any")) {
        for (const one of condition.of) branch(asm, one, when, target, operands);
        return;
      }
      const skip = asm.label();
      for (const one of condition.of.slice(0, -1)) branch(asm, one, !when, skip, operands);
      const last = condition.of.at(-1);
      if (last !== undefined) branch(asm, last, when, target, operands);
      return asm.place(skip);
    }
    case "set": {
      if (when) return compare(asm, condition, target, operands);
      const skip = asm.label();
      compare(asm, condition, skip, operands);
      asm.jump(target);
      return asm.place(skip);
    }
    default:
      return compare(asm, when ? condition : { ...condition, test: OPPOSITE[condition.test] }, target, operands);
  }
}
