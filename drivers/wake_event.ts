/**
 * A descriptor that other threads of this process wake this one by. It is waited for together with the devices, so that a
 * thread that looks for frames without sleeping hears it too.
 *
 * @module
 */
import type { Descriptor } from "../ffi/descriptor.ts";
import { createEvent, quiet, ring } from "../ffi/eventfd.ts";
import { libc } from "../ffi/libc.ts";
import { createWaker, type Waker } from "../ffi/poll.ts";

export { wakersIdle } from "../ffi/poll.ts";

/** An eventfd of this thread. */
export class WakeEvent implements Disposable {
  /** Given on to other threads as a number: {@link closeWakeEvent} closes it. */
  readonly #event: Descriptor;
  readonly #waker: Waker;

  /** @param onWake called from the event loop, once for any number of wakes */
  constructor(onWake: () => void) {
    this.#event = createEvent();
    this.#waker = createWaker(this.fd, () => {
      quiet(this.fd);
      this.#waker.arm();
      onWake();
    });
    this.#waker.arm();
  }

  /** The descriptor, for {@link wakeThread}. */
  get fd(): number {
    return this.#event.fd;
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
  ring(fd);
}

/** Gives the descriptor back, when no thread knows it any more. */
export function closeWakeEvent(fd: number): void {
  libc().close(fd);
}
