/**
 * Unix stream sockets that carry descriptors (SCM_RIGHTS), which Deno's own don't. Never blocking: a call that would wait
 * returns -EAGAIN.
 *
 * @module
 */
import { Descriptor } from "./descriptor.ts";
import { EAGAIN, EBADF, errnoError } from "./errno.ts";
import { addressOf, libc } from "./libc.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_FLAGS = 0x80800; // SOCK_CLOEXEC | SOCK_NONBLOCK
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const PATH_MAX = 107;
/** Most descriptors of one message; what a peer sends beyond is closed by the kernel. */
export const DESCRIPTORS_MAX = 16;

const MSGHDR = 56;
const CMSG_HEADER = 16;
const CMSG_SPACE = CMSG_HEADER + 4 * DESCRIPTORS_MAX;

function socketAddress(path: string): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length === 0 || bytes.length > PATH_MAX || path.includes("\0")) {
    throw new TypeError(`Invalid socket path ${JSON.stringify(path)}: 1 to ${PATH_MAX} bytes are needed`);
  }
  const address = new Uint8Array(2 + bytes.length + 1);
  address[0] = AF_UNIX;
  address.set(bytes, 2);
  return address;
}

function newSocket(): number {
  const lib = libc();
  const fd = lib.socket(AF_UNIX, SOCK_STREAM | SOCK_FLAGS, 0);
  if (fd < 0) throw errnoError("create", "a unix socket", lib.errno[0]);
  return fd;
}

/** A connected socket. Descriptors that come belong to whoever receives them. */
export class UnixSocket extends Descriptor {
  readonly #header = new Uint8Array(MSGHDR);
  readonly #view = new DataView(this.#header.buffer);
  readonly #iovec = new Uint8Array(16);
  readonly #iovecView = new DataView(this.#iovec.buffer);
  readonly #control = new Uint8Array(CMSG_SPACE);
  readonly #controlView = new DataView(this.#control.buffer);

  /** Connects. @throws `NotFound` (ENOENT), `ConnectionRefused` (ECONNREFUSED) when nobody listens there */
  static connect(path: string): UnixSocket {
    const address = socketAddress(path);
    const socket = new UnixSocket(newSocket());
    const lib = libc();
    if (lib.connect(socket.fd, address, address.length) === 0) return socket;
    const errno = lib.errno[0];
    socket.close();
    throw errnoError("connect to", `"${path}"`, errno);
  }

  /** Points the message header at `length` bytes at `offset` of `bytes`, and at the control memory. */
  #aim(bytes: Uint8Array<ArrayBuffer>, offset: number, length: number, control: number): void {
    this.#iovecView.setBigUint64(0, BigInt(addressOf(bytes) + offset), true);
    this.#iovecView.setBigUint64(8, BigInt(length), true);
    this.#view.setBigUint64(16, BigInt(addressOf(this.#iovec)), true);
    this.#view.setBigUint64(24, 1n, true);
    this.#view.setBigUint64(32, control === 0 ? 0n : BigInt(addressOf(this.#control)), true);
    this.#view.setBigUint64(40, BigInt(control), true);
    this.#view.setInt32(48, 0, true);
  }

  /** Sends bytes, with descriptors beside the first of them: how many went, or a negative errno. */
  send(bytes: Uint8Array<ArrayBuffer>, descriptors: readonly number[] = []): number {
    if (this.fd < 0) return -EBADF;
    if (descriptors.length > DESCRIPTORS_MAX) throw new RangeError(`at most ${DESCRIPTORS_MAX} descriptors`);
    const used = descriptors.length === 0 ? 0 : CMSG_HEADER + 4 * descriptors.length;
    if (used > 0) {
      this.#controlView.setBigUint64(0, BigInt(used), true);
      this.#controlView.setInt32(8, SOL_SOCKET, true);
      this.#controlView.setInt32(12, SCM_RIGHTS, true);
      descriptors.forEach((fd, i) => this.#controlView.setInt32(CMSG_HEADER + 4 * i, fd, true));
    }
    this.#aim(bytes, 0, bytes.length, (used + 7) & ~7);
    const lib = libc();
    const n = lib.sendmsg(this.fd, this.#header, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n >= 0 ? n : -lib.errno[0];
  }

  /**
   * Receives up to `length` bytes into `bytes` at `offset`: how many, 0 at the end, or a negative errno.
   *
   * @param descriptors those that came with the bytes are added
   */
  receive(bytes: Uint8Array<ArrayBuffer>, offset: number, length: number, descriptors: number[]): number {
    if (this.fd < 0) return -EBADF;
    if (offset < 0 || length < 0 || offset + length > bytes.length) throw new RangeError("outside the buffer");
    this.#aim(bytes, offset, length, CMSG_SPACE);
    const lib = libc();
    const n = lib.recvmsg(this.fd, this.#header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) return -lib.errno[0];
    const control = Number(this.#view.getBigUint64(40, true));
    if (control >= CMSG_HEADER && this.#controlView.getInt32(12, true) === SCM_RIGHTS) {
      const end = Math.min(control, Number(this.#controlView.getBigUint64(0, true)));
      for (let at = CMSG_HEADER; at + 4 <= end; at += 4) descriptors.push(this.#controlView.getInt32(at, true));
    }
    return n;
  }
}

/** A socket that waits for connections. Its file goes with it. */
export class UnixListener extends Descriptor {
  private constructor(fd: number, readonly path: string) {
    super(fd);
  }

  /**
   * Listens. A file that a dead process left is replaced; one that somebody listens on is not.
   *
   * @throws `AddrInUse` (EADDRINUSE), `NotFound` (ENOENT) without the folder, `PermissionDenied` (EACCES)
   */
  static listen(path: string): UnixListener {
    const address = socketAddress(path);
    removeDead(path);
    const lib = libc();
    const fd = newSocket();
    if (lib.bind(fd, address, address.length) === 0 && lib.listen(fd, 8) === 0) return new UnixListener(fd, path);
    const errno = lib.errno[0];
    lib.close(fd);
    throw errnoError("listen on", `"${path}"`, errno);
  }

  /** The next connection, or a negative errno. */
  accept(): UnixSocket | number {
    const lib = libc();
    const fd = this.fd < 0 ? -1 : lib.accept(this.fd, null, null, SOCK_FLAGS);
    return fd >= 0 ? new UnixSocket(fd) : this.fd < 0 ? -EBADF : -lib.errno[0];
  }

  override close(): number {
    if (this.fd < 0) return 0;
    try {
      Deno.removeSync(this.path);
    } catch { /* somebody else has taken it away */ }
    return super.close();
  }
}

function removeDead(path: string): void {
  try {
    if (!Deno.lstatSync(path).isSocket) return;
    UnixSocket.connect(path).close();
  } catch (error) {
    if ((error as { code?: string }).code === "ECONNREFUSED") Deno.removeSync(path);
  }
}

/** True for "not now". */
export function again(code: number): boolean {
  return code === -EAGAIN;
}
