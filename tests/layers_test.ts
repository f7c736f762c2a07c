/**
 * Imports run one way (DESIGN, "Rooms"), and what a room may use is what it may use: held by a test, so that it cannot rot.
 */
import { assertEquals } from "@std/assert";
import { blank, importsOf, read, resolveImport, sourceFiles } from "./testing/sources.ts";

/** Where a file of a room may import from; the first matching room counts. */
const ROOMS: { room: RegExp; may: RegExp[] }[] = [
  { room: /^ffi\//, may: [/^ffi\//] },
  { room: /^stack\/wire\//, may: [/^stack\/wire\//] },
  // The device contract and the codes stand beside wire/: below everything that has state.
  { room: /^stack\/(device|codes)\.ts$/, may: [/^stack\/(device|codes)\.ts$/, /^stack\/wire\//] },
  { room: /^stack\/(random|checks)\.ts$/, may: [] },
  { room: /^stack\/ip\//, may: [/^stack\/(device|codes)\.ts$/, /^stack\/(wire|ip)\//] },
  { room: /^stack\/udp\//, may: [/^stack\/(device|codes)\.ts$/, /^stack\/(wire|ip|udp)\//] },
  { room: /^stack\/tcp\//, may: [/^stack\/(device|codes)\.ts$/, /^stack\/(wire|ip|tcp)\//] },
  { room: /^stack\/bare\//, may: [/^stack\/(device|codes|random|checks)\.ts$/, /^stack\/(wire|ip|udp|tcp|bare)\//] },
  { room: /^stack\/host\//, may: [/^stack\//, /^node:/] },
  // A simulated network is made of devices and of whole hosts: it stands above both.
  { room: /^drivers\/network\.ts$/, may: [/^drivers\//, /^stack\/((device|checks)\.ts$|host\/)/] },
  {
    room: /^drivers\//,
    may: [
      /^drivers\//,
      /^ffi\//,
      /^stack\/(device|codes|checks)\.ts$/,
      /^stack\/wire\//,
      // What faults need: time and chance, which are given to them, and what the stack itself does for devices without offload.
      /^stack\/host\/(clock|random)\.ts$/,
      /^stack\/ip\/offload\.ts$/,
      /^node:/,
    ],
  },
  // A host in a worker is a device and a host and the way between two threads: it stands above both, and reaches no libc itself.
  { room: /^workers\//, may: [/^workers\//, /^drivers\//, /^stack\//] },
  // A gateway is a host and what carries its guests' flows on: it stands above the stack, and is given its device.
  { room: /^gateway\//, may: [/^gateway\//, /^stack\//, /^node:/] },
  // Programs that know no stack run over one: it stands above the host, and knows Node's inside.
  { room: /^runtime\//, may: [/^runtime\//, /^stack\/(host|wire)\//, /^stack\/codes\.ts$/, /^node:/] },
  // What a seed of this project had: a driver, a card and an interface, in one piece.
  { room: /^virtio_net\//, may: [/^virtio_net\//, /^drivers\//, /^stack\//] },
  { room: /^mod\.ts$/, may: [/^runtime\//, /^workers\//, /^gateway\//, /^virtio_net\//, /^drivers\//, /^stack\//] },
  { room: /^examples\//, may: [/^examples\//, /^mod\.ts$/, /^@std\//, /^node:/] },
];

function files(): string[] {
  return [
    "mod.ts",
    ...["ffi", "stack", "drivers", "workers", "gateway", "runtime", "virtio_net", "examples"].flatMap((
      folder,
    ) => [...sourceFiles(folder)]),
  ];
}

/** Imports that leave a room by a wall, as "file -> import". */
function wrongImports(path: string, source: string): string[] {
  const room = ROOMS.find(({ room }) => room.test(path));
  const targets = importsOf(source).map((specifier) => resolveImport(path, specifier));
  if (room === undefined) return targets.map((target) => `${path} -> ${target} (a room that ROOMS doesn't know)`);
  return targets.filter((target) => !room.may.some((rule) => rule.test(target))).map((target) => `${path} -> ${target}`);
}

/** What a file below stack/host may not use: an environment of its own, a clock, promises. */
const FORBIDDEN: [RegExp, string][] = [
  [/\bDeno\b/, "the Deno namespace"],
  [/\b(async|await)\b|\bPromise\b|\bqueueMicrotask\b/, "something asynchronous"],
  [/\bset(Timeout|Interval|Immediate)\b/, "a timer"],
  [/\bperformance\b|\bDate\b/, "a clock"],
  [/\bMath\.random\b|\bcrypto\b/, "randomness of its own"],
  [/\bprocess\b|\bconsole\b/, "its surroundings"],
];

function forbidden(path: string, source: string): string[] {
  const code = blank(source);
  return FORBIDDEN.filter(([pattern]) => pattern.test(code)).map(([, what]) => `${path} uses ${what}`);
}

Deno.test("imports run one way: examples -> mod.ts -> drivers, stack/host -> stack -> stack/wire, and drivers -> ffi", () => {
  assertEquals(files().flatMap((path) => wrongImports(path, read(path))), []);
});

Deno.test("below stack/host nothing is asynchronous, has a clock, or knows where it runs", () => {
  const below = [...sourceFiles("stack")].filter((path) => !path.startsWith("stack/host/"));
  assertEquals(below.flatMap((path) => forbidden(path, read(path))), []);
});

Deno.test("the layers test sees what it is there to see", () => {
  assertEquals(wrongImports("stack/tcp/a.ts", 'import { b } from "../../drivers/tap.ts";'), ["stack/tcp/a.ts -> drivers/tap.ts"]);
  assertEquals(wrongImports("stack/ip/a.ts", 'export * from "../udp/b.ts";'), ["stack/ip/a.ts -> stack/udp/b.ts"]);
  assertEquals(wrongImports("stack/ip/a.ts", '// import { b } from "../udp/b.ts";\nimport "../codes.ts";'), []);
  assertEquals(forbidden("a.ts", "const t = `${Date.now()}`; // Promise"), ["a.ts uses a clock"]);
  assertEquals(forbidden("a.ts", "/* async */ const s = 'Deno'; const r = /Promise`/;"), []);
});
