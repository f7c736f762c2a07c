/**
 * Sockets of this machine by libc, for a gateway that carries its guests' flows on: they are waited for together with the
 * gateway's device, in one call, where Deno's own take two turns of another event loop for each exchange.
 *
 * @module
 */
import { EAGAIN, EINPROGRESS, EINTR, EMSGSIZE, ENOBUFS, errnoError } from "../ffi/errno.ts";
import { InternetSocket } from "../ffi/internet_socket.ts";
import { libc } from "../ffi/libc.ts";
import { POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDHUP, watchEdges } from "../ffi/poll.ts";

/** Datagrams that are taken in one turn; more wait in the kernel. */
const DATAGRAMS_BURST = 64;
/** Connections that wait to be accepted. */
const BACKLOG = 128;
/** Largest datagram. */
const DATAGRAM_MAX = 65_535;

/** Where a socket leads: an IPv4 address, no name. */
export interface HostDestination {
  /** IPv4. */
  readonly hostname: string;
  /** 0 to 65,535. */
  readonly port: number;
}

/** What a datagram socket tells, never from inside a call. */
export interface HostDatagramEvents {
  /** A datagram of the destination; the bytes are the receiver's. */
  message(bytes: Uint8Array<ArrayBuffer>): void;
  /** What the socket, or ICMP, says of a datagram that was sent; the socket still works. */
  failed(error: Error): void;
}

interface Waiting<T> {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

function notNow(code: number): boolean {
  return code === -EAGAIN || code === -EINTR;
}

/**
 * What a gateway's connection is like: nothing waits for more, urgent data stays in its place in the stream, and another end that
 * has gone without a word is noticed some day (the system says when; two hours).
 */
function prepare(socket: InternetSocket): void {
  socket.setNoDelay(true);
  socket.setUrgentInline(true);
  socket.setKeepAlive(true);
}

/** A TCP connection of this machine: one read and one write at a time. */
export class HostConn implements Disposable {
  readonly #socket: InternetSocket;
  readonly #name: string;
  readonly #waker: ReturnType<typeof watchEdges>;
  #read: Waiting<number | null> | null = null;
  #write: Waiting<number> | null = null;
  #connected: Waiting<void> | null = null;
  /** The last read has left nothing: to ask again before more is told of would be a call in vain. */
  #empty = true;
  /** No more comes than what is there, and nothing more will be told. */
  #ended = false;
  /** There was urgent data: a read stops in front of it, with more behind that is not told of again. */
  #urgent = false;

  /** @internal */
  constructor(socket: InternetSocket, name: string) {
    this.#socket = socket;
    this.#name = name;
    this.#waker = watchEdges(socket.fd, (events) => this.#ready(events), POLLIN | POLLPRI | POLLOUT | POLLRDHUP);
  }

  /**
   * Connects, without Nagle's algorithm.
   *
   * @throws {TypeError | RangeError} for what is no destination
   * @throws `ConnectionRefused`, `ConnectionReset`, `TimedOut`, `NetworkUnreachable`, EMFILE; the signal's reason
   */
  static async connect(to: HostDestination, signal?: AbortSignal): Promise<HostConn> {
    signal?.throwIfAborted();
    const name = `${to.hostname}:${to.port}`;
    const socket = InternetSocket.create("tcp", to.hostname, to.port);
    let conn: HostConn | null = null;
    try {
      const code = socket.connect();
      if (code < 0 && code !== -EINPROGRESS) throw errnoError("connect to", name, code);
      prepare(socket);
      conn = new HostConn(socket, name);
      if (code !== 0) await conn.#connecting(signal);
      return conn;
    } catch (error) {
      conn?.[Symbol.dispose]();
      socket.close();
      throw error;
    }
  }

  async #connecting(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#connected = { bytes: new Uint8Array(0), resolve, reject };
    const abort = () => reject(signal!.reason);
    signal?.addEventListener("abort", abort);
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  #ready(events: number): void {
    if ((events & POLLNVAL) !== 0) return this.#end("somebody has closed its descriptor");
    const connected = this.#connected;
    if (connected !== null) {
      this.#connected = null;
      const code = this.#socket.takeError();
      if (code === 0) connected.resolve();
      else connected.reject(errnoError("connect to", this.#name, code));
      // What came with the connection is not told of again.
    }
    if ((events & (POLLRDHUP | POLLERR | POLLHUP)) !== 0) this.#ended = true;
    if ((events & POLLPRI) !== 0) this.#urgent = true;
    if ((events & POLLIN) !== 0 || this.#ended) {
      this.#empty = false;
      if (this.#read !== null) this.#tryRead(this.#read);
    }
    if ((events & (POLLOUT | POLLERR | POLLHUP)) !== 0 && this.#write !== null) this.#tryWrite(this.#write);
  }

  #tryRead(waiting: Waiting<number | null>): void {
    if (waiting.bytes.length === 0) {
      // Transferred meanwhile: nothing is read, and this is not the end.
      this.#read = null;
      return waiting.resolve(0);
    }
    const n = this.#socket.receive(waiting.bytes);
    this.#read = notNow(n) ? waiting : null;
    // An end that came with these bytes was told with them.
    this.#empty = !this.#ended && (n < 0 || (!this.#urgent && n < waiting.bytes.length));
    if (notNow(n)) return;
    if (n > 0) waiting.resolve(n);
    else if (n === 0) waiting.resolve(null);
    else waiting.reject(errnoError("read from", this.#name, n));
  }

  #tryWrite(waiting: Waiting<number>): void {
    const n = this.#socket.send(waiting.bytes);
    this.#write = notNow(n) ? waiting : null;
    if (n >= 0) waiting.resolve(n);
    else if (!notNow(n)) waiting.reject(errnoError("write to", this.#name, n));
  }

  /** As that of `Deno.TcpConn`: how many bytes, or null at the end. */
  read(bytes: Uint8Array): Promise<number | null> {
    if (this.#read !== null) return Promise.reject(new Deno.errors.Busy("one read at a time"));
    return new Promise((resolve, reject) => {
      const waiting = { bytes: bytes as Uint8Array<ArrayBuffer>, resolve, reject };
      if (bytes.length === 0) return resolve(0);
      if (this.#empty && this.#socket.fd >= 0) this.#read = waiting;
      else this.#tryRead(waiting);
    });
  }

  /** As that of `Deno.TcpConn`: how many bytes were taken. */
  write(bytes: Uint8Array): Promise<number> {
    if (this.#write !== null) return Promise.reject(new Deno.errors.Busy("one write at a time"));
    return new Promise((resolve, reject) => {
      if (bytes.length === 0) return resolve(0);
      this.#tryWrite({ bytes: bytes as Uint8Array<ArrayBuffer>, resolve, reject });
    });
  }

  /** Ends the direction from here. */
  closeWrite(): Promise<void> {
    const code = this.#socket.shutdownWrite();
    return code === 0 ? Promise.resolve() : Promise.reject(errnoError("end", this.#name, code));
  }

  /** Ends it with a reset: the other end knows that something failed. */
  abort(): void {
    this.#waker.close();
    this.#socket.reset();
    this.#end("it was ended");
  }

  /** Closes it; what waits is rejected with `Interrupted`. */
  [Symbol.dispose](): void {
    this.#waker.close();
    this.#socket.close();
    this.#end("it was closed");
  }

  #end(why: string): void {
    const all = [this.#read, this.#write, this.#connected];
    this.#read = this.#write = this.#connected = null;
    for (const one of all) {
      one?.reject(new Deno.errors.Interrupted(`The connection to ${this.#name} has ended: ${why}`));
    }
  }
}

/** A TCP port of this machine: one call of `accept` at a time. */
export class HostListener implements Disposable {
  /** Where it listens. */
  readonly addr: HostDestination;
  readonly #socket: InternetSocket;
  readonly #waker: ReturnType<typeof watchEdges>;
  #accept: PromiseWithResolvers<HostConn> | null = null;

  /**
   * Listens from now on.
   *
   * @param at port 0 for a free one
   * @throws {TypeError | RangeError} for what is no address; `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`, EMFILE
   */
  constructor(at: HostDestination) {
    const socket = this.#socket = InternetSocket.create("tcp", at.hostname, at.port);
    try {
      const code = socket.listen(BACKLOG);
      const port = code < 0 ? code : socket.localPort();
      if (port < 0) throw errnoError("listen on", `${at.hostname}:${at.port}`, port);
      this.addr = { hostname: at.hostname, port };
      this.#waker = watchEdges(socket.fd, () => this.#take(), POLLIN);
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  #take(): void {
    const waiting = this.#accept;
    if (waiting === null) return;
    const socket = this.#socket.accept();
    if (typeof socket === "number" && notNow(socket)) return;
    this.#accept = null;
    if (typeof socket === "number") return waiting.reject(errnoError("accept on", `port ${this.addr.port}`, socket));
    try {
      prepare(socket);
      waiting.resolve(new HostConn(socket, `a client of port ${this.addr.port}`));
    } catch (error) {
      socket.close();
      waiting.reject(error);
    }
  }

  /**
   * The next connection, without Nagle's algorithm.
   *
   * @throws `Busy` while another call waits, `Interrupted` when it is closed meanwhile, `BadResource` afterwards, EMFILE
   */
  accept(): Promise<HostConn> {
    if (this.#accept !== null) return Promise.reject(new Deno.errors.Busy("one accept at a time"));
    this.#accept = Promise.withResolvers();
    const { promise } = this.#accept;
    this.#take();
    return promise;
  }

  /** Listens no longer. A second call does nothing. */
  close(): void {
    this.#waker.close();
    this.#socket.close();
    this.#accept?.reject(new Deno.errors.Interrupted(`port ${this.addr.port} is closed`));
    this.#accept = null;
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

const incoming = new Uint8Array(DATAGRAM_MAX);

/** A UDP socket of this machine, connected to one destination. */
export class HostDatagrams implements Disposable {
  readonly #socket: InternetSocket;
  readonly #name: string;
  readonly #waker: ReturnType<typeof watchEdges>;
  readonly #events: HostDatagramEvents;
  /** The last turn has left some, and the next one is on its way. */
  #more = false;

  /**
   * Is connected when it returns.
   *
   * @throws {TypeError | RangeError} for what is no destination; EMFILE, `NetworkUnreachable`
   */
  constructor(to: HostDestination, events: HostDatagramEvents) {
    this.#name = `${to.hostname}:${to.port}`;
    this.#events = events;
    const socket = this.#socket = InternetSocket.create("udp", to.hostname, to.port);
    try {
      const code = socket.connect();
      if (code < 0) throw errnoError("connect to", this.#name, code);
      this.#waker = watchEdges(socket.fd, (events) => this.#receive(events), POLLIN);
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  #receive(events: number): void {
    if ((events & POLLNVAL) !== 0) {
      this.close();
      return this.#events.failed(new Deno.errors.BadResource(`the socket to ${this.#name} is closed`));
    }
    // One chain of turns, however often more of them come meanwhile: each telling would begin another.
    if (!this.#more) this.#take();
  }

  #take(): void {
    this.#more = false;
    for (let i = 0; i < DATAGRAMS_BURST; i++) {
      const n = this.#socket.receive(incoming);
      if (notNow(n) || this.#socket.fd < 0) return;
      if (n >= 0) this.#events.message(incoming.slice(0, n));
      // What is too long for the path is sent in fragments from now on: nothing has failed.
      else if (n !== -EMSGSIZE) this.#events.failed(errnoError("receive from", this.#name, n));
    }
    // More of them are not told of again; others have their turn first.
    this.#more = true;
    setImmediate(() => this.#take());
  }

  /** Sends now; what there is no room for, or is too long, is lost. An earlier one's error is told by `failed`. */
  send(bytes: Uint8Array): void {
    if (this.#socket.fd < 0) return;
    const n = this.#socket.send(bytes as Uint8Array<ArrayBuffer>);
    // The kernel tells of the last datagram's refusal in place of sending this one.
    if (n < 0 && !notNow(n) && n !== -EMSGSIZE && n !== -ENOBUFS) queueMicrotask(() => this.#fail(n));
  }

  #fail(code: number): void {
    if (this.#socket.fd >= 0) this.#events.failed(errnoError("send to", this.#name, code));
  }

  /** Nothing is told any more. */
  close(): void {
    this.#waker.close();
    this.#socket.close();
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Makes the sockets outside of a gateway by libc: several times faster than Deno's for small exchanges, with resets and refused
 * datagrams passed on. They need `--allow-ffi`, and don't ask what `--allow-net` allows.
 *
 * ```ts ignore
 * using device = TapDevice.open({ name: "vm0" });
 * const gateway = new Gateway(device, { sockets: new HostSockets() });
 * ```
 */
export class HostSockets {
  /**
   * Opens the C library.
   *
   * @throws {Deno.errors.NotCapable} without `--allow-ffi`
   */
  constructor() {
    libc();
  }

  /** See {@link HostConn.connect}. */
  connect(to: HostDestination, signal?: AbortSignal): Promise<HostConn> {
    return HostConn.connect(to, signal);
  }

  /** See {@link HostListener}. */
  listen(at: HostDestination): HostListener {
    return new HostListener(at);
  }

  /** See {@link HostDatagrams}. */
  datagrams(to: HostDestination, events: HostDatagramEvents): HostDatagrams {
    return new HostDatagrams(to, events);
  }
}
