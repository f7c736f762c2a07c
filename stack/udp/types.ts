/**
 * The sockets of UDP: calls that return at once, driven by the host shell.
 *
 * @module
 */
import type { Packet } from "../ip/types.ts";

/** Bits of `UdpSocket.events`. */
export const EVENT_READABLE = 1;
export const EVENT_ERROR = 8;

/** Options that a datagram socket can be made with. */
export interface UdpOptions {
  /** Bytes and datagrams kept before a read; what comes beyond is dropped and counted. Defaults 212,992 and 1024. */
  receiveBufferMax?: number;
  /** Datagrams kept before a read. Default 1024. */
  receiveQueueMax?: number;
  /** Allow sending to broadcast addresses. Default true, as Deno. */
  broadcast?: boolean;
  /** Several sockets on one port, each gets broadcast and multicast (SO_REUSEADDR). Default false. */
  reuseAddress?: boolean;
  /** Time to live. Default 64. */
  ttl?: number;
  /** Time to live of multicast. Default 1. */
  multicastTtl?: number;
  /** Hear one's own multicast. */
  multicastLoop?: boolean;
  /** DSCP and ECN byte. Default 0. */
  tos?: number;
  /** Don't fragment: a datagram over the path MTU is `EMSGSIZE`. Default false. */
  dontFragment?: boolean;
}

/** Where a datagram came from: filled in by `receive`. */
export interface UdpSource {
  key: number;
  port: number;
  /** The address that it was sent to, and the interface that it came by. */
  localKey: number;
  interfaceIndex: number;
  /** Length of the datagram, even when the caller's buffer was shorter. */
  length: number;
}

export interface UdpSocket {
  readonly localKey: number;
  readonly localPort: number;
  /** ANY and 0 while not connected. */
  readonly remoteKey: number;
  readonly remotePort: number;
  events: number;
  owner: unknown;
  /** Datagrams that wait. */
  readonly pending: number;
  /** Bytes of the datagram that `receive` would give next; -1 if there is none. */
  readonly nextLength: number;
  /** Copies the next datagram out (cut to `length`), fills `source`. Bytes copied, `EAGAIN`, or the pending error (then cleared). */
  receive(into: Uint8Array, offset: number, length: number, source: UdpSource): number;
  /**
   * Sends one datagram; `remoteKey` 0 = the connected peer. Bytes sent, or a negative code. That the next hop doesn't answer is the
   * pending error of a connected socket later, and no error of others.
   */
  send(bytes: Uint8Array, offset: number, length: number, remoteKey: number, remotePort: number): number;
  connect(remoteKey: number, remotePort: number): number;
  /** The pending error (then cleared), or 0. */
  takeError(): number;
  joinMulticast(group: number, interfaceIndex?: number): number;
  leaveMulticast(group: number, interfaceIndex?: number): number;
  setOptions(options: UdpOptions): void;
  close(): void;
  readonly statistics: { received: number; sent: number; dropped: number };
}

/** UDP counters, as `netstat -s` shows them; they only grow. */
/** UDP counters, as `netstat -s` shows them. All start at 0 and only grow. */
export interface UdpStatistics {
  /** Datagrams received. */
  received: number;
  /** Datagrams sent. */
  sent: number;
  /** Datagrams to a port where nobody listens. */
  noPort: number;
  /** Dropped: wrong checksum. */
  badChecksum: number;
  /** Dropped: impossible length. */
  badLength: number;
  /** Dropped: the socket's buffer was full. */
  receiveBufferFull: number;
  /** Datagrams that could not be sent, those lost for want of room included. */
  sendErrors: number;
}

export interface UdpLayer {
  readonly ready: UdpSocket[];
  readonly statistics: UdpStatistics;
  /**
   * Opens a socket on `localKey` (ANY for all) and `port` (0 for a free one, RFC 6056). `EADDRINUSE`, `EADDRNOTAVAIL`.
   *
   * @param beside whoever has the port: for one flow that was intercepted
   */
  open(localKey: number, port: number, options?: UdpOptions, beside?: boolean): UdpSocket | number;
  sockets(): Iterable<UdpSocket>;
  /**
   * Asked about a datagram that no socket wants, or one (`found`) that is bound to no address: the socket that takes it, null to
   * refuse it, undefined to say nothing. The packet is valid during the call only.
   */
  intercept:
    | ((packet: Packet, sourcePort: number, destinationPort: number, found: UdpSocket | null) => UdpSocket | null | undefined)
    | null;
  /** Ends everything, or what is bound to an address of ours, with `code` as the pending error. */
  shutdown(code: number, localKey?: number): void;
}
