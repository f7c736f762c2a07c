/** The filter, instruction by instruction, against a plain statement of what it says. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { WATCHED } from "../../drivers/supervisor/requests.ts";
import { filterProgram, ownCode, systemCalls } from "../../ffi/seccomp.ts";

const ALLOW = 0x7fff0000, NOTIFY = 0x7fc00000;

interface Call {
  nr: number;
  arch: number;
  ip: number;
  args: number[];
}

/** What the kernel's interpreter of classic BPF does. */
function interpret(program: Uint8Array<ArrayBuffer>, { nr, arch, ip, args }: Call): number {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, nr, true);
  data.setUint32(4, arch, true);
  [ip, ...args].forEach((value, i) => data.setBigUint64(8 + 8 * i, BigInt(value), true));
  const view = new DataView(program.buffer);
  let a = 0;
  for (let at = 0; at < program.length / 8; at++) {
    const code = view.getUint16(8 * at, true), k = view.getUint32(8 * at + 4, true);
    const jump = (taken: boolean) => at += view.getUint8(8 * at + (taken ? 2 : 3));
    if (code === 0x20) a = data.getUint32(k, true);
    else if (code === 0x54) a = (a & k) >>> 0;
    else if (code === 0x15) jump(a === k);
    else if (code === 0x25) jump(a > k);
    else if (code === 0x35) jump(a >= k);
    else if (code === 0x06) return k;
    else throw new Error(`instruction ${code}`);
  }
  throw new Error("it ran off the end");
}

for (const arch of ["x86_64", "aarch64"]) {
  Deno.test(`the filter of ${arch}: watched requests, openings for reading, and nothing else`, () => {
    const calls = systemCalls(arch);
    const own: [number, number][] = [[0x7f00_0000_1000, 0x7f00_0002_0000], [0x7eff_ffff_f000, 0x7f00_0000_1000 - 0x800]];
    const program = filterProgram({ ioctls: WATCHED, opens: true }, calls, own);
    const closed = filterProgram({ ioctls: WATCHED, opens: false }, calls, own);
    const elsewhere = 0x5555_0000_1234;
    const call = (nr: number, args: number[], ip = elsewhere, audit = calls.audit) =>
      interpret(program, { nr, arch: audit, ip, args: [...args, 0, 0, 0].slice(0, 6) });
    for (let request = 0x8880; request < 0x8b00; request++) {
      const watched = WATCHED.some(([from, to]) => request >= from && request <= to);
      assertEquals(call(calls.ioctl, [3, request]), watched ? NOTIFY : ALLOW, request.toString(16));
      // The kernel takes 32 bits of it.
      assertEquals(call(calls.ioctl, [3, request + 2 ** 32]), watched ? NOTIFY : ALLOW);
    }
    for (const [flags, notify] of [[0, 1], [0x80000, 1], [0x800, 1], [1, 0], [2, 0], [0x40, 0], [0x241, 0], [0x200000, 0]]) {
      assertEquals(call(calls.openat, [0, 0, flags]), notify ? NOTIFY : ALLOW, flags.toString(16));
      if (calls.open !== null) assertEquals(call(calls.open, [0, flags]), notify ? NOTIFY : ALLOW);
      assertEquals(interpret(closed, { nr: calls.openat, arch: calls.audit, ip: 1, args: [0, 0, flags, 0, 0, 0] }), ALLOW);
    }
    // What our own code opens is left alone, to the byte.
    for (const [from, to] of own) {
      for (const [ip, ours] of [[from - 1, 0], [from, 1], [from + 5, 1], [to - 1, 1], [to, 0]]) {
        const expected = ours || own.some(([a, b]) => ip >= a && ip < b) ? ALLOW : NOTIFY;
        assertEquals(call(calls.openat, [3, 0, 0], ip), expected, ip.toString(16));
        assertEquals(call(calls.ioctl, [3, 0x89f0], ip), NOTIFY);
      }
    }
    for (const nr of [0, 1, 60, 230, 437, 0x40000000 + calls.ioctl]) assertEquals(call(nr, [3, 0x89f0]), ALLOW);
    assertEquals(call(calls.ioctl, [3, 0x89f0], elsewhere, 0x40000003), ALLOW, "another architecture's program");
    assert(program.length / 8 < 256, "jumps reach 255 instructions");
  });
}

Deno.test("a machine whose numbers aren't known is told so", () => {
  const error = assertThrows(() => systemCalls("riscv64"), Deno.errors.NotSupported, "riscv64");
  assertEquals((error as { code?: string }).code, "ENOSYS");
});

Deno.test("our own code is the C library's and the loader's", () => {
  const maps = [
    "7f00a000-7f00b000 r--p 00000000 08:01 1 /usr/lib/x86_64-linux-gnu/libc.so.6",
    "7f00b000-7f00d000 r-xp 00001000 08:01 1 /usr/lib/x86_64-linux-gnu/libc.so.6",
    "7f00e000-7f00f000 r-xp 00000000 08:01 2 /lib/ld-musl-x86_64.so.1",
    "7f010000-7f011000 r-xp 00000000 08:01 3 /usr/lib/libcap.so.2",
    "7f012000-7f013000 r-xp 00000000 00:00 0 [vdso]",
  ];
  assertEquals(ownCode(maps.join("\n")), [[0x7f00b000, 0x7f00d000], [0x7f00e000, 0x7f00f000]]);
});
