/**
 * Socket options under Linux's names.
 *
 * @module
 */
import type { TcpOptions } from "../tcp/types.ts";
import type { UdpOptions } from "../udp/types.ts";

/** Options of a {@link BareTcpSocket} that can be set; numbers, but for TCP_CONGESTION. */
export type TcpOptionName =
  /** Seconds that `close` is to linger: 0 resets at once; -1 (default) is off. More than 0 doesn't wait here: `state` tells. */
  | "SO_LINGER"
  /** 0 or 1. */
  | "SO_KEEPALIVE"
  /** 0 or 1: another socket may bind the port too. Only one can listen on it. */
  | "SO_REUSEADDR"
  /** Largest receive buffer in bytes: neither doubled, as Linux does, nor fixed at once. */
  | "SO_RCVBUF"
  /** Largest send buffer in bytes. */
  | "SO_SNDBUF"
  /** 0 or 1: Nagle's algorithm is off. */
  | "TCP_NODELAY"
  /** Largest segment in bytes; 0 from the MTU. */
  | "TCP_MAXSEG"
  /** Seconds. */
  | "TCP_KEEPIDLE"
  /** Seconds. */
  | "TCP_KEEPINTVL"
  /** Probes. */
  | "TCP_KEEPCNT"
  /** Milliseconds. */
  | "TCP_USER_TIMEOUT"
  /** "cubic" or "reno". */
  | "TCP_CONGESTION"
  /** 0 or 1: a listener takes data in SYNs (RFC 7413). */
  | "TCP_FASTOPEN"
  /** 0 or 1: `connect` sends nothing until the first `send`, whose data goes with the SYN. */
  | "TCP_FASTOPEN_CONNECT"
  /** 1 to 255. */
  | "IP_TTL"
  /** DSCP and ECN byte. */
  | "IP_TOS";

/** Options of a {@link BareUdpSocket} that can be set: numbers. */
export type UdpOptionName =
  /** Bytes kept before they are received. */
  | "SO_RCVBUF"
  /** 0 or 1. */
  | "SO_BROADCAST"
  /** 0 or 1; before `bind`. */
  | "SO_REUSEADDR"
  /** 1 to 255. */
  | "IP_TTL"
  /** DSCP and ECN byte. */
  | "IP_TOS"
  /** 0 to 255. */
  | "IP_MULTICAST_TTL"
  /** 0 or 1. */
  | "IP_MULTICAST_LOOP"
  /** 0 fragments what is too large, 2 refuses it with EMSGSIZE. */
  | "IP_MTU_DISCOVER";

/** How one option is kept. */
export interface OptionRule<Options> {
  field: keyof Options;
  /** Of one of ours in one of Linux's units; 0 for a switch. */
  scale: number;
  /** What stands when nobody has said anything. */
  fallback: number | string;
  /** Value of the switch when on. Default 1. */
  on?: number;
}

/** Those that are fields of {@link TcpOptions}. */
export const TCP_OPTIONS: { readonly [name in TcpOptionName]?: OptionRule<TcpOptions> } = {
  SO_KEEPALIVE: { field: "keepAlive", scale: 0, fallback: 0 },
  SO_RCVBUF: { field: "receiveBufferMax", scale: 1, fallback: 4 << 20 },
  SO_SNDBUF: { field: "sendBufferMax", scale: 1, fallback: 4 << 20 },
  TCP_NODELAY: { field: "noDelay", scale: 0, fallback: 0 },
  TCP_MAXSEG: { field: "maxSegmentSize", scale: 1, fallback: 0 },
  TCP_KEEPIDLE: { field: "keepAliveIdleMs", scale: 1000, fallback: 7200 },
  TCP_KEEPINTVL: { field: "keepAliveIntervalMs", scale: 1000, fallback: 75 },
  TCP_KEEPCNT: { field: "keepAliveCount", scale: 1, fallback: 9 },
  TCP_USER_TIMEOUT: { field: "userTimeoutMs", scale: 1, fallback: 0 },
  TCP_CONGESTION: { field: "congestionControl", scale: 1, fallback: "cubic" },
  TCP_FASTOPEN: { field: "fastOpen", scale: 0, fallback: 0 },
  TCP_FASTOPEN_CONNECT: { field: "fastOpen", scale: 0, fallback: 0 },
  IP_TTL: { field: "ttl", scale: 1, fallback: 64 },
  IP_TOS: { field: "tos", scale: 1, fallback: 0 },
};

/** All of UDP's. */
export const UDP_OPTIONS: { readonly [name in UdpOptionName]: OptionRule<UdpOptions> & { most: number } } = {
  SO_RCVBUF: { field: "receiveBufferMax", scale: 1, fallback: 212_992, most: 32 << 20 },
  SO_BROADCAST: { field: "broadcast", scale: 0, fallback: 0, most: 1 },
  SO_REUSEADDR: { field: "reuseAddress", scale: 0, fallback: 0, most: 1 },
  IP_TTL: { field: "ttl", scale: 1, fallback: 64, most: 255 },
  IP_TOS: { field: "tos", scale: 1, fallback: 0, most: 255 },
  IP_MULTICAST_TTL: { field: "multicastTtl", scale: 1, fallback: 1, most: 255 },
  IP_MULTICAST_LOOP: { field: "multicastLoop", scale: 0, fallback: 1, most: 1 },
  IP_MTU_DISCOVER: { field: "dontFragment", scale: 0, fallback: 0, on: 2, most: 2 },
};

/** Linux's value as ours. */
export function toField<O>(rule: OptionRule<O>, value: number | string): number | string | boolean {
  if (rule.scale === 0) return value !== 0;
  return typeof value === "number" ? value * rule.scale : value;
}

/** Ours as Linux's. */
export function fromField<O>(rule: OptionRule<O>, options: O): number | string {
  const value: unknown = options[rule.field];
  if (value === undefined) return rule.fallback;
  if (typeof value === "boolean") return value ? rule.on ?? 1 : 0;
  if (typeof value === "number") return value / rule.scale;
  return typeof value === "string" ? value : "custom";
}
