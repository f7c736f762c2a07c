/**
 * What a stack counts, and shows of itself.
 *
 * @module
 */
import type { Internet, NeighborEntry } from "../ip/types.ts";
import type { TcpInfo, TcpLayer, TcpStatistics } from "../tcp/types.ts";
import type { UdpLayer, UdpStatistics } from "../udp/types.ts";
import { formatKey } from "../wire/address.ts";
import type { Pump, PumpCounters } from "./pump.ts";

/** All counters of a stack, as `netstat -s` shows them: a copy of this moment. All only grow, but for gauges that say so. */
export interface StackStatistics {
  /** What each device counts itself, by index of the interface. */
  devices: { name: string; interfaceIndex: number; counters: Record<string, number> }[];
  /** The loop that moves frames. */
  stack: PumpCounters;
  /** The internet layer: ip, icmp, arp, igmp, reassembly, interfaces, … */
  internet: Record<string, Record<string, number>>;
  /** What `netstat -st` shows. */
  tcp: TcpStatistics;
  /** What `netstat -su` shows. */
  udp: UdpStatistics;
}

/** One TCP connection, as `ss -i` shows it. */
export interface ConnectionInfo extends TcpInfo {
  /** Address of this end. */
  localAddress: string;
  /** Address of the other end. */
  remoteAddress: string;
}

/** One neighbour, as `ip neighbour` shows it. */
export interface NeighborInfo {
  /** The address, as text. */
  address: string;
  /** MAC address, "02:00:00:00:00:01". */
  mac: string;
  /** Index of the interface. */
  interfaceIndex: number;
  /** State, by name. */
  state: NeighborEntry["state"];
}

/** One route, as `ip route` shows it. */
export interface RouteInfo {
  /** "10.0.0.0/24" */
  destination: string;
  /** Null: the destination is on the link. */
  gateway: string | null;
  /** Index of the interface. */
  interfaceIndex: number;
  /** The lower is preferred. */
  metric: number;
}

/** One address, as `ip address` shows it. */
export interface AddressInfo {
  /** "10.0.0.2/24" */
  address: string;
  /** Index of the interface. */
  interfaceIndex: number;
  /** Name of the device. */
  device: string;
}

/** Copies every counter. */
export function collectStatistics(pump: Pump, ip: Internet, tcp: TcpLayer, udp: UdpLayer): StackStatistics {
  const internet: Record<string, Record<string, number>> = {};
  for (const [layer, counters] of Object.entries(ip.statistics)) internet[layer] = { ...counters };
  const devices: StackStatistics["devices"] = [];
  for (const { index, device } of ip.interfaces) {
    devices.push({ name: device.name, interfaceIndex: index, counters: device.statistics?.() ?? {} });
  }
  return { devices, stack: { ...pump.counters }, internet, tcp: { ...tcp.statistics }, udp: { ...udp.statistics } };
}

/** Every TCP connection. */
export function listConnections(tcp: TcpLayer): ConnectionInfo[] {
  const list: ConnectionInfo[] = [];
  for (const socket of tcp.sockets()) {
    list.push({ localAddress: formatKey(socket.localKey), remoteAddress: formatKey(socket.remoteKey), ...socket.info() });
  }
  return list;
}

/** Every neighbour. */
export function listNeighbors(ip: Internet): NeighborInfo[] {
  return ip.neighbors.map(({ key, mac, interfaceIndex, state }) => ({ address: formatKey(key), mac, interfaceIndex, state }));
}

/** Every route. */
export function listRoutes(ip: Internet): RouteInfo[] {
  return ip.routes.map(({ destination, prefixLength, gateway, interfaceIndex, metric }) => ({
    destination: `${formatKey(destination)}/${prefixLength}`,
    gateway: gateway === 0 ? null : formatKey(gateway),
    interfaceIndex,
    metric,
  }));
}

/** Every address. */
export function listAddresses(ip: Internet): AddressInfo[] {
  const list: AddressInfo[] = [];
  for (const { index, device, addresses } of ip.interfaces) {
    for (const { key, prefixLength } of addresses) {
      list.push({ address: `${formatKey(key)}/${prefixLength}`, interfaceIndex: index, device: device.name });
    }
  }
  return list;
}
