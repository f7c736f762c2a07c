/**
 * A UDP socket with the calls of POSIX, none of which waits.
 *
 * @module
 */
import { EBADF, EINVAL, ENOPROTOOPT, EPIPE, OK } from "../codes.ts";
import { ANY } from "../ip/types.ts";
import type { Udp } from "../udp/udp.ts";
import type { UdpOptions, UdpSocket } from "../udp/types.ts";
import { formatKey, tryParseAddress } from "../wire/address.ts";
import { fromField, toField, UDP_OPTIONS, type UdpOptionName } from "./options.ts";

/** What a socket needs of its stack. */
export interface BareUdpHost {
  udp: Udp;
  settle(): void;
}

/**
 * A UDP socket of a {@link BareStack}. Every call returns at once: a count or 0 when it went well, else a negative errno code
 * (`codes`). Nothing here throws.
 *
 * @example
 * ```ts
 * import { BareStack, PacketDevice } from "@tapioca/tapioca";
 *
 * const device = new PacketDevice();
 * const stack = new BareStack(device, { address: "192.0.2.1/24" });
 * const socket = stack.udp();
 * socket.bind("192.0.2.1", 53);
 * console.log(socket.sendTo(new Uint8Array(5), "192.0.2.2", 1024)); // 5
 * console.log(device.take()[0].length); // 33
 * ```
 */
export class BareUdpSocket {
  readonly #host: BareUdpHost;
  #options: UdpOptions = { broadcast: false };
  #socket: UdpSocket | null = null;
  #readShut = false;
  #writeShut = false;
  #closed = false;
  readonly #source = { key: 0, port: 0, localKey: 0, interfaceIndex: 0, length: 0 };

  /** Made by `BareStack.udp()`. */
  constructor(host: BareUdpHost) {
    this.#host = host;
  }

  /** The address of this end; "0.0.0.0" while it is open. */
  get localAddress(): string {
    return formatKey(this.#socket?.localKey ?? ANY);
  }

  /** The port of this end; 0 while it is open. */
  get localPort(): number {
    return this.#socket?.localPort ?? 0;
  }

  /** The address of the peer; "0.0.0.0" without one. */
  get remoteAddress(): string {
    return formatKey(this.#socket?.remoteKey ?? ANY);
  }

  /** The port of the peer; 0 without one. */
  get remotePort(): number {
    return this.#socket?.remotePort ?? 0;
  }

  /** Datagrams that wait. */
  get pending(): number {
    return this.#socket?.pending ?? 0;
  }

  /** Where the datagram that {@link receive} gave last came from, and how long it was before it was cut. */
  get source(): { address: string; port: number; length: number } {
    const { key, port, length } = this.#source;
    return { address: formatKey(key), port, length };
  }

  /** The pending error, cleared by this: 0 or a negative code (SO_ERROR). */
  takeError(): number {
    return this.#socket?.takeError() ?? OK;
  }

  #open(key: number, port: number): number {
    const socket = this.#host.udp.open(key, port, this.#options);
    if (typeof socket === "number") return socket;
    this.#socket = socket;
    return OK;
  }

  /** Gives the socket its address; port 0 for a free one. 0, `EADDRINUSE`, `EADDRNOTAVAIL`, `EINVAL`. */
  bind(address: string, port: number): number {
    if (this.#closed) return EBADF;
    const key = tryParseAddress(address);
    return this.#socket !== null || key === null ? EINVAL : this.#open(key, port);
  }

  /** Speaks with one peer from now on; address "0.0.0.0" undoes it. 0, `ENETUNREACH`, `EINVAL`, `EACCES` for a broadcast. */
  connect(address: string, port: number): number {
    const key = tryParseAddress(address);
    if (key === null) return EINVAL;
    const code = this.#ready();
    return code !== OK ? code : this.#socket!.connect(key, port);
  }

  /** Bound at the latest now. */
  #ready(): number {
    if (this.#closed) return EBADF;
    return this.#socket === null ? this.#open(ANY, 0) : OK;
  }

  /** Sends to the connected peer. Bytes sent; `EDESTADDRREQ` is `ENOTCONN` here; the pending error, once. */
  send(bytes: Uint8Array): number {
    return this.#send(bytes, ANY, 0);
  }

  /** Sends to an address. Bytes sent, `EINVAL`, `ENETUNREACH`, `EMSGSIZE`, `EAGAIN`; the pending error, once. */
  sendTo(bytes: Uint8Array, address: string, port: number): number {
    const key = tryParseAddress(address);
    return key === null || key === ANY ? EINVAL : this.#send(bytes, key, port);
  }

  #send(bytes: Uint8Array, key: number, port: number): number {
    const code = this.#ready();
    if (code !== OK) return code;
    if (this.#writeShut) return EPIPE;
    const sent = this.#socket!.send(bytes, 0, bytes.length, key, port);
    this.#host.settle();
    return sent;
  }

  /** Takes the next datagram, cut to `into`; see {@link source}. Bytes copied, `EAGAIN`; the pending error, once. */
  receive(into: Uint8Array): number {
    const code = this.#ready();
    if (code !== OK) return code;
    if (this.#readShut && this.#socket!.pending === 0) return OK;
    return this.#socket!.receive(into, 0, into.length, this.#source);
  }

  /** Ends one direction or both, for this end only. */
  shutdown(how: "read" | "write" | "both"): number {
    if (this.#closed) return EBADF;
    if (how !== "read" && how !== "write" && how !== "both") return EINVAL;
    if (how !== "write") this.#readShut = true;
    if (how !== "read") this.#writeShut = true;
    return OK;
  }

  /** Joins a multicast group, by one interface or the default one. 0, `EINVAL`, `EADDRINUSE` joined already, `ENOBUFS`. */
  join(group: string, interfaceIndex?: number): number {
    return this.#membership(group, (socket, key) => socket.joinMulticast(key, interfaceIndex));
  }

  /** Leaves it. 0, `EADDRNOTAVAIL` not joined. */
  leave(group: string, interfaceIndex?: number): number {
    return this.#membership(group, (socket, key) => socket.leaveMulticast(key, interfaceIndex));
  }

  #membership(group: string, act: (socket: UdpSocket, key: number) => number): number {
    const key = tryParseAddress(group);
    if (key === null) return EINVAL;
    const code = this.#ready();
    if (code !== OK) return code;
    const result = act(this.#socket!, key);
    this.#host.settle();
    return result;
  }

  /** Closes it. 0, or `EBADF` the second time. */
  close(): number {
    if (this.#closed) return EBADF;
    this.#closed = true;
    this.#socket?.close();
    this.#host.settle();
    return OK;
  }

  /** Sets an option. 0; `EINVAL` and nothing changed for a wrong value, `ENOPROTOOPT` for one that isn't known. */
  setOption(name: UdpOptionName, value: number): number {
    if (this.#closed) return EBADF;
    const rule = UDP_OPTIONS[name];
    if (rule === undefined) return ENOPROTOOPT;
    const least = name === "IP_TTL" ? 1 : 0;
    if (!Number.isInteger(value) || (rule.scale !== 0 && (value < least || value > rule.most))) return EINVAL;
    const options: UdpOptions = { [rule.field]: toField(rule, value) };
    this.#options = { ...this.#options, ...options };
    this.#socket?.setOptions(options);
    return OK;
  }

  /** An option's value, `SO_ERROR` (then cleared) among them; `ENOPROTOOPT` for one that isn't known. */
  getOption(name: UdpOptionName | "SO_ERROR"): number {
    if (name === "SO_ERROR") return this.takeError();
    const rule = UDP_OPTIONS[name];
    return rule === undefined ? ENOPROTOOPT : fromField(rule, this.#options) as number;
  }
}
