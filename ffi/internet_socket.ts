/**
 * TCP and UDP sockets of this machine, IPv4, never blocking: a call that would wait returns -EAGAIN. What they do that Deno's
 * don't: they end a connection with a reset, they tell what ICMP said of a datagram, and a call is one system call on this
 * thread.
 *
 * @module
 */
import { EALREADY, EBADF, EINPROGRESS, errnoError } from "./errno.ts";
import { parseIp } from "./inet.ts";
import { libc } from "./libc.ts";
import { Socket, SOL_SOCKET } from "./socket.ts";

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_FLAGS = 0x80800; // SOCK_CLOEXEC | SOCK_NONBLOCK
const SO_REUSEADDR = 2;
const SO_KEEPALIVE = 9;
const SO_OOBINLINE = 10;
const SO_LINGER = 13;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const SHUT_WR = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** The kernel's `sockaddr_in`. @throws {TypeError | RangeError} for what is no IPv4 address or no port */
function socketAddress(hostname: string, port: number): Uint8Array<ArrayBuffer> {
  const bytes = parseIp(hostname);
  if (bytes.length !== 4) throw new TypeError(`an IPv4 address is needed: ${hostname}`);
  if (!(Number.isInteger(port) && port >= 0 && port <= 65_535)) throw new RangeError(`port must be 0 to 65535: ${port}`);
  const address = new Uint8Array(16);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  address.set(bytes, 4);
  return address;
}

/** A socket, and the address that it is for. */
export class InternetSocket extends Socket {
  readonly #address: Uint8Array<ArrayBuffer>;

  private constructor(fd: number, address: Uint8Array<ArrayBuffer>) {
    super(fd);
    this.#address = address;
  }

  /**
   * Makes a socket for an address, and does nothing with it yet.
   *
   * @throws {TypeError | RangeError} for what is no IPv4 address or no port; EMFILE, ENOBUFS
   */
  static create(transport: "tcp" | "udp", hostname: string, port: number): InternetSocket {
    const address = socketAddress(hostname, port);
    const lib = libc();
    const fd = lib.socket(AF_INET, (transport === "tcp" ? SOCK_STREAM : SOCK_DGRAM) | SOCK_FLAGS, 0);
    if (fd < 0) throw errnoError("create", `a ${transport} socket`, lib.errno[0]);
    return new InternetSocket(fd, address);
  }

  /** Waits for connections at the address, which may still have some in TIME-WAIT: 0 or a negative errno. */
  listen(backlog: number): number {
    const code = this.setOption(SOL_SOCKET, SO_REUSEADDR, new Uint8Array([1, 0, 0, 0]));
    if (code < 0) return code;
    const lib = libc();
    if (lib.bind(this.fd, this.#address, this.#address.length) !== 0) return -lib.errno[0];
    return lib.listen(this.fd, backlog) === 0 ? 0 : -lib.errno[0];
  }

  /** The next connection, or a negative errno. */
  accept(): InternetSocket | number {
    if (this.fd < 0) return -EBADF;
    const lib = libc();
    const fd = lib.accept(this.fd, null, null, SOCK_FLAGS);
    return fd >= 0 ? new InternetSocket(fd, this.#address) : -lib.errno[0];
  }

  /** The port that it is bound to, or a negative errno. */
  localPort(): number {
    if (this.fd < 0) return -EBADF;
    const address = new Uint8Array(16);
    const lib = libc();
    if (lib.getsockname(this.fd, address, new Uint8Array([16, 0, 0, 0])) !== 0) return -lib.errno[0];
    return (address[2] << 8) | address[3];
  }

  /** Connects: 0, -EINPROGRESS until it is writable, or what it failed of as a negative errno. */
  connect(): number {
    if (this.fd < 0) return -EBADF;
    const lib = libc();
    if (lib.connect(this.fd, this.#address, this.#address.length) === 0) return 0;
    const errno = lib.errno[0];
    if (errno !== EINPROGRESS) return -errno;
    // On this machine itself the answer has come by now, and is told when asked again.
    if (lib.connect(this.fd, this.#address, this.#address.length) === 0) return 0;
    const again: number = lib.errno[0];
    return again === EALREADY ? -EINPROGRESS : -again;
  }

  /** Sends what there is room for: how many bytes, or a negative errno. */
  send(bytes: Uint8Array<ArrayBuffer>): number {
    if (this.fd < 0) return -EBADF;
    const lib = libc();
    const n = lib.send(this.fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n >= 0 ? n : -lib.errno[0];
  }

  /** Receives what is there: how many bytes (0 at the end of a stream), or a negative errno. */
  receive(bytes: Uint8Array<ArrayBuffer>): number {
    if (this.fd < 0) return -EBADF;
    const lib = libc();
    const n = lib.recv(this.fd, bytes, bytes.length, MSG_DONTWAIT);
    return n >= 0 ? n : -lib.errno[0];
  }

  /** Ends the direction from here: 0 or a negative errno. */
  shutdownWrite(): number {
    if (this.fd < 0) return -EBADF;
    const lib = libc();
    return lib.shutdown(this.fd, SHUT_WR) === 0 ? 0 : -lib.errno[0];
  }

  /** Turns Nagle's algorithm off, or on: 0 or a negative errno. */
  setNoDelay(on: boolean): number {
    return this.setOption(IPPROTO_TCP, TCP_NODELAY, new Uint8Array([on ? 1 : 0, 0, 0, 0]));
  }

  /** Keeps urgent data where it is in the stream, or apart from it, where it is lost: 0 or a negative errno. */
  setUrgentInline(on: boolean): number {
    return this.setOption(SOL_SOCKET, SO_OOBINLINE, new Uint8Array([on ? 1 : 0, 0, 0, 0]));
  }

  /** Asks whether the other end is still there when nothing comes, as often as the system says, or never: 0 or a negative errno. */
  setKeepAlive(on: boolean): number {
    return this.setOption(SOL_SOCKET, SO_KEEPALIVE, new Uint8Array([on ? 1 : 0, 0, 0, 0]));
  }

  /** Closes a connection with a reset instead of a FIN (`SO_LINGER` with no time). */
  reset(): void {
    this.setOption(SOL_SOCKET, SO_LINGER, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]));
    this.close();
  }
}
