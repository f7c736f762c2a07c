/**
 * What waits for all descriptors of an isolate: an epoll instance, and the one call that waits for it. See `poll.ts`.
 *
 * @module
 */
import { EBADF, ENOSPC, errnoError } from "./errno.ts";
import { type Hold, holdCall, holders } from "./hold.ts";
import { type Libc, libc } from "./libc.ts";

export const POLLIN = 0x01;
/** Urgent data: a read stops in front of it. */
export const POLLPRI = 0x02;
export const POLLOUT = 0x04;
/** The descriptor is in error: for a TAP, its interface is gone. */
export const POLLERR = 0x08;
export const POLLHUP = 0x10;
/** The descriptor isn't open. */
export const POLLNVAL = 0x20;
/** The other end sends no more. */
export const POLLRDHUP = 0x2000;

const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLLONESHOT = 1 << 30;
const EPOLLET = 1 << 31;
const EFD_NONBLOCK_CLOEXEC = 0x80800;

/** Most wakers open at once in an isolate. */
export const WAKERS_MAX = 16_384;
/** Events taken in one wait; more wait for the next. */
const EVENTS_MAX = 64;
/**
 * While events have come faster than this on average, a wait begins with looking again and again for as long, giving the
 * processor away in between: a call on another thread costs 7 us and two context switches. Slower than this, and so
 * whenever nothing goes on, it costs nothing.
 */
const SPIN_US = 50;
/** Weight of the last gap in the average, and what a single one counts at most, so that a burst is noticed soon. */
const GAP_WEIGHT = 0.25;
const GAP_US_MAX = 1000;

/**
 * How often it is looked whether something is ready while nobody who waits keeps the process alive, and this Deno has no way to leave
 * a call behind (see `hold.ts`): an event is noticed later by up to this.
 */
const LOOK_MS = 5;

/** `epoll_wait` failing this often in a row (it can only by a broken descriptor) is told to every waker as POLLNVAL. */
const FAILURES_MAX = 16;

// `struct epoll_event` is packed on x86-64 only.
const EVENT_SIZE = Deno.build.arch === "x86_64" ? 12 : 16;
const EVENT_DATA = EVENT_SIZE - 8;

/** Tells once when a descriptor is ready, each time that it was armed. */
export interface Waker extends Disposable {
  /** Asks for one call of `onReady`. Asking again before it came only adds to what is waited for. Nothing once closed. */
  arm(events?: number): void;
  /** No more calls of `onReady`. To be called before the descriptor is closed. A second call does nothing. */
  close(): void;
  /** Keeps the process alive while it is armed, as at first. */
  ref(): void;
  /** Lets the process end while it is armed. */
  unref(): void;
}

/** One descriptor that is waited for. */
export class Watch implements Waker {
  armed = 0;
  constructor(
    readonly poller: Poller,
    readonly id: number,
    readonly fd: number,
    readonly onReady: (events: number) => void,
    /** Tells of every change from the beginning to the end: always armed. */
    readonly edges: boolean,
    readonly hold: Hold,
  ) {}

  ref(): void {
    this.hold.ref();
  }

  unref(): void {
    this.hold.unref();
  }

  arm(events: number = POLLIN): void {
    this.poller.arm(this, events);
  }

  close(): void {
    this.poller.remove(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** One of an isolate, until nobody waits any more. */
export class Poller {
  readonly #libc: Libc;
  readonly #epoll: number;
  readonly #eventfd: number;
  readonly #watches = new Map<number, Watch>();
  readonly #events = new Uint8Array(EVENTS_MAX * EVENT_SIZE);
  readonly #eventsView = new DataView(this.#events.buffer);
  readonly #control = new Uint8Array(EVENT_SIZE);
  readonly #controlView = new DataView(this.#control.buffer);
  readonly #one = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);
  readonly #drain = new Uint8Array(8);
  #nextId = 1;
  #armed = 0;
  #failures = 0;
  #pending: Promise<void> | null = null;
  /** The call that is under way, and whether it keeps the process alive. */
  #call: Promise<unknown> | null = null;
  #callHeld = true;
  /** This Deno can't leave a call behind: while nobody keeps the process alive, a timer that doesn't either looks now and then. */
  #mustLook = false;
  #timer: ReturnType<typeof setTimeout> | null = null;
  /** A spin is queued: until it has run nothing else waits. */
  #spinning = false;
  /** What a wait has brought is being told: a new one would write over it. */
  #telling = false;
  /** Average time between asking and being told, in microseconds. */
  #gapUs = GAP_US_MAX;
  #askedAt = 0;
  #kicked = false;
  ended = false;

  constructor() {
    const lib = this.#libc = libc();
    this.#epoll = lib.epollCreate(0x80000);
    if (this.#epoll < 0) throw errnoError("create", "an epoll descriptor", lib.errno[0]);
    this.#eventfd = lib.eventfd(0, EFD_NONBLOCK_CLOEXEC);
    if (this.#eventfd < 0) {
      const errno = lib.errno[0];
      lib.close(this.#epoll);
      throw errnoError("create", "an event descriptor", errno);
    }
    const code = this.#ctl(EPOLL_CTL_ADD, this.#eventfd, POLLIN, 0);
    if (code < 0) throw errnoError("watch", "an event descriptor", code);
    holders.changed = () => this.#keep();
  }

  get pending(): Promise<void> | null {
    return this.#pending;
  }

  /** @param edges what to tell of from now on; 0 for what is asked for by `arm` */
  add(fd: number, onReady: (events: number) => void, edges: number, hold: Hold): Watch {
    if (this.#watches.size >= WAKERS_MAX) throw errnoError("watch", `descriptor ${fd}`, ENOSPC, `At most ${WAKERS_MAX}`);
    do this.#nextId = (this.#nextId + 1) >>> 0; while (this.#nextId === 0 || this.#watches.has(this.#nextId));
    const watch = new Watch(this, this.#nextId, fd, onReady, edges !== 0, hold);
    // Even an empty mask reports errors, once: `#tell` ignores it, because nobody armed.
    const code = this.#ctl(EPOLL_CTL_ADD, fd, edges !== 0 ? edges | EPOLLET : EPOLLONESHOT, watch.id);
    if (code < 0) throw errnoError("watch", `descriptor ${fd}`, code);
    this.#watches.set(watch.id, watch);
    if (edges !== 0) {
      this.#count(watch, 1);
      watch.armed = edges;
      this.#wait();
    }
    return watch;
  }

  arm(watch: Watch, events: number): void {
    if (!this.#watches.has(watch.id) || (watch.armed | events) === watch.armed) return;
    if (watch.armed === 0) this.#count(watch, 1);
    watch.armed |= events;
    const code = this.#ctl(EPOLL_CTL_MOD, watch.fd, watch.armed | EPOLLONESHOT, watch.id);
    if (code < 0) {
      // The descriptor was closed under us: tell, but never from inside the call.
      queueMicrotask(() => this.#tell(watch.id, code === -EBADF ? POLLNVAL : POLLERR));
      return;
    }
    this.#wait();
  }

  remove(watch: Watch): void {
    if (!this.#watches.delete(watch.id)) return;
    if (watch.armed !== 0) this.#count(watch, -1);
    watch.armed = 0;
    this.#ctl(EPOLL_CTL_DEL, watch.fd, 0, 0); // fails harmlessly if the descriptor was closed before
    this.release();
  }

  /** Ends the wait when nobody asks for anything, and the poller when nobody is left. */
  release(): void {
    if (this.#spinning) return; // it looks after the end when it runs
    if (this.#pending !== null) {
      if (this.#armed === 0) this.#kick();
      return;
    }
    if (this.#watches.size > 0 || this.ended) return;
    this.ended = true;
    this.#libc.close(this.#eventfd);
    this.#libc.close(this.#epoll);
  }

  /** Makes the call under way return. */
  #kick(): void {
    if (this.#kicked) return;
    this.#kicked = true;
    this.#libc.writeBytes(this.#eventfd, this.#one, 8);
  }

  /** One more that is armed, or one less. */
  #count(watch: Watch, by: number): void {
    this.#armed += by;
    watch.hold.count(by);
    this.#keep();
  }

  /** The wait keeps the process alive while one who does is armed, and when it is about to end, which takes but a moment. */
  #keep(): void {
    const held = holders.count > 0 || this.#armed === 0;
    if (this.#timer !== null) {
      if (!held) return;
      clearTimeout(this.#timer);
      this.#timer = null;
      if (this.#armed > 0) this.#block();
    } else if (this.#call !== null && held !== this.#callHeld) {
      this.#callHeld = held;
      if (holdCall(this.#call, held)) return;
      this.#mustLook = true;
      this.#kick();
    }
  }

  #wait(): void {
    if (this.#pending !== null || this.#timer !== null || this.#spinning || this.#telling || this.#armed === 0) return;
    this.#askedAt = performance.now();
    if (this.#gapUs < SPIN_US && holders.count > 0) {
      // In a task of its own: what the last event set free runs first. It keeps the process alive, which somebody must want.
      this.#spinning = true;
      setImmediate(this.#spin);
    } else this.#block();
  }

  readonly #spin = (): void => {
    this.#spinning = false;
    if (this.#armed === 0) return this.release();
    const until = performance.now() + SPIN_US / 1000;
    do {
      const n = this.#libc.epollNow(this.#epoll, this.#events, EVENTS_MAX, 0);
      if (n !== 0) return this.#returned(n);
      this.#libc.schedYield();
    } while (performance.now() < until);
    this.#block();
  };

  #block(): void {
    if (this.#mustLook && holders.count === 0) {
      this.#timer = setTimeout(this.#look, LOOK_MS);
      return Deno.unrefTimer(this.#timer as unknown as number);
    }
    // The call holds its buffer, and this object holds both descriptors until the call has returned.
    this.#call = this.#libc.epollWait(this.#epoll, this.#events, EVENTS_MAX, -1);
    this.#callHeld = true;
    this.#pending = (this.#call as Promise<number>).then((n) => this.#returned(n));
    this.#keep();
  }

  readonly #look = (): void => {
    this.#timer = null;
    const n = this.#libc.epollNow(this.#epoll, this.#events, EVENTS_MAX, 0);
    if (n !== 0) this.#returned(n);
    else this.#block();
  };

  #returned(n: number): void {
    this.#pending = this.#call = null;
    this.#telling = true;
    this.#gapUs += GAP_WEIGHT * (Math.min(GAP_US_MAX, (performance.now() - this.#askedAt) * 1000) - this.#gapUs);
    // Its errno is another thread's. A signal, or a stop of the process, is the harmless reason: a call that doesn't wait
    // is not interrupted.
    if (n < 0) n = this.#libc.epollNow(this.#epoll, this.#events, EVENTS_MAX, 0);
    if (n < 0) {
      if (++this.#failures >= FAILURES_MAX) {
        this.#failures = 0;
        for (const id of [...this.#watches.keys()]) this.#tell(id, POLLNVAL);
      }
    } else this.#failures = 0;
    // The last one's end inside a call closes both descriptors, and their numbers may be others' at once.
    for (let i = 0; i < n && !this.ended; i++) {
      const at = i * EVENT_SIZE;
      const id = this.#eventsView.getUint32(at + EVENT_DATA, true);
      if (id === 0) {
        this.#libc.readBytes(this.#eventfd, this.#drain, 8);
        this.#kicked = false;
      } else this.#tell(id, this.#eventsView.getUint32(at, true));
    }
    this.#telling = false;
    this.#wait();
    this.release();
  }

  /** An id that is gone was closed after the kernel had reported it. */
  #tell(id: number, events: number): void {
    const watch = this.#watches.get(id);
    if (watch === undefined || watch.armed === 0) return;
    if (!watch.edges) {
      watch.armed = 0;
      this.#count(watch, -1);
    }
    try {
      watch.onReady(events);
    } catch (error) {
      reportError(error); // one waker's fault must not silence the others
    }
  }

  #ctl(op: number, fd: number, events: number, id: number): number {
    this.#controlView.setUint32(0, events, true);
    this.#controlView.setUint32(EVENT_DATA, id, true);
    return this.#libc.epollControl(this.#epoll, op, fd, this.#control) === 0 ? 0 : -this.#libc.errno[0];
  }
}
