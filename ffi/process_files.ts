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

const CAP_NET_ADMIN = 12n;

/** True if a thread may administer networks here: it has CAP_NET_ADMIN, in the user namespace that we are in. */
export function mayAdminister(tid: number): boolean {
  try {
    const effective = Deno.readTextFileSync(`/proc/${tid}/status`).match(/^CapEff:\s*([0-9a-f]+)$/m)?.[1];
    if (effective === undefined || (BigInt(`0x${effective}`) >> CAP_NET_ADMIN & 1n) === 0n) return false;
    return Deno.readLinkSync(`/proc/${tid}/ns/user`) === Deno.readLinkSync("/proc/self/ns/user");
  } catch {
    return false; // it has gone, or isn't ours to look at
  }
}
