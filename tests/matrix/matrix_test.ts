// The seeded matrix against the committed table: a change of the machine shows as a change of its figures.
import { assert, assertEquals, assertGreater } from "@std/assert";
import { runCell } from "./cells.ts";
import { committed, everyCell, render, runAll, SMOLTCP } from "./matrix.ts";

Deno.test("the seeded matrix: 10 MiB in every cell, SHA-256 equal, and the throughput is the committed one to the byte", async () => {
  const cells = everyCell();
  const table = committed();
  assertEquals(table.length, cells.length);
  const differ: string[] = [];
  let done = 0;
  await runAll(cells, (index, rate) => {
    done++;
    if (rate !== table[index]) differ.push(`${JSON.stringify(cells[index])}: ${rate} instead of ${table[index]}`);
  });
  assertEquals(done, cells.length);
  assertEquals(differ.slice(0, 20), [], `${differ.length} cells: if that is meant, \`deno task matrix --update\``);
});

Deno.test("a small cell by itself, and the table that people read", async () => {
  assertGreater(await runCell({ condition: "all", loss: 4, window: 0, rtt: 0 }, 65_536), 1000);
  const shown = render(committed());
  for (const rate of SMOLTCP) if (rate !== null) assert(shown.includes(String(rate)));
  assertEquals(shown.split("\n").filter((line) => line.includes("KiB, 100 ms")).length, 15);
});
