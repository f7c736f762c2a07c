/**
 * The C library, opened once, when it is first needed. Every binding follows what was measured: sizes are u32, results
 * i32 and buffers of the hot calls are pointers made once (a 64-bit parameter or a fresh `subarray` costs more than the
 * system call). One C function is bound under several names, one per shape of its arguments.
 *
 * @module
 */

const symbols = {
  errnoLocation: { name: "__errno_location", parameters: [], result: "pointer" },
  // Hot: memory at an address that the caller made a pointer for once.
  read: { parameters: ["i32", "pointer", "u32"], result: "i32" },
  write: { parameters: ["i32", "pointer", "u32"], result: "i32" },
  writev: { parameters: ["i32", "pointer", "u32"], result: "i32" },
  // The same for a typed array at hand.
  readBytes: { name: "read", parameters: ["i32", "buffer", "u32"], result: "i32" },
  writeBytes: { name: "write", parameters: ["i32", "buffer", "u32"], result: "i32" },
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "u32"], result: "i32" },
  ioctlValue: { name: "ioctl", parameters: ["i32", "u32", "u32"], result: "i32" },
  ioctlBytes: { name: "ioctl", parameters: ["i32", "u32", "buffer"], result: "i32" },
  ioctlPointer: { name: "ioctl", parameters: ["i32", "u32", "pointer"], result: "i32" },
  // Memory of another process, by two lists of pieces.
  processVmReadv: { name: "process_vm_readv", parameters: ["i32", "pointer", "u32", "pointer", "u32", "u32"], result: "i32" },
  processVmWritev: { name: "process_vm_writev", parameters: ["i32", "pointer", "u32", "pointer", "u32", "u32"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  send: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  sendNothing: { name: "sendto", parameters: ["i32", "pointer", "u32", "i32", "pointer", "u32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  accept: { name: "accept4", parameters: ["i32", "pointer", "pointer", "i32"], result: "i32" },
  sendmsg: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  recvmsg: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  // Cold: offsets and sizes of 64 bits.
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  readlink: { parameters: ["buffer", "buffer", "u32"], result: "i32" },
  prctl: { parameters: ["i32", "u32", "u32", "u32", "u32"], result: "i32" },
  seccomp: { name: "syscall", parameters: ["u32", "u32", "u32", "buffer"], result: "i32" },
  memfdCreate: { name: "memfd_create", parameters: ["buffer", "u32"], result: "i32" },
  poll: { parameters: ["buffer", "u32", "i32"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  epollCreate: { name: "epoll_create1", parameters: ["i32"], result: "i32" },
  epollControl: { name: "epoll_ctl", parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  epollWait: { name: "epoll_wait", parameters: ["i32", "buffer", "i32", "i32"], result: "i32", nonblocking: true },
  epollNow: { name: "epoll_wait", parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
  schedYield: { name: "sched_yield", parameters: [], result: "i32" },
  unshare: { parameters: ["i32"], result: "i32" },
  setns: { parameters: ["i32", "i32"], result: "i32" },
  // bpf(2): the number of the system call, a command, its attributes and their size.
  bpf: { name: "syscall", parameters: ["i32", "i32", "buffer", "u32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The functions of the C library that we use; each returns what C returns, see {@link Libc.errno}. */
export type LibcSymbols = Deno.DynamicLibrary<typeof symbols>["symbols"];

/** The opened library. */
export interface Libc extends LibcSymbols {
  /** One live cell: errno of the isolate's thread. Read it right after a failed synchronous call. */
  readonly errno: Int32Array;
}

/** Where C libraries live: glibc and musl, by architecture, most common first. Absolute, so that `--allow-ffi=PATH` can grant one. */
export function libcCandidates(arch: string = Deno.build.arch): string[] {
  const debian = `/lib/${arch}-linux-gnu/libc.so.6`;
  const list = [debian, `/usr${debian}`, "/lib64/libc.so.6", "/usr/lib64/libc.so.6", "/usr/lib/libc.so.6", "/lib/libc.so.6"];
  return [...list, `/lib/ld-musl-${arch}.so.1`, `/lib/libc.musl-${arch}.so.1`];
}

let opened: Libc | null = null;

/**
 * The C library; opened at the first call and kept (a process has it open anyway).
 *
 * @throws {Deno.errors.NotCapable} without `--allow-ffi`
 * @throws {Deno.errors.NotSupported} when this is no Linux, or no C library was found
 */
export function libc(): Libc {
  return opened ??= openLibc();
}

function openLibc(): Libc {
  if (Deno.build.os !== "linux") {
    throw Object.assign(new Deno.errors.NotSupported(`Cannot open the C library: this needs Linux, not ${Deno.build.os}`), {
      code: "ENOSYS",
    });
  }
  const candidates = libcCandidates();
  let refused: unknown = null;
  let reason = "";
  for (const path of candidates) {
    try {
      // Never closed: every call until the end of the process goes through it.
      const { symbols: found } = Deno.dlopen(path, symbols);
      const cell = found.errnoLocation();
      if (cell === null) continue;
      return Object.assign(Object.create(null), found, {
        errno: new Int32Array(Deno.UnsafePointerView.getArrayBuffer(cell, 4)),
      }) as Libc;
    } catch (error) {
      // A scoped grant names one of the paths: go on, and tell about the refusal only if none of them opened.
      if (error instanceof Deno.errors.NotCapable) refused ??= error;
      else reason ||= error instanceof Error ? error.message : String(error);
    }
  }
  if (refused !== null) throw refused;
  const message = `Cannot open the C library: none of ${candidates.join(", ")} could be opened (${reason})`;
  throw Object.assign(new Deno.errors.NotSupported(message), { code: "ENOENT" });
}

/** A C string: UTF-8 with a zero at its end. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(text);
  const out = new Uint8Array(bytes.length + 1);
  out.set(bytes);
  return out;
}

/** Where the bytes live in the process, as a number (addresses fit 2^47). Valid while the bytes are referenced. */
export function addressOf(bytes: Uint8Array<ArrayBuffer>): number {
  return Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
}

/** A pointer to the bytes, to be made once and kept: making one costs more than a system call. */
export function pointerTo(bytes: Uint8Array<ArrayBuffer> | Uint32Array<ArrayBuffer>): Deno.PointerObject {
  const pointer = Deno.UnsafePointer.of(bytes);
  if (pointer === null) throw new TypeError("Cannot make a pointer to no bytes");
  return pointer;
}
