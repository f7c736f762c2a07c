/**
 * The VLAN forwarder: many physical interfaces on one side, a router's interface on the other. What comes in by a physical
 * interface reaches the router with a tag that names the interface; what the router sends leaves by the interface that its tag
 * names.
 *
 * @module
 */
import { checkObject } from "../../stack/checks.ts";
import { ENODEV, ENOENT, errnoError } from "../../ffi/errno.ts";
import type { Device, FrameSink } from "../../stack/device.ts";
import type { PortProgram } from "./context.ts";
import { type EngineOptions, XdpEngine, type XdpPort } from "./engine.ts";
import { createMap, type DevMap } from "./interface_maps.ts";
import { readCounter, type XdpMap } from "./maps.ts";

import type { CountedProgram } from "./port.ts";
import { ACTION_NAMES } from "./ir.ts";
import {
  IFINDEX_MAX,
  MUX_COUNTERS,
  PHYSICAL_COUNTERS,
  physicalProgram,
  PORTS,
  ROUTER_COUNTERS,
  ROUTER_IFACE,
  routerProgram,
} from "./programs/vlan_mux.ts";
import type { VlanMode } from "./vlan_functions.ts";

export type { VlanMode } from "./vlan_functions.ts";

/** What an interface is for. */
export type InterfaceRole = "physical" | "router";

/** A device that can be told to receive what isn't meant for its address. */
export interface PromiscuousDevice extends Device {
  /** Switches it on or off; throws when the kernel refuses. */
  setPromiscuous(on: boolean): void;
}

/** Maps of the forwarder: as long as there is an interface. */
export interface ForwarderMaps {
  /** At 0 the router's interface; both programs share it. */
  readonly routerIface: DevMap;
  /** The interfaces that the router may reach, each at its number. */
  readonly ports: DevMap;
  /** What the programs count. */
  readonly counters: Record<InterfaceRole, XdpMap>;
}

/** Options of the forwarder. */
export interface ForwarderOptions extends EngineOptions {
  /** What of the router's tags counts. Default "mask". */
  mode?: VlanMode;
  /** Other programs than those of `programs/vlan_mux.ts`: made when the maps are. */
  programs?: (maps: ForwarderMaps) => Record<InterfaceRole, PortProgram>;
}

/** An interface to be added. */
export interface InterfaceOptions {
  /** Default: the router's if its MAC address begins with 02:01, else physical. */
  role?: InterfaceRole;
  /** Number of the interface: its VLAN id. Default: the smallest that is free. */
  ifindex?: number;
  /** Default: the device's. */
  name?: string;
  /** The interface's address, if it isn't the device's. */
  mac?: Uint8Array;
  /** Takes frames that programs of one's own pass. */
  host?: FrameSink;
}

/** Programs and map, as long as there is an interface that uses them. */
interface Loaded {
  readonly maps: ForwarderMaps;
  readonly programs: Record<InterfaceRole, CountedProgram>;
}

/** What the forwarder and its interfaces did. */
export interface ForwarderStatistics {
  /** By name. */
  interfaces: Record<string, Record<string, number>>;
  /** By role: frames by action, those on which it threw, and `MUX_COUNTERS`. */
  programs: Record<string, Record<string, number>>;
}

/** True for the MAC address of a router's interface: 02:01:… */
export function isRouterMac(mac: Uint8Array | null): boolean {
  return mac !== null && mac[0] === 0x02 && mac[1] === 0x01;
}

/**
 * The forwarder in user space.
 *
 * ```ts ignore
 * using forwarder = new XdpForwarder();
 * forwarder.add(PacketSocketDevice.open({ name: "eth1" }));
 * forwarder.add(PacketSocketDevice.open({ name: "eth2" }));
 * forwarder.add(TapDevice.open({ name: "router0", offload: false }), { role: "router" });
 * forwarder.setRouterInterface("router0");
 * ```
 */
export class XdpForwarder implements Disposable {
  /** The loop beneath: its ports and counters. */
  readonly engine: XdpEngine;
  /** What of the router's tags counts. */
  readonly mode: VlanMode;
  readonly #make: (maps: ForwarderMaps) => Record<InterfaceRole, PortProgram>;
  readonly #roles = new Map<XdpPort, InterfaceRole>();
  #loaded: Loaded | null = null;

  /** A forwarder without interfaces. @throws {TypeError} for an unknown mode */
  constructor(options: ForwarderOptions = {}) {
    checkObject(options);
    const { mode = "mask", trace, onGone } = options;
    if (mode !== "mask" && mode !== "strict") throw new TypeError(`mode must be "mask" or "strict": ${mode}`);
    this.mode = mode;
    this.#make = options.programs ?? (({ routerIface, ports, counters }) => ({
      physical: physicalProgram().instantiate([routerIface, counters.physical]),
      router: routerProgram({ mode }).instantiate([routerIface, counters.router, ports]),
    }));
    this.engine = new XdpEngine({
      trace,
      onGone: (port, error) => {
        this.#forget(port);
        if (onGone !== undefined) onGone(port, error);
        else if (error !== undefined) reportError(error);
      },
    });
  }

  #load(): Loaded {
    const { interfaces } = this.engine;
    const maps = {
      routerIface: createMap(ROUTER_IFACE, interfaces) as DevMap,
      ports: createMap(PORTS, interfaces) as DevMap,
      counters: { physical: createMap(PHYSICAL_COUNTERS, interfaces), router: createMap(ROUTER_COUNTERS, interfaces) },
    };
    const { physical, router } = this.#make(maps);
    return { maps, programs: { physical: this.engine.load("physical", physical), router: this.engine.load("router", router) } };
  }

  /**
   * Adds an interface, while others run or not. A router's interface is made promiscuous if its device can be. The forwarder owns
   * the device from then on.
   *
   * @throws what `XdpEngine.add` throws, and what the device says to being promiscuous: nothing has been added then
   */
  add(device: Device, options: InterfaceOptions = {}): XdpPort {
    const { ifindex, name, mac = device.mac, host } = options;
    const { role = isRouterMac(mac) ? "router" : "physical" } = options;
    if (role !== "physical" && role !== "router") throw new TypeError(`role must be "physical" or "router": ${role}`);
    const loaded = this.#loaded ?? this.#load();
    const port = this.engine.add(device, { ifindex, name, host, program: loaded.programs[role] });
    try {
      if (role === "router" && "setPromiscuous" in device) (device as PromiscuousDevice).setPromiscuous(true);
    } catch (error) {
      this.engine.remove(port.ifindex);
      throw error;
    }
    this.#loaded = loaded;
    this.#roles.set(port, role);
    // Beyond what a tag can name, frames are dropped anyway.
    if (port.ifindex <= IFINDEX_MAX) loaded.maps.ports.set(port.ifindex, port.ifindex);
    return port;
  }

  /** Takes an interface away and closes its device. @throws {Deno.errors.NotFound} (ENODEV) when there is none of that name */
  remove(which: string | number): void {
    const port = this.engine.port(which);
    this.engine.remove(which);
    this.#forget(port!);
  }

  /** Programs and map live as long as an interface has one of the programs: the router's alone is enough. */
  #forget(port: XdpPort): void {
    this.#roles.delete(port);
    if (this.#roles.size === 0) this.#loaded = null;
  }

  /** What an interface is for, or undefined when there is none of that name or number. */
  role(which: string | number): InterfaceRole | undefined {
    const port = this.engine.port(which);
    return port === undefined ? undefined : this.#roles.get(port);
  }

  /** The map `router_iface`; null before the first interface was added and after the last is gone. */
  get routerIface(): DevMap | null {
    return this.#loaded?.maps.routerIface ?? null;
  }

  /**
   * Says which interface frames of the physical ones go to, at once.
   *
   * @throws {TypeError} without a name
   * @throws {Deno.errors.NotFound} (ENODEV) when there is no such interface; (ENOENT) when the map isn't there yet
   * @throws {Deno.errors.InvalidData} (EINVAL), or what else the map answers
   */
  setRouterInterface(name: string): void {
    if (typeof name !== "string" || name === "") throw new TypeError("Cannot set the router's interface: a name is needed");
    const map = this.routerIface;
    if (map === null) {
      throw errnoError("open", `map "${ROUTER_IFACE.name}"`, ENOENT, "No interface was added yet: it is there with the first");
    }
    const port = this.engine.port(name);
    if (port === undefined) {
      const known = this.engine.ports.map((port) => port.name).join(", ");
      throw errnoError("find", `interface "${name}"`, ENODEV, `The forwarder has ${known}`);
    }
    const code = map.set(0, port.ifindex);
    if (code < 0) throw errnoError("update", `map "${ROUTER_IFACE.name}" with interface "${name}"`, code);
  }

  /** Counters by interface and by program: copies. */
  get statistics(): ForwarderStatistics {
    const programs: Record<string, Record<string, number>> = {};
    const loaded = this.#loaded;
    for (const role of loaded === null ? [] : ["physical", "router"] as const) {
      const { actions, thrown } = loaded!.programs[role];
      const counts: Record<string, number> = { thrown };
      for (let i = 0; i < actions.length; i++) counts[ACTION_NAMES[i]] = actions[i];
      const { values } = loaded!.maps.counters[role];
      for (const [i, name] of MUX_COUNTERS.entries()) counts[name] = readCounter(values, 8 * i);
      programs[role] = counts;
    }
    return { interfaces: Object.fromEntries(this.engine.ports.map((port) => [port.name, port.statistics])), programs };
  }

  /** Closes all interfaces. A second call does nothing. */
  close(): void {
    try {
      this.engine.close();
    } finally {
      this.#roles.clear();
      this.#loaded = null;
    }
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
