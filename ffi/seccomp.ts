/**
 * Seccomp with user notification: a filter in the calling thread, which the children that it starts inherit, hands chosen
 * system calls to whoever holds the listener. That one answers instead of the kernel, or lets the kernel go on.
 *
 *     struct seccomp_notif, 80 bytes                        struct seccomp_notif_resp, 24 bytes
 *      0        8     12     16    20    24   32       80    0     8      16     20     24
 *     +--------+-----+------+-----+-----+----+--------+     +-----+------+------+------+
 *     | id     | tid | flags| nr  | arch| ip | args[6]|     | id  | val  | error| flags|
 *     +--------+-----+------+-----+-----+----+--------+     +-----+------+------+------+
 *
 * @module
 */
import { Descriptor } from "./descriptor.ts";
import { EACCES, EBUSY, EINVAL, ENOENT, ENOSYS, errnoError } from "./errno.ts";
import { addressOf, type Libc, libc, pointerTo } from "./libc.ts";
import { pollNow } from "./poll.ts";

/** System calls of an architecture by number; `open` is null where there is none. */
export interface SystemCalls {
  /** The architecture as the kernel's audit names it. */
  readonly audit: number;
  readonly ioctl: number;
  readonly open: number | null;
  readonly openat: number;
  readonly seccomp: number;
}

const CALLS: Record<string, SystemCalls> = {
  x86_64: { audit: 0xc000003e, ioctl: 16, open: 2, openat: 257, seccomp: 317 },
  aarch64: { audit: 0xc00000b7, ioctl: 29, open: null, openat: 56, seccomp: 277 },
};

/** The numbers of the machine's architecture. @throws `NotSupported` (ENOSYS) for one whose numbers we don't have */
export function systemCalls(arch: string = Deno.build.arch): SystemCalls {
  const calls = CALLS[arch];
  if (calls !== undefined) return calls;
  throw errnoError("watch", "system calls", ENOSYS, `The numbers of ${arch} are not known; x86_64 and aarch64 are`);
}

const SET_MODE_FILTER = 1;
const NEW_LISTENER = 8;
/** Once taken, a request can be ended by death only: with a mere signal it would be applied, and then made again. */
const WAIT_KILLABLE_RECV = 32;
const PR_SET_NO_NEW_PRIVS = 38;

const RECV = 0xc0502100;
const SEND = 0xc0182101;
const ID_VALID = 0x40082102;
const ADDFD = 0x40182103;
const SET_FLAGS = 0x40082104;
const FLAG_CONTINUE = 1;
const ADDFD_SEND = 2;
const SYNC_WAKE_UP = 1;
const O_CLOEXEC = 0x80000;

const RETURN_ALLOW = 0x7fff0000;
const RETURN_NOTIFY = 0x7fc00000;

// Classic BPF over struct seccomp_data: nr at 0, arch at 4, args at 16, 8 bytes each, the low half first.
const LOAD = 0x20;
const JUMP_EQUAL = 0x15;
const JUMP_GREATER_OR_EQUAL = 0x35;
const JUMP_GREATER = 0x25;
const AND = 0x54;
const RETURN = 0x06;
const ARCH_AT = 4;
const argAt = (index: number) => 16 + 8 * index;

/** Which calls are handed over. */
export interface Watched {
  /** Ioctl requests, as ranges with both ends. */
  readonly ioctls: readonly Range[];
  /** Also `open` and `openat` for reading only. */
  readonly opens: boolean;
}

/** Addresses, from the first to before the last. */
type Range = readonly [from: number, to: number];

/**
 * Where this process's own system calls come from: the code of its C library and its loader. The filtered thread is one of
 * ours, and may hold a lock that whoever answers needs: it must never wait for the opening of a file. A program that it starts
 * has its libraries elsewhere, by the kernel's choice at random; where that choice is turned off, its files are left alone too.
 */
export function ownCode(maps: string = Deno.readTextFileSync("/proc/self/maps")): Range[] {
  const found: Range[] = [];
  for (const line of maps.split("\n")) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) r-xp .*\/(?:libc[.-]|ld-|libpthread[.-])[^/]*$/.exec(line);
    if (match !== null) found.push([parseInt(match[1], 16), parseInt(match[2], 16)]);
  }
  return found;
}

type Instruction = readonly [code: number, k: number, ifTrue: number, ifFalse: number];

const IP_LOW_AT = 8;
const IP_HIGH_AT = 12;

/** Allows what is called from these addresses. */
function allowFrom(ranges: readonly Range[]): Instruction[] {
  // The halves of an address are compared one after the other: no range may reach over a multiple of 4 GiB.
  const split = ranges.flatMap(([from, to]): Range[] => {
    const border = Math.floor((to - 1) / 2 ** 32) * 2 ** 32;
    return from < border ? [[from, border], [border, to]] : [[from, to]];
  });
  return split.flatMap(([from, to]): Instruction[] => [
    [LOAD, IP_HIGH_AT, 0, 0],
    [JUMP_EQUAL, Math.floor(from / 2 ** 32), 0, 4],
    [LOAD, IP_LOW_AT, 0, 0],
    [JUMP_GREATER_OR_EQUAL, from % 2 ** 32, 0, 2],
    [JUMP_GREATER, (to - 1) % 2 ** 32, 1, 0],
    [RETURN, RETURN_ALLOW, 0, 0],
  ]);
}

/** Notifies if argument `index`, masked, is in one of the ranges, else allows. */
function test(index: number, mask: number, ranges: Watched["ioctls"]): Instruction[] {
  const program: Instruction[] = [[LOAD, argAt(index), 0, 0]];
  if (mask !== 0) program.push([AND, mask, 0, 0]);
  for (const [from, to] of ranges) {
    // Below the range: on to the next. Above it: on to the next. Else the return between them.
    program.push([JUMP_GREATER_OR_EQUAL, from, 0, 2], [JUMP_GREATER_OR_EQUAL, to + 1, 1, 0], [RETURN, RETURN_NOTIFY, 0, 0]);
  }
  program.push([RETURN, RETURN_ALLOW, 0, 0]);
  return program;
}

/** O_ACCMODE, O_CREAT, O_TRUNC, O_DIRECTORY (both architectures' bits) and O_PATH: with any of them it isn't the reading of a file. */
const NOT_READING = 0x3 | 0x40 | 0x200 | 0x4000 | 0x10000 | 0x200000;

/**
 * The filter as the kernel takes it, 8 bytes an instruction.
 *
 * @param own where openings come from that are left alone
 */
export function filterProgram(
  { ioctls, opens }: Watched,
  calls: SystemCalls,
  own: readonly Range[] = [],
): Uint8Array<ArrayBuffer> {
  // Nothing of ours asks for interfaces. Where calls come from is looked at behind their numbers only: the kernel keeps a
  // table of the numbers that are always allowed.
  const blocks: [number, Instruction[]][] = [[calls.ioctl, test(1, 0, ioctls)]];
  const ours = allowFrom(own);
  if (opens) {
    blocks.push([calls.openat, [...ours, ...test(2, NOT_READING, [[0, 0]])]]);
    if (calls.open !== null) blocks.push([calls.open, [...ours, ...test(1, NOT_READING, [[0, 0]])]]);
  }
  // A program of another architecture (32 bits) has other structures: it is left alone.
  const program: Instruction[] = [[LOAD, ARCH_AT, 0, 0], [JUMP_EQUAL, calls.audit, 1, 0], [RETURN, RETURN_ALLOW, 0, 0], [
    LOAD,
    0,
    0,
    0,
  ]];
  for (const [number, block] of blocks) program.push([JUMP_EQUAL, number, 0, block.length], ...block);
  program.push([RETURN, RETURN_ALLOW, 0, 0]);
  const bytes = new Uint8Array(8 * program.length);
  const view = new DataView(bytes.buffer);
  program.forEach(([code, k, ifTrue, ifFalse], i) => {
    view.setUint16(8 * i, code, true);
    view.setUint8(8 * i + 2, ifTrue);
    view.setUint8(8 * i + 3, ifFalse);
    view.setUint32(8 * i + 4, k, true);
  });
  return bytes;
}

/**
 * Puts the filter into the calling thread, for good, and returns the listener's descriptor. Only threads and children that
 * this thread starts from now on have it too. Without CAP_SYS_ADMIN the thread first gives up gaining privileges
 * (`no_new_privs`): set-user-id programs below it then run without theirs.
 *
 * @throws `NotSupported` (ENOSYS) for a kernel before 5.19 or without seccomp, `Busy` (EBUSY) under another supervisor
 */
export function installListener(watched: Watched): number {
  const calls = systemCalls();
  const lib = libc();
  const program = filterProgram(watched, calls, ownCode());
  // struct sock_fprog and its program in one piece: what the call is given keeps both alive.
  const header = new Uint8Array(16 + program.length);
  header.set(program, 16);
  const view = new DataView(header.buffer);
  view.setUint16(0, program.length / 8, true);
  view.setBigUint64(8, BigInt(addressOf(header) + 16), true);
  const install = () => {
    const fd = lib.seccomp(calls.seccomp, SET_MODE_FILTER, NEW_LISTENER | WAIT_KILLABLE_RECV, header);
    return fd >= 0 ? fd : -lib.errno[0];
  };
  let fd = install();
  if (fd === -EACCES && lib.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) === 0) fd = install();
  if (fd >= 0) return fd;
  const hint = fd === -EBUSY ? "This process is itself supervised, and there can be one supervisor only" : "";
  const old = fd === -EINVAL || fd === -ENOSYS;
  throw errnoError("watch", "system calls", old ? ENOSYS : fd, old ? "It needs Linux 5.19 with seccomp" : hint);
}

/** A system call that waits for its answer. One record is used for all. */
export class Notification {
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(80);
  readonly view: DataView<ArrayBuffer> = new DataView(this.bytes.buffer);

  /** Names the waiting call until it is answered. */
  get id(): bigint {
    return this.view.getBigUint64(0, true);
  }

  /** The calling thread, as our process namespace numbers it; 0 if it isn't in there. */
  get tid(): number {
    return this.view.getInt32(8, true);
  }

  /** The system call's number. */
  get call(): number {
    return this.view.getInt32(16, true);
  }

  /** An argument as a number; pointers fit. */
  arg(index: number): number {
    const at = 32 + 8 * index;
    return this.view.getUint32(at, true) + this.view.getUint32(at + 4, true) * 2 ** 32;
  }

  /** The low half of an argument, signed: what a call takes of an `int`. */
  intArg(index: number): number {
    return this.view.getInt32(32 + 8 * index, true);
  }
}

/** The end of the filter that answers. The functions return 0 or more, or a negative errno; -ENOENT: the caller is gone. */
export class NotificationListener extends Descriptor {
  readonly #lib: Libc = libc();
  readonly #response = new Uint8Array(24);
  readonly #responseView = new DataView(this.#response.buffer);
  readonly #responsePointer = pointerTo(this.#response);
  readonly #ask = new BigUint64Array(1);
  readonly #askPointer = pointerTo(new Uint8Array(this.#ask.buffer));
  readonly #addition = new Uint8Array(24);
  readonly #additionView = new DataView(this.#addition.buffer);

  /** Tells the kernel that an answer hands the processor over: twice as fast when both ends share one. False where it can't. */
  wakeSynchronously(): boolean {
    return this.#lib.ioctlValue(this.fd, SET_FLAGS, SYNC_WAKE_UP) === 0;
  }

  /** The POLL… bits that stand now: POLLIN when somebody waits to be taken, POLLHUP when nobody is left. */
  poll(): number {
    return pollNow(this.fd, 1);
  }

  /** Takes the next waiting call. Blocks if there is none: {@link poll} first. -ENOENT if its caller died just now. */
  receive(into: Notification): number {
    into.bytes.fill(0); // the kernel refuses anything else
    return this.#lib.ioctlBytes(this.fd, RECV, into.bytes) === 0 ? 0 : -this.#lib.errno[0];
  }

  /** True while the call waits: its thread is the one that made it, and its memory that thread's. */
  isValid(id: bigint): boolean {
    this.#ask[0] = id;
    return this.#lib.ioctlPointer(this.fd, ID_VALID, this.#askPointer) === 0;
  }

  #send(id: bigint, value: number, error: number, flags: number): number {
    this.#responseView.setBigUint64(0, id, true);
    // A system call's result is a long.
    this.#responseView.setInt32(8, value, true);
    this.#responseView.setInt32(12, value < 0 ? -1 : 0, true);
    this.#responseView.setInt32(16, error, true);
    this.#responseView.setUint32(20, flags, true);
    return this.#lib.ioctlPointer(this.fd, SEND, this.#responsePointer) === 0 ? 0 : -this.#lib.errno[0];
  }

  /** The call returns `result`: 0 or more, or a negative errno. */
  answer(id: bigint, result: number): number {
    return result < 0 ? this.#send(id, 0, result, 0) : this.#send(id, result, 0, 0);
  }

  /** The kernel does the call, as if nobody had looked. */
  proceed(id: bigint): number {
    return this.#send(id, 0, 0, FLAG_CONTINUE);
  }

  /** The call returns a new descriptor in the caller, of the file that is ours under `fd`; or why it can't have one (EMFILE). */
  answerDescriptor(id: bigint, fd: number, closeOnExec: boolean): number {
    this.#additionView.setBigUint64(0, id, true);
    this.#additionView.setUint32(8, ADDFD_SEND, true);
    this.#additionView.setInt32(12, fd, true);
    this.#additionView.setUint32(16, 0, true);
    this.#additionView.setUint32(20, closeOnExec ? O_CLOEXEC : 0, true);
    const result = this.#lib.ioctlBytes(this.fd, ADDFD, this.#addition);
    if (result >= 0) return result;
    const code = -this.#lib.errno[0];
    // Whoever got no descriptor waits on, and would for ever.
    return code === -ENOENT ? code : this.answer(id, code);
  }
}
