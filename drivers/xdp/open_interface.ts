/**
 * Interfaces of the kernel for a forwarder in user space, with the numbers that the kernel gave them: so that tags are the same
 * as those of a forwarder in the kernel.
 *
 * @module
 */
import { EEXIST, ENODEV, errnoError } from "../../ffi/errno.ts";
import { getLink } from "../../ffi/rtnl_link.ts";
import { parseMac } from "../../ffi/inet.ts";
import type { Device } from "../../stack/device.ts";
import { AfXdpDevice } from "../af_xdp.ts";
import { PacketSocketDevice } from "../packet_socket.ts";
import { TapDevice } from "../tap.ts";
import type { XdpForwarder } from "./forwarder.ts";
import type { XdpPort } from "./port.ts";

/** The type of a link with Ethernet addresses. */
const ARPHRD_ETHER = 1;

/** A name as `openInterface` takes it, in parts. */
interface Named {
  readonly kind: "kernel" | "tap" | "xsk";
  /** The interface's own name. */
  readonly name: string;
  readonly queue: number;
}

function split(text: string): Named {
  const match = /^(tap|xsk):([^:]+)(?::(\d+))?$/.exec(text);
  if (match === null || (match[1] === "tap" && match[3] !== undefined)) return { kind: "kernel", name: text, queue: 0 };
  return { kind: match[1] as "tap" | "xsk", name: match[2], queue: Number(match[3] ?? 0) };
}

/**
 * What `openInterface` makes of a name: "tap" of `tap:NAME`, "xsk" of `xsk:NAME` and `xsk:NAME:QUEUE`, and of all others "kernel": an
 * interface that a forwarder in the kernel can have too.
 */
export function interfaceKind(name: string): "kernel" | "tap" | "xsk" {
  return split(name).kind;
}

function openDevice({ kind, name, queue }: Named, promiscuous: boolean | undefined): Device {
  if (kind === "tap") return TapDevice.open({ name, host: { up: true } });
  if (getLink(name).type !== ARPHRD_ETHER) throw new TypeError(`Interface "${name}" has no Ethernet address`);
  return kind === "xsk" ? AfXdpDevice.open({ name, queue, promiscuous }) : PacketSocketDevice.open({ name, promiscuous });
}

/**
 * Opens an interface and adds it to a forwarder: the router's side if its address begins with 02:01.
 *
 * @param name an interface that exists, to be opened by a packet socket; `xsk:NAME` or `xsk:NAME:QUEUE`, one queue of it by AF_XDP,
 *   with what the host leaves to cards switched off; or `tap:NAME`, a TAP of this process, made if it isn't there
 * @param options.promiscuous make a physical interface promiscuous too. Default false
 * @throws what opening the device and `XdpForwarder.add` throw: nothing stays open then
 */
export function openInterface(forwarder: XdpForwarder, name: string, options: { promiscuous?: boolean } = {}): XdpPort {
  const device = openDevice(split(name), options.promiscuous);
  try {
    const link = getLink(device.name);
    return forwarder.add(device, { ifindex: link.index, mac: parseMac(link.mac) });
  } catch (error) {
    device.close();
    throw error;
  }
}

/**
 * {@link openInterface} for several, while others run: all of them, or when one fails none.
 *
 * @throws `AlreadyExists` (EEXIST) for one that the forwarder has; and what {@link openInterface} throws
 */
export function addInterfaces(forwarder: XdpForwarder, names: readonly string[], options: { promiscuous?: boolean } = {}): void {
  const taken = names.find((name) => forwarder.engine.port(split(name).name) !== undefined);
  if (taken !== undefined) throw errnoError("add", `interface "${taken}"`, EEXIST, "The forwarder has it already");
  const added: XdpPort[] = [];
  try {
    for (const name of names) added.push(openInterface(forwarder, name, options));
  } catch (error) {
    for (const { ifindex } of added) forwarder.remove(ifindex);
    throw error;
  }
}

/** Takes interfaces away while others run. @throws `NotFound` (ENODEV) when the forwarder has no such interface: all are there then */
export function removeInterfaces(forwarder: XdpForwarder, names: readonly string[]): void {
  const known = forwarder.engine.ports.map(({ name }) => name);
  const odd = names.find((name) => !known.includes(name));
  if (odd !== undefined) {
    throw errnoError("find", `interface "${odd}"`, ENODEV, `The forwarder has ${known.join(", ") || "none"}`);
  }
  for (const name of new Set(names)) forwarder.remove(name);
}
