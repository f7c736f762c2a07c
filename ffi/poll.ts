/**
 * Waiting for descriptors without spinning: one epoll instance per isolate, one nonblocking `epoll_wait` at most for all
 * of them, and an eventfd that ends it. One call, because a process has 32 threads for such calls and a parked one takes
 * one of them; epoll, because interest can be changed while another thread waits, and because it was measured at half the
 * latency of `poll` (7 against 15 us).
 *
 * @module
 */
import { EINVAL } from "./errno.ts";
import { Hold } from "./hold.ts";
import { libc } from "./libc.ts";
import { Poller, POLLIN, POLLOUT, POLLRDHUP, type Waker, type Watch } from "./poller.ts";

export { Hold } from "./hold.ts";
export { POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDHUP, type Waker, WAKERS_MAX } from "./poller.ts";

let shared: Poller | null = null;

/**
 * A waker for a descriptor that can be polled. While it is armed it keeps the process alive, unless it or its `hold` is unref'd.
 *
 * @param fd stays the caller's
 * @param onReady gets the POLL… bits, from the event loop, never from inside a call of ours. POLLERR and POLLHUP come unasked
 * @throws `PermissionDenied` (EPERM) for a regular file, `BadResource` (EBADF), `AlreadyExists` (EEXIST) for a second waker
 *
 * ```ts ignore
 * const waker = createWaker(fd, (events) => console.log("ready", events));
 * waker.arm();
 * ```
 */
export function createWaker(fd: number, onReady: (events: number) => void, hold: Hold = new Hold()): Waker {
  return create(fd, onReady, 0, hold);
}

/**
 * A waker that needs no arming: it tells of every change (data or room that was not there before, an end, an error), as edge
 * triggered epoll does. For whoever reads and writes until there is no more, and would arm each time: a system call saved. It
 * keeps the process alive until it is closed, unless it is unref'd.
 *
 * @param fd stays the caller's
 * @param events what to tell of, beside errors: room (POLLOUT) comes with every datagram that has left
 * @throws as {@link createWaker}
 */
export function watchEdges(
  fd: number,
  onReady: (events: number) => void,
  events: number = POLLIN | POLLOUT | POLLRDHUP,
): Omit<Waker, "arm"> {
  return create(fd, onReady, events, new Hold());
}

function create(fd: number, onReady: (events: number) => void, edges: number, hold: Hold): Watch {
  if (shared === null || shared.ended) shared = new Poller();
  try {
    return shared.add(fd, onReady, edges, hold);
  } catch (error) {
    shared.release();
    throw error;
  }
}

/** Resolves when no wait is under way: what a test awaits after it closed its wakers. */
export async function wakersIdle(): Promise<void> {
  while (shared !== null && shared.pending !== null) await shared.pending;
}

/** A plain `poll` of one descriptor that doesn't wait: the ready POLL… bits, 0 for none, or a negative errno. */
export function pollNow(fd: number, events: number): number {
  if (!Number.isInteger(fd)) return -EINVAL;
  const lib = libc();
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, fd, true);
  view.setInt16(4, events, true);
  const n = lib.poll(bytes, 1, 0);
  return n < 0 ? -lib.errno[0] : view.getUint16(6, true);
}

/** Stops the thread for so many milliseconds: for what the kernel finishes by itself in a moment, while opening something. */
export function pauseMs(ms: number): void {
  libc().poll(new Uint8Array(8), 0, ms);
}
