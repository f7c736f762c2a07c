/**
 * Event descriptors, as one process rings another with them.
 *
 * @module
 */
import { Descriptor } from "./descriptor.ts";
import { errnoError } from "./errno.ts";
import { libc } from "./libc.ts";

const EFD_NONBLOCK_CLOEXEC = 0x80800;
const ONE = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);
const drain = new Uint8Array(8);

/** A new event descriptor that never blocks. */
export function createEvent(): Descriptor {
  const lib = libc();
  const fd = lib.eventfd(0, EFD_NONBLOCK_CLOEXEC);
  if (fd < 0) throw errnoError("create", "an event descriptor", lib.errno[0]);
  return new Descriptor(fd);
}

/** Rings. Nothing if the descriptor is full or gone: then it rings already, or nobody listens. */
export function ring(fd: number): void {
  libc().writeBytes(fd, ONE, 8);
}

/** Takes away what has rung so far. */
export function quiet(fd: number): void {
  libc().readBytes(fd, drain, 8);
}
