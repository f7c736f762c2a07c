/**
 * Network namespaces. `setns` and `unshare` touch the calling thread only: the isolate that calls, and none of the pool
 * threads that Deno's own network functions may use. Sockets and TAP descriptors opened meanwhile stay in their
 * namespace for good, so that a namespace is entered for the moment of opening.
 *
 * A process of several threads, which Deno is, cannot make itself a *user* namespace (the kernel answers EINVAL): without
 * root, start the whole process under `unshare -Urn`.
 *
 * @module
 */
import { Descriptor, O_RDONLY, openFile } from "./descriptor.ts";
import { EPERM, errnoError } from "./errno.ts";
import { libc } from "./libc.ts";

export const CLONE_NEWNET = 0x40000000;

/** A namespace: a path, a name under `/run/netns` (as `ip netns` makes them), a process, or an open descriptor. */
export type NamespaceReference = string | { readonly pid: number } | Descriptor;

const HINT = "It needs CAP_SYS_ADMIN: run as root or under `unshare -Urn`";

/** Where a reference points. @throws {TypeError} for an impossible one */
export function namespacePath(reference: string | { readonly pid: number }): string {
  if (typeof reference !== "string") {
    if (!Number.isInteger(reference.pid) || reference.pid <= 0) throw new TypeError(`Invalid process id ${reference.pid}`);
    return `/proc/${reference.pid}/ns/net`;
  }
  if (reference === "" || reference.includes("\0")) {
    throw new TypeError("Invalid namespace: a name or an absolute path is needed");
  }
  if (reference.startsWith("/")) return reference;
  if (reference.includes("/")) throw new TypeError(`Invalid namespace ${JSON.stringify(reference)}: the path must be absolute`);
  return `/run/netns/${reference}`;
}

/** Opens a namespace. @throws `NotFound` (ENOENT), `PermissionDenied` (EACCES) */
export function openNamespace(reference: string | { readonly pid: number }): Descriptor {
  const path = namespacePath(reference);
  const fd = openFile(path, O_RDONLY);
  if (fd < 0) throw errnoError("open", `network namespace "${path}"`, fd);
  return new Descriptor(fd);
}

/** The network namespace of the calling isolate's thread. */
export function currentNamespace(): Descriptor {
  return openNamespace("/proc/thread-self/ns/net");
}

/** Moves the calling isolate's thread into a namespace. @throws `PermissionDenied` (EPERM) */
export function enterNamespace(namespace: Descriptor): void {
  const lib = libc();
  if (lib.setns(namespace.fd, CLONE_NEWNET) === 0) return;
  const errno = lib.errno[0];
  throw errnoError("enter", "a network namespace", errno, errno === EPERM ? HINT : "");
}

/** Moves the calling isolate's thread into a new, empty network namespace. @throws `PermissionDenied` (EPERM) */
export function unshareNetwork(): void {
  const lib = libc();
  if (lib.unshare(CLONE_NEWNET) === 0) return;
  const errno = lib.errno[0];
  throw errnoError("create", "a network namespace", errno, errno === EPERM ? HINT : "");
}

/** A new network namespace, which lives as long as the descriptor, or something in it, does. The thread stays where it is. */
export function createNamespace(): Descriptor {
  using home = currentNamespace();
  unshareNetwork();
  try {
    return currentNamespace();
  } finally {
    enterNamespace(home);
  }
}

/** Runs a synchronous function inside a namespace and comes back, whatever happens. */
export function inNamespace<T>(reference: NamespaceReference, run: () => T): T {
  using home = currentNamespace();
  const target = reference instanceof Descriptor ? reference : openNamespace(reference);
  try {
    enterNamespace(target);
    try {
      return run();
    } finally {
      enterNamespace(home);
    }
  } finally {
    if (target !== reference) target.close();
  }
}
