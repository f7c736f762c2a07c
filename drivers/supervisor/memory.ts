/**
 * The memory of a supervised program that waits for its answer.
 *
 * @module
 */
import { EFAULT } from "../../ffi/errno.ts";
import { readProcess, writeProcess } from "../../ffi/process_memory.ts";
import type { NotificationListener } from "../../ffi/seccomp.ts";
import type { IoctlMemory } from "../netdev/memory.ts";

/** Whose memory: a call that waits. */
export interface Caller {
  readonly listener: NotificationListener;
  readonly id: bigint;
  readonly tid: number;
  /** Set when the call has been answered: from then on its memory is no longer ours to touch. */
  over: boolean;
}

/**
 * A caller's memory, within its request: before it is touched, and again after it was read, the caller must still wait. What
 * an id names after its end may be a stranger. -EFAULT for a bad address or a request that is over, -EMSGSIZE for more than 1 MiB.
 */
export class CallerMemory implements IoctlMemory {
  readonly #caller: Caller;

  /** @param caller who waits */
  constructor(caller: Caller) {
    this.#caller = caller;
  }

  get #waits(): boolean {
    return !this.#caller.over && this.#caller.listener.isValid(this.#caller.id);
  }

  /** See {@link IoctlMemory}. */
  read(address: number, into: Uint8Array<ArrayBuffer>): number {
    if (!this.#waits) return -EFAULT;
    const code = readProcess(this.#caller.tid, address, into);
    return code === 0 && !this.#waits ? -EFAULT : code;
  }

  /** See {@link IoctlMemory}. */
  write(address: number, bytes: Uint8Array<ArrayBuffer>): number {
    if (!this.#waits) return -EFAULT;
    const code = writeProcess(this.#caller.tid, address, bytes);
    return code === 0 && !this.#waits ? -EFAULT : code;
  }
}
