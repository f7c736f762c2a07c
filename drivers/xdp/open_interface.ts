/**
 * Interfaces of the kernel for a forwarder in user space, with the numbers that the kernel gave them: so that tags are the same
 * as those of a forwarder in the kernel.
 *
 * @module
 */
import { EEXIST, ENODEV, errnoError } from "../../ffi/errno.ts";
import { getLink } from "../../ffi/rtnl_link.ts";
import { parseMac } from "../../ffi/inet.ts";
import { PacketSocketDevice } from "../packet_socket.ts";
import { TapDevice } from "../tap.ts";
import type { XdpForwarder } from "./forwarder.ts";
import type { XdpPort } from "./port.ts";

/** The type of a link with Ethernet addresses. */
const ARPHRD_ETHER = 1;
/** What a name of an interface begins with to be a TAP of this process. */
const TAP_PREFIX = "tap:";

/** Whether `openInterface` would open a TAP. */
export function isTapName(name: string): boolean {
  return name.startsWith(TAP_PREFIX);
}

function bareName(name: string): string {
  return isTapName(name) ? name.slice(TAP_PREFIX.length) : name;
}

/**
 * Opens an interface and adds it to a forwarder: the router's side if its address begins with 02:01.
 *
 * @param name an interface that exists, to be opened by a packet socket; or `tap:NAME`, a TAP of this process, made if it isn't there
 * @param options.promiscuous make a physical interface promiscuous too. Default false
 * @throws what opening the device and `XdpForwarder.add` throw: nothing stays open then
 */
export function openInterface(forwarder: XdpForwarder, name: string, options: { promiscuous?: boolean } = {}): XdpPort {
  if (!isTapName(name) && getLink(name).type !== ARPHRD_ETHER) throw new TypeError(`Interface "${name}" has no Ethernet address`);
  const device = isTapName(name)
    ? TapDevice.open({ name: bareName(name), host: { up: true } })
    : PacketSocketDevice.open({ name, promiscuous: options.promiscuous });
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
  const taken = names.find((name) => forwarder.engine.port(bareName(name)) !== undefined);
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
