/**
 * What another process's descriptors are, by `/proc`.
 *
 * @module
 */
import { cString, libc } from "./libc.ts";

/** Paths kept; a program asks by the same descriptor again and again. */
const PATHS_MAX = 256;
const paths = new Map<number, Uint8Array<ArrayBuffer>>();
const target = new Uint8Array(16);
const SOCKET = new TextEncoder().encode("socket:");

/** True if the descriptor is open in the process of this thread, and is a socket. */
export function descriptorIsSocket(tid: number, fd: number): boolean {
  if (fd < 0) return false;
  const key = tid * 2 ** 21 + (fd & 0x1fffff);
  let path = fd < 2 ** 21 ? paths.get(key) : undefined;
  if (path === undefined) {
    path = cString(`/proc/${tid}/fd/${fd}`);
    if (paths.size >= PATHS_MAX) paths.clear();
    if (fd < 2 ** 21) paths.set(key, path);
  }
  const n = libc().readlink(path, target, target.length);
  return n > SOCKET.length && SOCKET.every((byte, i) => target[i] === byte);
}
