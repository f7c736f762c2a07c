/**
 * Memory of another process, by its addresses. Bounded, and never half an answer: a piece that can't be read or written as
 * a whole is a bad address (EFAULT).
 *
 * The memory that an id names is that of whoever has the id *now*: a caller that must not reach a stranger checks, after
 * reading and before writing, that the one it means still lives (see `NotificationListener.isValid`).
 *
 * @module
 */
import { EFAULT, EINVAL, EMSGSIZE } from "./errno.ts";
import { addressOf, type Libc, libc, pointerTo } from "./libc.ts";

/** Most bytes of one reading or writing. */
export const TRANSFER_MAX: number = 1 << 20;
/** Beyond what a process can own on x86-64 and arm64 with 48 bits of address; larger numbers lose bits on their way, too. */
const ADDRESS_MAX = 2 ** 47;

const local = new BigUint64Array(2);
const remote = new BigUint64Array(2);
let localPointer: Deno.PointerObject | null = null;
let remotePointer: Deno.PointerObject | null = null;
/** Small pieces go by memory of our own, whose address is known: asking for one costs more than copying. */
const SMALL = 256;
const small = new Uint8Array(SMALL);
let smallAddress = 0n;

function prepare(): Libc {
  const lib = libc();
  if (localPointer === null) {
    localPointer = pointerTo(new Uint8Array(local.buffer));
    remotePointer = pointerTo(new Uint8Array(remote.buffer));
    smallAddress = BigInt(addressOf(small));
  }
  return lib;
}

/** Why a piece is out of the question, as a negative errno, or 0. */
function refuse(tid: number, address: number, length: number): number {
  if (!(tid > 0)) return -EINVAL;
  if (length > TRANSFER_MAX) return -EMSGSIZE;
  return Number.isSafeInteger(address) && address > 0 && address + length <= ADDRESS_MAX ? 0 : -EFAULT;
}

function aim(bytes: Uint8Array<ArrayBuffer>, address: number): void {
  local[0] = bytes.length <= SMALL ? smallAddress : BigInt(addressOf(bytes));
  local[1] = remote[1] = BigInt(bytes.length);
  remote[0] = BigInt(address);
}

/**
 * Fills `bytes` with what stands at `address`.
 *
 * @param tid any thread of the process
 * @returns 0, or -EFAULT (nothing there, or not all of it), -EMSGSIZE (over {@link TRANSFER_MAX}), -ESRCH (gone), -EPERM
 */
export function readProcess(tid: number, address: number, bytes: Uint8Array<ArrayBuffer>): number {
  const refused = refuse(tid, address, bytes.length);
  if (refused !== 0 || bytes.length === 0) return refused;
  const lib = prepare();
  aim(bytes, address);
  const n = lib.processVmReadv(tid, localPointer, 1, remotePointer, 1, 0);
  if (n < 0) return -lib.errno[0];
  if (n < bytes.length) return -EFAULT;
  if (n <= SMALL) {
    for (let i = 0; i < n; i++) bytes[i] = small[i];
  }
  return 0;
}

/** Writes `bytes` to `address`: as {@link readProcess}. What is written up to the first bad byte stays written, as in the kernel. */
export function writeProcess(tid: number, address: number, bytes: Uint8Array<ArrayBuffer>): number {
  const refused = refuse(tid, address, bytes.length);
  if (refused !== 0 || bytes.length === 0) return refused;
  const lib = prepare();
  aim(bytes, address);
  if (bytes.length <= SMALL) small.set(bytes);
  const n = lib.processVmWritev(tid, localPointer, 1, remotePointer, 1, 0);
  if (n < 0) return -lib.errno[0];
  return n < bytes.length ? -EFAULT : 0;
}

const page = new Uint8Array(256);

/**
 * A text with a zero at its end: a path, a name. Read piece by piece, none of which crosses a page: what lies behind the
 * end may be nobody's memory.
 *
 * @returns the bytes without the zero, or -EFAULT, or -EMSGSIZE when there is no zero in `max` bytes
 */
export function readProcessText(tid: number, address: number, max = 4096): Uint8Array<ArrayBuffer> | number {
  const parts: number[] = [];
  while (parts.length <= max) {
    const at = address + parts.length;
    const length = page.length - at % page.length;
    const piece = page.subarray(0, length);
    const code = readProcess(tid, at, piece);
    if (code < 0) return code;
    for (let i = 0; i < length; i++) {
      if (piece[i] === 0) return parts.length > max ? -EMSGSIZE : Uint8Array.from(parts);
      parts.push(piece[i]);
    }
  }
  return -EMSGSIZE;
}
