/**
 * The program in the kernel that hands a queue's frames to an AF_XDP socket.
 *
 * @module
 */
import type { XdpSocket } from "../../ffi/af_xdp.ts";
import { type AttachMode, BpfLink } from "../../ffi/bpf_program.ts";
import { errnoError } from "../../ffi/errno.ts";
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

/** A socket's program, attached. */
export class AttachedSocket implements Disposable {
  readonly #loaded: LoadedProgram;
  readonly #link: BpfLink;

  /** What {@link attachSocket} made. */
  constructor(loaded: LoadedProgram, link: BpfLink, readonly mode: AttachMode) {
    this.#loaded = loaded;
    this.#link = link;
  }

  /** Takes the program off. */
  close(): void {
    this.#link.close();
    this.#loaded.close();
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

function attach(loaded: LoadedProgram, ifindex: number, mode: AttachMode | undefined): AttachedSocket {
  try {
    if (mode !== "generic") return new AttachedSocket(loaded, BpfLink.attachXdp(loaded.program, ifindex, "native"), "native");
  } catch (error) {
    if (mode === "native" || !lacksNative(error)) throw error;
  }
  return new AttachedSocket(loaded, BpfLink.attachXdp(loaded.program, ifindex, "generic"), "generic");
}

/**
 * Attaches the program to an interface.
 *
 * @param mode default: native if the interface's driver can, else generic
 * @throws what loading and attaching say
 */
export function attachSocket(
  socket: XdpSocket,
  link: { readonly name: string; readonly index: number },
  queue: number,
  mode: AttachMode | undefined,
): AttachedSocket {
  const loaded = LoadedProgram.load(socketProgram());
  try {
    const number = (value: number) => new Uint8Array(Int32Array.of(value).buffer);
    const code = loaded.map(XSKS.name).update(number(queue), number(socket.fd));
    if (code < 0) throw errnoError("register a socket for", `interface "${link.name}"`, code);
    return attach(loaded, link.index, mode);
  } catch (error) {
    loaded.close();
    throw error;
  }
}
