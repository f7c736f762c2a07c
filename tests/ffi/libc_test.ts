import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Descriptor, O_RDONLY, openFile } from "../../ffi/descriptor.ts";
import { addressOf, cString, libc, libcCandidates, pointerTo } from "../../ffi/libc.ts";
import { thrown } from "./kernel.ts";

Deno.test("the C library is looked for by absolute path, glibc and musl, on both architectures", () => {
  for (const arch of ["x86_64", "aarch64"]) {
    const list = libcCandidates(arch);
    assert(list.every((path) => path.startsWith("/")));
    assert(list.includes(`/lib/${arch}-linux-gnu/libc.so.6`));
    assert(list.includes(`/lib/ld-musl-${arch}.so.1`));
  }
  assert(libc() === libc());
});

Deno.test("without --allow-ffi Deno's own error comes through", async () => {
  const url = new URL("../../ffi/libc.ts", import.meta.url);
  const program = `import { libc } from ${JSON.stringify(url.href)};
    try { libc(); } catch (error) { console.log(error.name); }`;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-prompt", `--allow-read=${new URL("../..", import.meta.url).pathname}`, "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(program));
  await writer.close();
  const output = await child.output();
  assertEquals(new TextDecoder().decode(output.stdout).trim(), "NotCapable");
});

Deno.test("errno belongs to the call before, and results are -errno", () => {
  assertEquals(openFile("/does/not/exist", O_RDONLY), -2);
  assertEquals(openFile("/proc/self/status/x", O_RDONLY), -20);
  assertEquals(openFile("/does/not/exist", O_RDONLY), -2);
});

Deno.test("a descriptor reads, is disposed, and closes once", () => {
  let kept: Descriptor;
  {
    using zero = new Descriptor(openFile("/dev/zero", O_RDONLY));
    kept = zero;
    const bytes = new Uint8Array(10).fill(1);
    assertEquals(zero.read(bytes), 10);
    assertEquals(bytes, new Uint8Array(10));
    assertEquals(zero.write(bytes), -9); // opened for reading
    assertEquals(zero.ioctl(0x5401, bytes), -25); // ENOTTY
  }
  assertEquals(kept.fd, -1);
  assertEquals(kept.close(), 0);
  assertEquals(kept.close(), 0);
  assertEquals(kept.read(new Uint8Array(1)), -9);
  assertEquals(kept.ioctl(1, 0), -9);
});

Deno.test("addresses are those that the kernel sees", () => {
  // readv-like proof by hand: /dev/zero read through the pointer clears exactly the bytes behind it.
  const bytes = new Uint8Array(100).fill(7);
  const part = bytes.subarray(10, 20);
  assertEquals(addressOf(part) - addressOf(bytes), 10);
  const lib = libc();
  using zero = new Descriptor(openFile("/dev/zero", O_RDONLY));
  assertEquals(lib.read(zero.fd, pointerTo(part), 10), 10);
  assertEquals(bytes.indexOf(0), 10);
  assertEquals(bytes.lastIndexOf(0), 19);
  assertEquals(cString("ab"), new Uint8Array([97, 98, 0]));
  assertStringIncludes(thrown(() => pointerTo(new Uint8Array(0))).message, "no bytes");
});
