/**
 * A descriptor that other threads of this process wake this one by. It is waited for together with the devices, so that a
 * thread that looks for frames without sleeping hears it too.
 *
 * @module
 */
import { errnoError } from "../ffi/errno.ts";
import { libc } from "../ffi/libc.ts";
import { createWaker, type Waker } from "../ffi/poll.ts";

export { wakersIdle } from "../ffi/poll.ts";

const EFD_NONBLOCK_CLOEXEC = 0x80800;
const ONE = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);

/** An eventfd of this thread. */
export class WakeEvent implements Disposable {
  readonly fd: number;
  readonly #waker: Waker;
  readonly #drain = new Uint8Array(8);

  /** @param onWake called from the event loop, once for any number of wakes */
  constructor(onWake: () => void) {
    const lib = libc();
    this.fd = lib.eventfd(0, EFD_NONBLOCK_CLOEXEC);
    if (this.fd < 0) throw errnoError("create", "an event descriptor", lib.errno[0]);
    this.#waker = createWaker(this.fd, () => {
      lib.readBytes(this.fd, this.#drain, 8);
      this.#waker.arm();
      onWake();
    });
    this.#waker.arm();
  }

  /** Listens no longer. The descriptor stays until {@link closeWakeEvent}: another thread may be about to write to it. */
  close(): void {
    this.#waker.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Wakes the thread that `fd` belongs to: from any thread of the process. */
export function wakeThread(fd: number): void {
  libc().writeBytes(fd, ONE, 8);
}

/** Gives the descriptor back, when no thread knows it any more. */
export function closeWakeEvent(fd: number): void {
  libc().close(fd);
}
