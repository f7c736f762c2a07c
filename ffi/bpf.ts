/**
 * BPF through its one system call: maps, pinning, what a descriptor is, and what this process may do. Programs and links are in
 * `bpf_program.ts`. Nothing here knows a packet.
 *
 * Rights: CAP_BPF, and CAP_NET_ADMIN for everything of XDP; both are asked for in the machine's own user namespace, so that
 * `unshare -Ur` doesn't help.
 *
 * @module
 */
import { Descriptor } from "./descriptor.ts";
import { EACCES, EAGAIN, ENOENT, ENOSYS, EPERM, errnoError, type SystemError } from "./errno.ts";
import { addressOf, cString, libc } from "./libc.ts";

/** The number of the system call. */
const SYSCALL_BPF = Deno.build.arch === "aarch64" ? 280 : 321;
/** Larger than every attribute that we write; the kernel wants the rest to be zeros. */
const ATTRIBUTES_SIZE = 128;
/** The kernel gives up a verification with EAGAIN when a signal comes: so often it is tried again. */
const TRIES = 5;
const NAME_SIZE = 16;

/** Commands of bpf(2). */
export const BPF = {
  MAP_CREATE: 0,
  MAP_LOOKUP: 1,
  MAP_UPDATE: 2,
  MAP_DELETE: 3,
  MAP_NEXT_KEY: 4,
  PROG_LOAD: 5,
  OBJ_PIN: 6,
  OBJ_GET: 7,
  PROG_TEST_RUN: 10,
  MAP_GET_FD_BY_ID: 14,
  OBJ_GET_INFO: 15,
  LINK_CREATE: 28,
  LINK_UPDATE: 29,
  LINK_DETACH: 34,
  PROG_BIND_MAP: 35,
} as const;

/** Types of maps that hold one copy of a value per CPU. */
const PER_CPU_TYPES = new Set([5, 6, 10]);

/** What to do about a missing right. */
export const BPF_PRIVILEGE_HINT =
  "BPF needs CAP_BPF and CAP_NET_ADMIN of the machine itself (not of a user namespace): run as root";

/** Where bpffs usually is. */
export const BPFFS_PATH = "/sys/fs/bpf";

/**
 * A failure that has no errno of its own: `EVERIFIER`, the verifier refused the program ({@link BpfError.log} says why);
 * `ENOBPFFS`, the path for a pin isn't in a mounted bpffs.
 */
export class BpfError extends Error {
  /** "BpfError". */
  override name = "BpfError";

  /**
   * An error with one of the two codes.
   *
   * @param log what the verifier said, whole
   * @param errno the kernel's answer, for example "EINVAL"
   */
  constructor(message: string, readonly code: "EVERIFIER" | "ENOBPFFS", readonly log = "", readonly errno = "") {
    super(message);
  }
}

/** The attributes of one call: numbers and addresses, and what the addresses are of. */
export class BpfAttributes {
  /** What the kernel gets. */
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(ATTRIBUTES_SIZE);
  /** The same as numbers. */
  readonly view: DataView<ArrayBuffer> = new DataView(this.bytes.buffer);
  /** An address doesn't keep its memory: this does, until the call is over. */
  readonly #kept: Uint8Array<ArrayBuffer>[] = [];

  /** 32 bits. */
  u32(at: number, value: number): this {
    this.view.setUint32(at, value, true);
    return this;
  }

  /** 64 bits of a number below 2^53. */
  u64(at: number, value: number): this {
    this.view.setBigUint64(at, BigInt(value), true);
    return this;
  }

  /** The address of memory that the kernel reads or fills. */
  pointer(at: number, memory: Uint8Array<ArrayBuffer>): this {
    this.#kept.push(memory);
    return this.u64(at, addressOf(memory));
  }

  /** A name of at most 15 bytes. */
  name(at: number, name: string): this {
    new TextEncoder().encodeInto(name, this.bytes.subarray(at, at + NAME_SIZE - 1));
    return this;
  }

  /** Does the call: what the kernel returns, or a negative errno. */
  call(command: number): number {
    const lib = libc();
    for (let tries = 1;; tries++) {
      const result = lib.bpf(SYSCALL_BPF, command, this.bytes, ATTRIBUTES_SIZE);
      const code = result >= 0 ? result : -lib.errno[0];
      const again = code === -EAGAIN && command === BPF.PROG_LOAD && tries < TRIES;
      if (!again && this.#kept.length >= 0) return code;
    }
  }
}

/** The error for a failed call, with what to do about it. */
export function bpfError(op: string, what: string, code: number): SystemError {
  const hints: Record<number, string> = { [EPERM]: BPF_PRIVILEGE_HINT, [ENOSYS]: "This kernel was built without BPF" };
  return errnoError(op, what, code, hints[-code] ?? "");
}

/** How many copies of a value a per-CPU map has: the processors that the machine could have. */
export function possibleCpus(): number {
  // "0-3", or "0-1,4-5": copies go up to the highest.
  const text = Deno.readTextFileSync("/sys/devices/system/cpu/possible").trim();
  return Number(text.split(/[-,]/).at(-1)) + 1;
}

/** What the kernel says of a map. */
export interface BpfMapInfo {
  /** BPF_MAP_TYPE_…. */
  readonly type: number;
  /** The kernel's number for this map, while it lives. */
  readonly id: number;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes, of one copy. */
  readonly valueSize: number;
  /** Places of an array, and the most that another kind holds. */
  readonly maxEntries: number;
  /** BPF_F_…. */
  readonly flags: number;
  /** At most 15 bytes. */
  readonly name: string;
}

/** What the kernel says of the object behind a descriptor: the first `size` bytes. @throws the error of the call */
export function objectInfo(fd: number, what: string, size: number): DataView<ArrayBuffer> {
  const info = new Uint8Array(size);
  const code = new BpfAttributes().u32(0, fd).u32(4, size).pointer(8, info).call(BPF.OBJ_GET_INFO);
  if (code < 0) throw bpfError("ask about", what, code);
  return new DataView(info.buffer);
}

/** A name of at most 15 bytes in what the kernel said. */
export function infoName(info: DataView<ArrayBuffer>, at: number): string {
  const bytes = new Uint8Array(info.buffer, at, NAME_SIZE);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.subarray(0, end < 0 ? NAME_SIZE : end));
}

/** What a map is to be. Numbers are the kernel's; `drivers/xdp/map_kinds.ts` has them by name. */
export interface BpfMapOptions {
  /** BPF_MAP_TYPE_…. */
  type: number;
  /** Bytes. */
  keySize: number;
  /** Bytes. */
  valueSize: number;
  /** Places of an array, and the most that another kind holds. */
  maxEntries: number;
  /** BPF_F_…; default 0. */
  flags?: number;
  /** At most 15 bytes. */
  name?: string;
}

/** A map in the kernel, held by its descriptor: it lives on while a program or a pin holds it too. */
export class BpfMap implements Disposable {
  readonly #descriptor: Descriptor;
  /** What the kernel says of it. */
  readonly info: BpfMapInfo;
  /** Bytes of a value as user space sees it: all copies of a per-CPU map, each rounded up to 8. */
  readonly #bytes: number;

  /** Takes a descriptor over. @param fd a map's, now owned by this object */
  constructor(fd: number) {
    this.#descriptor = new Descriptor(fd);
    try {
      const info = objectInfo(fd, "a BPF map", 80);
      const [type, id, keySize, valueSize, maxEntries, flags] = [0, 4, 8, 12, 16, 20].map((at) => info.getUint32(at, true));
      this.info = { type, id, keySize, valueSize, maxEntries, flags, name: infoName(info, 24) };
    } catch (error) {
      this.#descriptor.close();
      throw error;
    }
    const { type, valueSize } = this.info;
    this.#bytes = PER_CPU_TYPES.has(type) ? Math.ceil(valueSize / 8) * 8 * possibleCpus() : valueSize;
  }

  /** Makes a map. @throws `PermissionDenied` (EPERM), `InvalidData` (EINVAL: sizes that the type doesn't allow), E2BIG, ENOMEM */
  static create(options: BpfMapOptions): BpfMap {
    const { type, keySize, valueSize, maxEntries, flags = 0, name = "" } = options;
    const attributes = new BpfAttributes().u32(0, type).u32(4, keySize).u32(8, valueSize).u32(12, maxEntries).u32(16, flags);
    const fd = attributes.name(28, name).call(BPF.MAP_CREATE);
    if (fd < 0) throw bpfError("create", `BPF map "${name}"`, fd);
    return new BpfMap(fd);
  }

  /** Opens a pinned map. @throws `NotFound` (ENOENT), `BpfError` (ENOBPFFS) */
  static open(path: string): BpfMap {
    return new BpfMap(openPin(path));
  }

  /** Opens a map by the number that the kernel gave it ({@link BpfMapInfo.id}). @throws `NotFound` (ENOENT), `PermissionDenied` */
  static openId(id: number): BpfMap {
    const fd = new BpfAttributes().u32(0, id).call(BPF.MAP_GET_FD_BY_ID);
    if (fd < 0) throw bpfError("open", `BPF map ${id}`, fd);
    return new BpfMap(fd);
  }

  /** The descriptor's number, or -1 once closed. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  #check(bytes: Uint8Array, size: number, what: string): void {
    if (bytes.length !== size) throw new RangeError(`a ${what} of ${bytes.length} bytes for a map with ${size}`);
  }

  /**
   * The value under a key (all copies of a per-CPU map, each rounded up to 8 bytes), or null.
   *
   * @throws {RangeError} for a key of a wrong size
   * @throws the error of the call, other than ENOENT
   */
  lookup(key: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | null {
    this.#check(key, this.info.keySize, "key");
    const value = new Uint8Array(this.#bytes);
    const code = new BpfAttributes().u32(0, this.fd).pointer(8, key).pointer(16, value).call(BPF.MAP_LOOKUP);
    if (code === -ENOENT) return null;
    if (code < 0) throw bpfError("read", `BPF map "${this.info.name}"`, code);
    return value;
  }

  /**
   * Puts a value under a key.
   *
   * @param flags 0: make or replace, 1: make only, 2: replace only
   * @returns 0, or a negative errno: E2BIG (full, or no such index), EEXIST, ENOENT, and of devmaps ENODEV or EINVAL (no such interface)
   */
  update(key: Uint8Array<ArrayBuffer>, value: Uint8Array<ArrayBuffer>, flags = 0): number {
    this.#check(key, this.info.keySize, "key");
    this.#check(value, this.#bytes, "value");
    return new BpfAttributes().u32(0, this.fd).pointer(8, key).pointer(16, value).u64(24, flags).call(BPF.MAP_UPDATE);
  }

  /** Takes a key out: 0, or a negative errno (ENOENT; EINVAL of an array). */
  delete(key: Uint8Array<ArrayBuffer>): number {
    this.#check(key, this.info.keySize, "key");
    return new BpfAttributes().u32(0, this.fd).pointer(8, key).call(BPF.MAP_DELETE);
  }

  /** The keys that are there now, at most `maxEntries` of them: others may change the map meanwhile. */
  *keys(): Generator<Uint8Array<ArrayBuffer>> {
    let last: Uint8Array<ArrayBuffer> | null = null;
    for (let i = 0; i < this.info.maxEntries; i++) {
      const next = new Uint8Array(this.info.keySize);
      const attributes = new BpfAttributes().u32(0, this.fd).pointer(16, next);
      if (last !== null) attributes.pointer(8, last);
      const code = attributes.call(BPF.MAP_NEXT_KEY);
      if (code === -ENOENT) return;
      if (code < 0) throw bpfError("list", `BPF map "${this.info.name}"`, code);
      yield next;
      last = next;
    }
  }

  /** A counter of 64 bits at `at` of the value under a key: the sum over all CPUs in a per-CPU map. 0 if there is no such key. */
  counter(key: Uint8Array<ArrayBuffer>, at = 0): bigint {
    const value = this.lookup(key);
    if (value === null) return 0n;
    const view = new DataView(value.buffer);
    const stride = Math.ceil(this.info.valueSize / 8) * 8;
    let sum = 0n;
    for (let from = at; from + 8 <= value.length; from += stride) sum += view.getBigUint64(from, true);
    return sum;
  }

  /** Gives the map a name in bpffs; see {@link pinObject}. */
  pin(path: string): void {
    pinObject(this.fd, path, `BPF map "${this.info.name}"`);
  }

  /** Closes the descriptor. */
  close(): void {
    this.#descriptor.close();
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Whether a path is inside a mounted bpffs. */
export function inBpffs(path: string): boolean {
  const mounts = Deno.readTextFileSync("/proc/self/mounts").split("\n").map((line) => line.split(" "));
  // The last mount over the longest folder is the one that is seen.
  let found = { folder: "", type: "" };
  for (const [, folder = "", type = ""] of mounts) {
    const covers = path === folder || path.startsWith(folder.endsWith("/") ? folder : `${folder}/`);
    if (covers && folder.length >= found.folder.length) found = { folder, type };
  }
  return found.type === "bpf";
}

function pinError(op: string, what: string, path: string, code: number): Error {
  const refused = !inBpffs(path) && code !== -EACCES;
  if (!refused) return bpfError(op, `${what} at ${path}`, code);
  const hint = `Mount one: mount -t bpf bpf ${BPFFS_PATH}`;
  return new BpfError(`Cannot ${op} ${what} at ${path}: no bpffs is mounted there (ENOBPFFS). ${hint}`, "ENOBPFFS");
}

/**
 * Gives an object of BPF a name in bpffs, under which it outlives this process. Take it away with `Deno.removeSync(path)`.
 *
 * @throws `BpfError` (ENOBPFFS), `AlreadyExists` (EEXIST), `PermissionDenied` (EPERM, EACCES)
 */
export function pinObject(fd: number, path: string, what: string): void {
  const code = new BpfAttributes().pointer(0, cString(path)).u32(8, fd).call(BPF.OBJ_PIN);
  if (code < 0) throw pinError("pin", what, path, code);
}

/** Opens what is pinned: a descriptor. @throws `NotFound` (ENOENT), `BpfError` (ENOBPFFS), `PermissionDenied` */
export function openPin(path: string): number {
  const code = new BpfAttributes().pointer(0, cString(path)).call(BPF.OBJ_GET);
  if (code < 0) throw pinError("open", "a pinned BPF object", path, code);
  return code;
}
