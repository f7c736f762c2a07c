/**
 * Devices, addresses and routes of a stack: the text forms of people turned into the internet layer's calls.
 *
 * @module
 */
import { EADDRINUSE, ENODEV } from "../codes.ts";
import type { Device } from "../device.ts";
import type { InterfaceOptions, Internet, NetInterface, Route } from "../ip/types.ts";
import { formatKey, formatMac, maskOf, parseMac } from "../wire/address.ts";
import { errorFrom } from "./errors.ts";
import { checkAddress, checkOwnAddress, checkRoute } from "./options.ts";
import type { CheckedAddresses, DeviceOptions, NetStackOptions, RouteOptions } from "./options.ts";
import type { Pump } from "./pump.ts";

/** The links of one stack. */
export class Links {
  readonly #ip: Internet;
  readonly #pump: Pump;
  /** Why an interface is being removed. */
  #removing: Error | null = null;

  constructor(ip: Internet, pump: Pump) {
    this.#ip = ip;
    this.#pump = pump;
  }

  /** Opens a device, and gives it its addresses. */
  attach(device: Device, options: DeviceOptions, checked: CheckedAddresses): { index: number; ready: Promise<void> } {
    const settings: InterfaceOptions & { vlan?: number } = {};
    if (checked.mtu !== undefined) settings.mtu = checked.mtu;
    if (checked.vlan !== undefined) settings.vlan = checked.vlan;
    const netInterface = this.#ip.addInterface(device, settings);
    try {
      this.#pump.attach(device, netInterface);
    } catch (error) {
      this.#ip.removeInterface(netInterface.index);
      throw error;
    }
    try {
      const added = checked.addresses.map(({ key, prefixLength }) =>
        this.addKey(netInterface.index, key, prefixLength, options.detectConflicts ?? false)
      );
      const ready = Promise.all(added).then(() => {});
      ready.catch(() => {});
      return { index: netInterface.index, ready };
    } catch (error) {
      // An address that the stack has on another device: all or nothing.
      this.#pump.detach(netInterface);
      this.#ip.removeInterface(netInterface.index);
      throw error;
    }
  }

  /**
   * Forgets an interface. What is bound to its addresses, and nothing else, ends with `error`; `reset` tells the peers of
   * connections, while the device still can.
   */
  remove(netInterface: NetInterface, error: Error, reset: boolean): void {
    const keys = netInterface.addresses.map(({ key }) => key);
    this.#pump.now();
    this.#removing = error;
    for (const key of keys) {
      this.#pump.fail(error, key);
      this.#pump.tcp.shutdown(ENODEV, reset, key);
      this.#pump.udp.shutdown(ENODEV, key);
    }
    if (reset) netInterface.device.flush?.();
    this.#pump.detach(netInterface);
    this.#ip.removeInterface(netInterface.index);
    this.#removing = null;
    // Owners that aren't told by the shell are by their socket.
    this.#pump.schedule();
  }

  /** Throws what is wrong at once; the promise tells the outcome of probing. */
  addKey(index: number, key: number, prefixLength: number, probe: boolean): Promise<void> {
    const tried = `address ${formatKey(key)}/${prefixLength}`;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const settled = (code: number) => {
      if (code < 0) reject(this.#removing ?? errorFrom(code, code === EADDRINUSE ? `${tried}: another host has it` : tried));
      else resolve();
    };
    this.#pump.now();
    const code = this.#ip.addAddress(index, key, prefixLength, probe, probe ? settled : undefined);
    if (code < 0) throw errorFrom(code, tried);
    if (!probe) resolve();
    this.#pump.schedule();
    return promise;
  }

  /** Tells the user of addresses of ours that another host uses. */
  tellConflicts(onConflict: NonNullable<NetStackOptions["onConflict"]>): void {
    this.#ip.onConflict = (key, interfaceIndex, mac) => {
      const conflict = { address: formatKey(key), mac: formatMac(mac), interfaceIndex };
      this.#pump.callUser(() => onConflict(conflict));
    };
  }

  /** The interface with an index. */
  find(index: number): NetInterface {
    const found = this.#ip.interfaces.find((one) => one.index === index);
    if (found === undefined) throw new RangeError(`the stack has no interface ${index}`);
    return found;
  }

  /** The interface with an index, or the first. */
  #pick(index: number | undefined): NetInterface {
    if (index !== undefined) return this.find(index);
    const [first] = this.#ip.interfaces;
    if (first === undefined) throw new RangeError("the stack has no device");
    return first;
  }

  addAddress(address: string, interfaceIndex: number | undefined, probe: boolean): Promise<void> {
    const { key, prefixLength } = checkOwnAddress(address);
    return this.addKey(this.#pick(interfaceIndex).index, key, prefixLength, probe);
  }

  removeAddress(address: string): void {
    const key = checkAddress(typeof address === "string" ? address.split("/")[0] : address, "address");
    const owner = this.#ip.interfaces.find((one) => one.addresses.some((held) => held.key === key));
    if (owner === undefined) throw new Deno.errors.AddrNotAvailable(`the stack has no address ${address}`);
    this.#pump.now();
    this.#ip.removeAddress(owner.index, key);
    this.#pump.schedule();
  }

  addRoute(route: RouteOptions): void {
    this.addRouteKeys(checkRoute(route), route.interfaceIndex);
  }

  removeRoute(route: RouteOptions): void {
    const code = this.#ip.removeRoute(this.#route(checkRoute(route), route.interfaceIndex));
    if (code < 0) throw errorFrom(code, `remove route ${route.destination}`);
  }

  setNeighbor(address: string, mac: string, interfaceIndex?: number): void {
    const key = checkAddress(address, "address");
    this.#pump.now();
    const code = this.#ip.setNeighbor(this.#pick(interfaceIndex).index, key, parseMac(mac));
    if (code < 0) throw errorFrom(code, `neighbor ${address}`);
    this.#pump.schedule();
  }

  addRouteKeys(route: Omit<Route, "interfaceIndex">, interfaceIndex?: number): void {
    const code = this.#ip.addRoute(this.#route(route, interfaceIndex));
    const text = `${formatKey(route.destination)}/${route.prefixLength}`;
    if (code < 0) throw errorFrom(code, `add route ${text}${route.gateway === 0 ? "" : ` via ${formatKey(route.gateway)}`}`);
  }

  #route(route: Omit<Route, "interfaceIndex">, interfaceIndex?: number): Route {
    if (interfaceIndex !== undefined) return { ...route, interfaceIndex: this.find(interfaceIndex).index };
    const next = route.gateway === 0 ? route.destination : route.gateway;
    const { interfaces } = this.#ip;
    const near = interfaces.find(({ addresses }) =>
      addresses.some(({ key, prefixLength }) => ((key ^ next) & maskOf(prefixLength)) === 0)
    );
    return { ...route, interfaceIndex: (near ?? this.#pick(undefined)).index };
  }
}
