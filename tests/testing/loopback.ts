/**
 * Brings `lo` up by one ioctl, without `ip` and without the project's own netlink: the harness must not depend on
 * what it is there to test.
 *
 * @module
 */

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SIOCSIFFLAGS = 0x8914;
const IFF_UP_RUNNING = 0x41;
const LIBC = [
  "/lib/x86_64-linux-gnu/libc.so.6",
  "/lib/aarch64-linux-gnu/libc.so.6",
  "/lib64/libc.so.6",
  "/lib/ld-musl-x86_64.so.1",
  "/lib/ld-musl-aarch64.so.1",
  "libc.so.6",
];
const SYMBOLS = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  ioctl: { parameters: ["i32", "u32", "buffer"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
} as const;

/** The three calls that an ioctl needs. */
export function openLibc(): Deno.DynamicLibrary<typeof SYMBOLS> {
  for (const path of LIBC) {
    try {
      return Deno.dlopen(path, SYMBOLS);
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
    }
  }
  throw new Error(`Cannot bring lo up: no libc at ${LIBC.join(", ")}`);
}

/** Does nothing harmful when `lo` is up already. */
export function setLoopbackUp(): void {
  const libc = openLibc();
  const request = new Uint8Array(40);
  request.set(new TextEncoder().encode("lo"));
  new DataView(request.buffer).setInt16(16, IFF_UP_RUNNING, true);
  const fd = libc.symbols.socket(AF_INET, SOCK_DGRAM, 0);
  const result = libc.symbols.ioctl(fd, SIOCSIFFLAGS, request);
  libc.symbols.close(fd);
  libc.close();
  if (result !== 0) throw new Error("Cannot bring lo up: the ioctl was refused");
}
