/**
 * Memory shared with other processes: files mapped into this one.
 *
 * @module
 */
import { Descriptor, O_RDONLY, openFile } from "./descriptor.ts";
import { ENOMEM, errnoError } from "./errno.ts";
import { cString, libc } from "./libc.ts";

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MFD_CLOEXEC_ALLOW_SEALING = 3;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SHRINK = 2;
/** SEAL, SHRINK, GROW, WRITE. */
const F_SEAL_ALL = 15;
const SEEK_END = 2;
const SEEK_SET = 0;
const F_SETFL = 4;
const F_GETFL = 3;
const O_NONBLOCK = 0x800;

/**
 * A mapping. {@link unmap} ends every view of its bytes with it: one that somebody still holds has length 0 from then on, and
 * throws where it is a DataView. The kernel must have been told to forget the memory by then.
 */
export class Mapping implements Disposable {
  #pointer: Deno.PointerObject | null;
  readonly #size: number;

  private constructor(pointer: Deno.PointerObject, readonly bytes: Uint8Array<ArrayBuffer>) {
    this.#pointer = pointer;
    this.#size = bytes.length;
  }

  /**
   * Maps `size` bytes from the beginning of a file. The descriptor stays the caller's.
   *
   * @throws {RangeError} when the file is shorter: touching what lies beyond its end would end the process
   * @throws `OutOfMemory` (ENOMEM), `PermissionDenied` (EACCES)
   */
  static map(fd: number, size: number): Mapping {
    const length = fileSize(fd);
    if (!(size > 0) || size > length) throw new RangeError(`a mapping of ${size} bytes of a file of ${length}`);
    const mapping = Mapping.mapDevice(fd, size, 0);
    if (typeof mapping === "number") throw errnoError("map", `${size} bytes of descriptor ${fd}`, mapping);
    return mapping;
  }

  /**
   * Maps memory that a socket or device shares: it has no end that could be asked for, so `size` must be what was agreed.
   *
   * @param offset up to 2^53: what the device calls the piece
   * @returns the mapping or a negative errno
   */
  static mapDevice(fd: number, size: number, offset: number): Mapping | number {
    const lib = libc();
    const pointer = lib.mmap(null, BigInt(size), PROT_READ_WRITE, MAP_SHARED, fd, BigInt(offset));
    const failed = pointer === null || Deno.UnsafePointer.value(pointer) >= 0xffff_ffff_ffff_f000n;
    if (failed) return pointer === null ? -ENOMEM : -lib.errno[0];
    return new Mapping(pointer, new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer, size)));
  }

  /** Gives the memory back. A second call does nothing. */
  unmap(): void {
    if (this.#pointer === null) return;
    const pointer = this.#pointer;
    this.#pointer = null;
    // Detached first: a view that a fault of ours left behind would end the process with the next access.
    this.bytes.buffer.transfer(0);
    libc().munmap(pointer, BigInt(this.#size));
  }

  /** {@link unmap}. */
  [Symbol.dispose](): void {
    this.unmap();
  }
}

/** Bytes of an open file, or a negative errno. */
export function fileSize(fd: number): number {
  const lib = libc();
  const size = Number(lib.lseek(fd, 0n, SEEK_END));
  if (size < 0) return -lib.errno[0];
  lib.lseek(fd, 0n, SEEK_SET);
  return size;
}

/** Sees to it that nobody can shorten the file under our mapping. False if that can't be had (no memfd, or no sealing allowed). */
export function sealSize(fd: number): boolean {
  const lib = libc();
  const seals = lib.fcntl(fd, F_GET_SEALS, 0);
  if (seals >= 0 && (seals & F_SEAL_SHRINK) !== 0) return true;
  return lib.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) === 0;
}

/** Memory with a descriptor that can be given to other processes, which can't change its size. */
export function createSharedMemory(name: string, size: number): Descriptor {
  const lib = libc();
  const fd = lib.memfdCreate(cString(name), MFD_CLOEXEC_ALLOW_SEALING);
  if (fd < 0) throw errnoError("create", `shared memory "${name}"`, lib.errno[0]);
  if (lib.ftruncate(fd, BigInt(size)) !== 0) {
    const errno = lib.errno[0];
    lib.close(fd);
    throw errnoError("create", `${size} bytes of shared memory`, errno);
  }
  sealSize(fd);
  return new Descriptor(fd);
}

/** A file in memory that can be read only, whoever gets its descriptor: what it says is said for good. */
export function readOnlyMemoryFile(name: string, content: Uint8Array<ArrayBuffer>): Descriptor {
  const lib = libc();
  using file = new Descriptor(lib.memfdCreate(cString(name), MFD_CLOEXEC_ALLOW_SEALING));
  if (file.fd < 0) throw errnoError("create", `file "${name}" in memory`, lib.errno[0]);
  const written = content.length === 0 ? 0 : file.write(content);
  if (written !== content.length) throw errnoError("write", `file "${name}" in memory`, written < 0 ? written : ENOMEM);
  lib.fcntl(file.fd, F_ADD_SEALS, F_SEAL_ALL);
  // Opened anew: a description of its own, at the beginning, without the right to write.
  const fd = openFile(`/proc/self/fd/${file.fd}`, O_RDONLY);
  if (fd < 0) throw errnoError("open", `file "${name}" in memory`, fd);
  return new Descriptor(fd);
}

/** Makes a descriptor that came from elsewhere one that never blocks. */
export function setNonblocking(fd: number): void {
  const lib = libc();
  const flags = lib.fcntl(fd, F_GETFL, 0);
  if (flags >= 0) lib.fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}
