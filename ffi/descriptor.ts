/**
 * A file descriptor as a disposable object. Its calls return what the kernel returns, with failures as negative errno
 * values: they are for those who decide what a failure means.
 *
 * @module
 */
import { EBADF } from "./errno.ts";
import { cString, libc } from "./libc.ts";

export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_NONBLOCK = 0x800;
export const O_CLOEXEC = 0x80000;

/** Opens a file: a descriptor number, or a negative errno. Always close-on-exec. */
export function openFile(path: string, flags: number): number {
  const lib = libc();
  const fd = lib.open(cString(path), flags | O_CLOEXEC, 0);
  return fd >= 0 ? fd : -lib.errno[0];
}

/** An open descriptor. `using` closes it; a second close does nothing. */
export class Descriptor implements Disposable {
  #fd: number;

  /**
   * Takes a descriptor over.
   *
   * @param fd an open descriptor, now owned by this object
   */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** The number, or -1 once closed. */
  get fd(): number {
    return this.#fd;
  }

  /** Reads into `bytes`: how many, or a negative errno. */
  read(bytes: Uint8Array<ArrayBuffer>): number {
    if (this.#fd < 0) return -EBADF;
    const lib = libc();
    const n = lib.readBytes(this.#fd, bytes, bytes.length);
    return n >= 0 ? n : -lib.errno[0];
  }

  /** Writes `bytes`: how many were taken, or a negative errno. */
  write(bytes: Uint8Array<ArrayBuffer>): number {
    if (this.#fd < 0) return -EBADF;
    const lib = libc();
    const n = lib.writeBytes(this.#fd, bytes, bytes.length);
    return n >= 0 ? n : -lib.errno[0];
  }

  /**
   * An ioctl: its result, or a negative errno.
   *
   * @param request the request number, 32 bits
   * @param argument a value (unsigned 32 bits) or memory that the request reads or fills
   */
  ioctl(request: number, argument: number | Uint8Array<ArrayBuffer>): number {
    if (this.#fd < 0) return -EBADF;
    const lib = libc();
    const n = typeof argument === "number"
      ? lib.ioctlValue(this.#fd, request, argument >>> 0)
      : lib.ioctlBytes(this.#fd, request, argument);
    return n >= 0 ? n : -lib.errno[0];
  }

  /** Closes: 0, or a negative errno (the descriptor is gone then as well). A second call does nothing and returns 0. */
  close(): number {
    if (this.#fd < 0) return 0;
    const fd = this.#fd;
    this.#fd = -1;
    const lib = libc();
    return lib.close(fd) === 0 ? 0 : -lib.errno[0];
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
