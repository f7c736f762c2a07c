import { assert } from "@std/assert";
import fc from "fast-check";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import { CLOSED, TIME_WAIT } from "../../../stack/tcp/types.ts";
import { type LinkOptions, TcpPair } from "../../testing/tcp_pair.ts";

const LONG = Deno.env.get("TAPIOCA_LONG") === "1";

type Step =
  | { do: "write"; end: number; size: number }
  | { do: "read"; end: number; size: number }
  | { do: "wait"; ms: number }
  | { do: "shut"; end: number }
  | { do: "loss"; p: number };

const end = fc.integer({ min: 0, max: 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("write" as const), end, size: fc.integer({ min: 1, max: 60_000 }) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("read" as const), end, size: fc.integer({ min: 1, max: 60_000 }) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 3000 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("shut" as const), end }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("loss" as const), p: fc.constantFrom(0, 0.05, 0.3, 1) }) },
);
const link: fc.Arbitrary<LinkOptions> = fc.record({
  delayMs: fc.integer({ min: 0, max: 100 }),
  loss: fc.constantFrom(0, 0, 0.02, 0.1),
  duplicate: fc.constantFrom(0, 0.1),
  reorder: fc.constantFrom(0, 0.2),
  mtu: fc.constantFrom(1500, 576, 9000),
  segmentation: fc.constantFrom(0, 65_535),
});
const options = fc.record({
  sack: fc.boolean(),
  timestamps: fc.boolean(),
  windowScale: fc.boolean(),
  noDelay: fc.boolean(),
  receiveBufferMax: fc.constantFrom(2048, 20_000, 300_000, 4 << 20),
  sendBufferMax: fc.constantFrom(3000, 300_000),
});

/** One end: what it wrote, and what it read, as counts; the bytes are a function of their place. */
class End {
  wrote = 0;
  got = 0;
  constructor(readonly tcb: Tcb, readonly salt: number) {}

  byte(place: number): number {
    return (place * 7 + (place >> 9) + this.salt) & 255;
  }

  write(size: number): void {
    if (this.tcb.writeShut) return;
    const bytes = Uint8Array.from({ length: size }, (_, i) => this.byte(this.wrote + i));
    this.wrote += Math.max(0, this.tcb.send(bytes, 0, size));
  }

  read(size: number, from: End): void {
    const into = new Uint8Array(size);
    const n = this.tcb.receive(into, 0, size);
    for (let i = 0; i < n; i++) assert(into[i] === from.byte(this.got + i), `byte ${this.got + i} is wrong`);
    this.got += Math.max(0, n);
  }
}

Deno.test("any schedule of writes, reads, pauses, half-closes and losses delivers exactly the bytes, then the end", () => {
  const property = fc.property(
    link,
    options,
    options,
    fc.array(step, { maxLength: 40 }),
    fc.integer({ min: 1, max: 1000 }),
    (link, one, two, steps, seed) => {
      const usual = link.loss;
      const pair = new TcpPair({ ...link }, seed, [{ defaults: one }, { defaults: two }]);
      const ends = pair.connected().map((tcb, i) => new End(tcb, i * 100));
      for (const s of steps) {
        if (s.do === "write") ends[s.end].write(s.size);
        else if (s.do === "read") ends[s.end].read(s.size, ends[1 - s.end]);
        else if (s.do === "wait") pair.run(s.ms);
        else if (s.do === "shut") ends[s.end].tcb.shutdownWrite();
        else pair.link.loss = s.p;
      }
      pair.link.loss = usual;
      const done = () => {
        for (const [i, e] of ends.entries()) {
          e.tcb.shutdownWrite();
          e.read(1 << 17, ends[1 - i]);
        }
        pair.flush();
        return ends.every((e) => e.tcb.finReceived && e.tcb.receiveQueued === 0);
      };
      assert(
        pair.run(4 * 3600_000, done),
        `stuck: ${ends.map((e, i) => `${e.got} of ${ends[1 - i].wrote}, ${e.tcb.info().state}`)}`,
      );
      for (const [i, e] of ends.entries()) assert(e.got === ends[1 - i].wrote, `${e.got} of ${ends[1 - i].wrote} bytes`);
      pair.run(600_000);
      for (const e of ends) assert(e.tcb.state === CLOSED || e.tcb.state === TIME_WAIT);
      for (const tcp of pair.tcps) assert(tcp.table.size === 0 && tcp.pool.used === 0 && tcp.nextDeadline() === Infinity);
    },
  );
  fc.assert(property, { numRuns: LONG ? 5000 : 200, seed: LONG ? undefined : 7 });
});
