/**
 * Errno values of Linux (the same on x86-64 and arm64): names, texts, and the error that a Deno user knows.
 *
 * @module
 */

/** Number to [name, text]; those that our calls can meet. */
const ERRNO: Record<number, readonly [string, string]> = {
  1: ["EPERM", "permission denied"],
  2: ["ENOENT", "no such file"],
  3: ["ESRCH", "no such entry"],
  4: ["EINTR", "interrupted"],
  5: ["EIO", "input/output error (the device is down)"],
  6: ["ENXIO", "no such device or address"],
  7: ["E2BIG", "too many or too long"],
  9: ["EBADF", "bad descriptor"],
  11: ["EAGAIN", "nothing available now"],
  12: ["ENOMEM", "out of memory"],
  13: ["EACCES", "access denied"],
  14: ["EFAULT", "bad address"],
  16: ["EBUSY", "device or name is in use"],
  17: ["EEXIST", "already exists"],
  19: ["ENODEV", "no such device"],
  20: ["ENOTDIR", "not a folder"],
  22: ["EINVAL", "invalid argument"],
  23: ["ENFILE", "too many open files in the system"],
  24: ["EMFILE", "too many open files"],
  25: ["ENOTTY", "the descriptor does not know this request"],
  28: ["ENOSPC", "no space left"],
  32: ["EPIPE", "broken pipe"],
  34: ["ERANGE", "out of range"],
  38: ["ENOSYS", "the kernel does not have this system call"],
  71: ["EPROTO", "protocol error"],
  75: ["EOVERFLOW", "value too large"],
  77: ["EBADFD", "the descriptor has no device (it was removed or never attached)"],
  90: ["EMSGSIZE", "message too long"],
  92: ["ENOPROTOOPT", "option not available"],
  93: ["EPROTONOSUPPORT", "protocol not supported"],
  95: ["EOPNOTSUPP", "not supported"],
  97: ["EAFNOSUPPORT", "address family not supported"],
  98: ["EADDRINUSE", "address already in use"],
  99: ["EADDRNOTAVAIL", "address not available"],
  100: ["ENETDOWN", "network is down"],
  101: ["ENETUNREACH", "network is unreachable"],
  104: ["ECONNRESET", "connection reset"],
  105: ["ENOBUFS", "no buffer space"],
  107: ["ENOTCONN", "not connected"],
  110: ["ETIMEDOUT", "timed out"],
  111: ["ECONNREFUSED", "connection refused"],
  113: ["EHOSTUNREACH", "no route to host"],
  114: ["EALREADY", "already under way"],
  115: ["EINPROGRESS", "under way"],
  116: ["ESTALE", "it has changed meanwhile"],
};

export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const ENOTTY = 25;
export const ENOSPC = 28;
export const ERANGE = 34;
export const ENOSYS = 38;
export const E2BIG = 7;
export const EBADFD = 77;
export const EMSGSIZE = 90;
export const EOPNOTSUPP = 95;
export const EADDRNOTAVAIL = 99;
export const ENETDOWN = 100;
export const ENOBUFS = 105;
export const ENOTCONN = 107;
export const ETIMEDOUT = 110;
export const EALREADY = 114;
export const EINPROGRESS = 115;
export const ESTALE = 116;

/** "EPERM" for 1 (or -1); "E4711" for a number that we don't know. */
export function errnoName(errno: number): string {
  const n = Math.abs(errno);
  return ERRNO[n]?.[0] ?? `E${n}`;
}

/** "permission denied" for 1 (or -1). */
export function errnoText(errno: number): string {
  const n = Math.abs(errno);
  return ERRNO[n]?.[1] ?? `error ${n}`;
}

/** 1 for "EPERM"; 0 for a name that we don't know. */
export function errnoNumber(name: string): number {
  for (const [number, [known]] of Object.entries(ERRNO)) if (known === name) return Number(number);
  return 0;
}

/** A system error: one of Deno's classes with the errno's name in `code`. */
export type SystemError = Error & { readonly code: string };

type ErrorClass = new (message: string) => Error;

/** The class that Deno itself would use. `NotCapable` is for Deno's own permissions only: the system's are `PermissionDenied`. */
function errorClass(errno: number): ErrorClass {
  switch (errnoName(errno)) {
    case "EPERM":
    case "EACCES":
      return Deno.errors.PermissionDenied;
    case "ENOENT":
    case "ESRCH":
    case "ENODEV":
    case "ENXIO":
      return Deno.errors.NotFound;
    case "EEXIST":
      return Deno.errors.AlreadyExists;
    case "EBUSY":
      return Deno.errors.Busy;
    case "EBADF":
    case "EBADFD":
      return Deno.errors.BadResource;
    case "EINVAL":
    case "ERANGE":
    case "EMSGSIZE":
    case "EPROTO":
      return Deno.errors.InvalidData;
    case "EAGAIN":
      return Deno.errors.WouldBlock;
    case "EINTR":
      return Deno.errors.Interrupted;
    case "ENOSYS":
    case "ENOTTY":
    case "EOPNOTSUPP":
    case "EAFNOSUPPORT":
    case "EPROTONOSUPPORT":
    case "ENOPROTOOPT":
      return Deno.errors.NotSupported;
    case "EADDRINUSE":
      return Deno.errors.AddrInUse;
    case "EADDRNOTAVAIL":
      return Deno.errors.AddrNotAvailable;
    case "ENETUNREACH":
    case "EHOSTUNREACH":
      return Deno.errors.NetworkUnreachable;
    case "EPIPE":
      return Deno.errors.BrokenPipe;
    case "ETIMEDOUT":
      return Deno.errors.TimedOut;
    case "ECONNRESET":
      return Deno.errors.ConnectionReset;
    case "ECONNREFUSED":
      return Deno.errors.ConnectionRefused;
    default:
      return Error;
  }
}

/**
 * The error for a failed system call: `Cannot open TAP device "tap0": permission denied (EPERM). Run as root, …`
 *
 * @param op what was tried: "open", "set the MTU of"
 * @param what on what: `TAP device "tap0"`
 * @param errno positive or negative
 * @param hint what the reader can do about it, or what the kernel said
 */
export function errnoError(op: string, what: string, errno: number, hint = ""): SystemError {
  const name = errnoName(errno);
  const end = hint === "" ? "" : `. ${hint}`;
  const error = new (errorClass(errno))(`Cannot ${op} ${what}: ${errnoText(errno)} (${name})${end}`);
  return Object.assign(error, { code: name });
}

/** What to do about a missing privilege. */
export const PRIVILEGE_HINT = "Run as root, with CAP_NET_ADMIN, or under `unshare -Urn`";
