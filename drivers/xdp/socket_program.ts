/**
 * The program in the kernel that hands a queue's frames to an AF_XDP socket.
 *
 * @module
 */
import type { BpfMap } from "../../ffi/bpf.ts";
import type { XdpSocket } from "../../ffi/af_xdp.ts";
import { type AttachMode, BpfLink } from "../../ffi/bpf_program.ts";
import { EBUSY, errnoError } from "../../ffi/errno.ts";
import { LoadedProgram } from "./bpf/load.ts";
import type { MapSpec } from "./map_kinds.ts";
import { defineProgram, type XdpProgram } from "./program.ts";

/** Queues that the program knows. */
export const QUEUES_MAX = 64;
/** The sockets, by queue. */
export const XSKS: MapSpec = { name: "xsks", kind: "xskmap", keySize: 4, valueSize: 4, maxEntries: QUEUES_MAX };

/** Frames of a queue go to its socket; those of queues without one to the host. */
export function socketProgram(): XdpProgram {
  return defineProgram("xsk", [XSKS], (p) => p.redirectMap(XSKS, p.queue(), () => p.pass()));
}

/** The program on one interface, for all sockets of this thread there. */
interface Shared {
  readonly key: string;
  readonly loaded: LoadedProgram;
  readonly link: BpfLink;
  readonly mode: AttachMode;
  sockets: number;
}

/** By namespace and interface. */
const attached = new Map<string, Shared>();

/** A socket's place in the program of its interface. */
export class AttachedSocket implements Disposable {
  #shared: Shared | null;
  /** How the program is attached. */
  readonly mode: AttachMode;

  /** What {@link attachSocket} made. */
  constructor(shared: Shared) {
    this.#shared = shared;
    this.mode = shared.mode;
    shared.sockets++;
  }

  /** The sockets, by queue. @throws {TypeError} when it is closed */
  get map(): BpfMap {
    return this.#shared!.loaded.map(XSKS.name);
  }

  /** Takes the program off with the last socket; the kernel itself forgets sockets that are closed. A second call does nothing. */
  close(): void {
    const shared = this.#shared;
    this.#shared = null;
    if (shared === null || --shared.sockets > 0) return;
    if (attached.get(shared.key) === shared) attached.delete(shared.key);
    shared.link.close();
    shared.loaded.close();
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** True if an interface that refuses native mode may have the other one: what else is wrong would be wrong there too. */
function lacksNative(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === "EOPNOTSUPP" || code === "EINVAL";
}

function attach(loaded: LoadedProgram, ifindex: number, mode: AttachMode | undefined): [BpfLink, AttachMode] {
  try {
    if (mode !== "generic") return [BpfLink.attachXdp(loaded.program, ifindex, "native"), "native"];
  } catch (error) {
    if (mode === "native" || !lacksNative(error)) throw error;
  }
  return [BpfLink.attachXdp(loaded.program, ifindex, "generic"), "generic"];
}

/** The program that is on the interface already, or one that is put there. */
function share(ifindex: number, name: string, mode: AttachMode | undefined): Shared {
  const key = `${Deno.statSync("/proc/thread-self/ns/net").ino} ${ifindex}`;
  const found = attached.get(key);
  // An interface that is gone may have left its number to another one.
  if (found !== undefined && found.link.info.ifindex === ifindex) {
    if (mode === undefined || mode === found.mode) return found;
    const hint = `Its other queues have sockets in ${found.mode} mode`;
    throw errnoError("attach a BPF program to", `interface "${name}" in ${mode} mode`, EBUSY, hint);
  }
  const loaded = LoadedProgram.load(socketProgram());
  try {
    const [link, used] = attach(loaded, ifindex, mode);
    const shared = { key, loaded, link, mode: used, sockets: 0 };
    attached.set(key, shared);
    return shared;
  } catch (error) {
    loaded.close();
    throw error;
  }
}

/**
 * Gives a queue's frames to a socket: by the program that sockets of other queues of the interface have too, or else by one that
 * is attached now. Programs are shared within a thread.
 *
 * @param mode default: that of the other queues; native if the interface's driver can, else generic
 * @throws what loading and attaching say; `Busy` (EBUSY) also for another mode than that of the other queues
 */
export function attachSocket(
  socket: XdpSocket,
  link: { readonly name: string; readonly index: number },
  queue: number,
  mode: AttachMode | undefined,
): AttachedSocket {
  const place = new AttachedSocket(share(link.index, link.name, mode));
  try {
    const number = (value: number) => new Uint8Array(Int32Array.of(value).buffer);
    const code = place.map.update(number(queue), number(socket.fd));
    if (code < 0) throw errnoError("register a socket for", `interface "${link.name}"`, code);
    return place;
  } catch (error) {
    place.close();
    throw error;
  }
}
