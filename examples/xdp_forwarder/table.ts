/**
 * A forwarder's counters for people.
 *
 * @module
 */
import type { ForwarderReport } from "../../mod.ts";

/** Columns as wide as their widest cell, the first to the left and numbers to the right. */
function columns(rows: string[][]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const cell = (text: string, column: number) => /^\d/.test(text) ? text.padStart(widths[column]) : text.padEnd(widths[column]);
  return rows.map((row) => row.map(cell).join("  ").trimEnd()).join("\n");
}

/** Counters by interface and action, and what was dropped why. */
export function table(report: ForwarderReport): string {
  const actions = ["ABORTED", "DROP", "PASS", "TX", "REDIRECT"] as const;
  const rows = [["interface", "number", "side", "by", ...actions, "not sent"]];
  for (const [name, one] of Object.entries(report.interfaces)) {
    const counts = actions.map((action) => String(one.actions[action]));
    rows.push([name, String(one.ifindex), one.role, one.by, ...counts, one.notSent === null ? "unknown" : String(one.notSent)]);
  }
  const lines = [
    `in ${report.place === "kernel" ? "the kernel" : "user space"}, router: ${report.router ?? "none"}`,
    columns(rows),
  ];
  for (const role of ["physical", "router"] as const) {
    const reasons = Object.entries(report.programs[role]).filter(([name, count]) => name !== "received" && count > 0);
    if (reasons.length > 0) lines.push(`dropped by ${role}: ${reasons.map(([name, count]) => `${name} ${count}`).join(", ")}`);
  }
  return lines.join("\n");
}
