/**
 * What every socket has: options, and the error that waits.
 *
 * @module
 */
import { Descriptor } from "./descriptor.ts";
import { EBADF } from "./errno.ts";
import { libc } from "./libc.ts";

export const SOL_SOCKET = 1;
const SO_ERROR = 4;

/** A socket's descriptor. Its calls return what the kernel returns, with failures as negative errno values. */
export class Socket extends Descriptor {
  /** Sets an option: 0 or a negative errno. */
  setOption(level: number, option: number, value: Uint8Array<ArrayBuffer>): number {
    if (this.fd < 0) return -EBADF;
    const lib = libc();
    return lib.setsockopt(this.fd, level, option, value, value.length) === 0 ? 0 : -lib.errno[0];
  }

  /** Reads an option into numbers: 0 or a negative errno. */
  getOption(level: number, option: number, into: Int32Array<ArrayBuffer> | BigUint64Array<ArrayBuffer>): number {
    if (this.fd < 0) return -EBADF;
    const lib = libc();
    return lib.getsockopt(this.fd, level, option, into, Int32Array.of(into.byteLength)) === 0 ? 0 : -lib.errno[0];
  }

  /** The error that waits (ENETDOWN when an interface is gone), negative; 0 for none. It is forgotten. */
  takeError(): number {
    const value = new Int32Array(1);
    const code = this.getOption(SOL_SOCKET, SO_ERROR, value);
    return code < 0 ? code : -value[0];
  }
}
