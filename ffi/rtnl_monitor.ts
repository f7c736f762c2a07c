/**
 * What happens to links, as it happens: rtnetlink's multicast group, read when the event loop says that something came.
 *
 * @module
 */
import { Descriptor } from "./descriptor.ts";
import { EAGAIN, EINTR, ENOBUFS, errnoError } from "./errno.ts";
import { libc, pointerTo } from "./libc.ts";
import { createWaker, POLLIN, type Waker } from "./poll.ts";
import { type Link, listLinks, parseLink } from "./rtnl_link.ts";

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTMGRP_LINK = 1;
const HEADER = 16;
/** Messages taken in one turn of the event loop. */
const BURST = 64;
const BUFFER_SIZE = 65536;

/** Tells of links that came, changed or went, in the namespace of the thread that made it. */
export class LinkMonitor implements Disposable {
  readonly #socket: Descriptor;
  readonly #waker: Waker;
  readonly #buffer = new Uint8Array(BUFFER_SIZE);
  readonly #pointer = pointerTo(this.#buffer);
  readonly #list: () => Link[];
  readonly #tell: (link: Link, deleted: boolean) => void;
  #closed = false;

  /**
   * `tell` is called from the event loop, for every link of the namespace. Keeps the process alive until it is closed.
   *
   * @param list all links, asked for after so much happened at once that some of it was lost. Default: those of the calling thread
   */
  constructor(tell: (link: Link, deleted: boolean) => void, list: () => Link[] = listLinks) {
    this.#tell = tell;
    this.#list = list;
    const lib = libc();
    const fd = lib.socket(16, /* AF_NETLINK */ 3 | 0x80000 | 0x800, /* SOCK_RAW, close-on-exec, nonblocking */ 0);
    if (fd < 0) throw errnoError("open", "a netlink socket", lib.errno[0]);
    this.#socket = new Descriptor(fd);
    try {
      const address = new Uint8Array(12);
      new DataView(address.buffer).setUint16(0, 16, true);
      new DataView(address.buffer).setUint32(8, RTMGRP_LINK, true);
      if (lib.bind(fd, address, address.length) < 0) throw errnoError("bind", "a netlink socket", lib.errno[0]);
      this.#waker = createWaker(fd, () => this.#ready());
    } catch (error) {
      this.#socket.close();
      throw error;
    }
    this.#waker.arm(POLLIN);
  }

  #ready(): void {
    const lib = libc();
    for (let i = 0; i < BURST && !this.#closed; i++) {
      const n = lib.read(this.#socket.fd, this.#pointer, BUFFER_SIZE);
      if (n < 0) {
        const code = lib.errno[0];
        if (code === EINTR) continue;
        // Told too much at once: what was lost can only be looked up.
        if (code === ENOBUFS) this.#overrun();
        else if (code !== EAGAIN) return;
        break;
      }
      this.#messages(n);
    }
    if (!this.#closed) this.#waker.arm(POLLIN);
  }

  #overrun(): void {
    for (const link of this.#list()) this.#tell(link, false);
  }

  #messages(n: number): void {
    const view = new DataView(this.#buffer.buffer, 0, n);
    for (let at = 0; at + HEADER <= n && !this.#closed;) {
      const size = view.getUint32(at, true);
      if (size < HEADER || at + size > n) return;
      const type = view.getUint16(at + 4, true);
      if ((type === RTM_NEWLINK || type === RTM_DELLINK) && size >= HEADER + 16) {
        const bytes = this.#buffer.subarray(at + HEADER, at + size);
        const part = { type, bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
        // Bridges tell about their ports in the same words (family AF_BRIDGE): that isn't the link itself.
        if (bytes[0] === 0) this.#tell(parseLink(part), type === RTM_DELLINK);
      }
      at += (size + 3) & ~3;
    }
  }

  /** Keeps the process alive, as at first. */
  ref(): void {
    this.#waker.ref();
  }

  /** Lets the process end. */
  unref(): void {
    this.#waker.unref();
  }

  /** Tells no more. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waker.close();
    this.#socket.close();
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
