/**
 * A host without promises: packets, time and every step of a socket's life in the caller's hands.
 *
 * @module
 */
import { checkObject } from "../checks.ts";
import { EINVAL, OK } from "../codes.ts";
import type { Device, FrameMemory, FrameSink } from "../device.ts";
import { InternetLayer } from "../ip/internet.ts";
import type { NetInterface } from "../ip/types.ts";
import { seededRandom32 } from "../random.ts";
import { wrongTcpOption } from "../tcp/check_options.ts";
import { Tcp } from "../tcp/tcp.ts";
import type { TcpOptions, TcpStatistics } from "../tcp/types.ts";
import type { UdpStatistics } from "../udp/types.ts";
import { Udp } from "../udp/udp.ts";
import { empty } from "../wire/copy.ts";
import { formatKey, parsePrefix, tryParseAddress } from "../wire/address.ts";
import { BoundPorts } from "./bound_ports.ts";
import { BareTcpSocket } from "./tcp_socket.ts";
import { BareUdpSocket } from "./udp_socket.ts";

/** Frames taken from a device at once. */
const BURST = 256;
/** Rounds of input and output in one call, so that no call lasts for ever: two stacks on one loop could go on and on. */
const ROUNDS_MAX = 65_536;

/** Options of a {@link BareStack}. */
export interface BareStackOptions {
  /** Addresses with prefix lengths: "192.0.2.1/24". In use at once, without probes. */
  address?: string | readonly string[];
  /** Lowers the device's MTU, in bytes of IP packet: 68 to 65535. */
  mtu?: number;
  /** Address of the router for everything that isn't on the link. */
  gateway?: string;
  /** Forward packets between devices. Default false. */
  forwarding?: boolean;
  /** What every TCP socket begins with. */
  tcp?: TcpOptions;
  /** Makes ports and sequence numbers: the same for the same seed. Default 1. */
  seed?: number;
  /** A source of unsigned 32-bit random numbers instead of the seed. */
  random32?: () => number;
  /** Milliseconds on the stack's clock at first. Default 0. */
  now?: number;
}

/** A device in use: its frames go to its interface. */
class BarePort implements FrameSink {
  readonly device: Device;
  readonly interface: NetInterface;

  constructor(device: Device, netInterface: NetInterface) {
    this.device = device;
    this.interface = netInterface;
  }

  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    this.interface.frame(memory, offset, length, flags, segmentSize);
  }
}

/**
 * A TCP/IP host that does nothing on its own: for conformance suites, simulations and fuzzers. Frames are taken in by
 * {@link deliver}, time goes on by {@link advance}, and the calls of its sockets return at once, with counts or with negative
 * errno codes (`codes`). What a call makes it send has been given to the device when the call returns.
 *
 * The clock may be any that doesn't go backwards: a counter of the test's own, or `performance.now()`.
 *
 * @example A handshake, and the retransmission of a SYN after one second
 * ```ts
 * import { BareStack, PacketDevice } from "@tapioca/tapioca";
 *
 * const left = new PacketDevice();
 * const right = new PacketDevice();
 * const server = new BareStack(left, { address: "192.0.2.1/24", seed: 1 });
 * const client = new BareStack(right, { address: "192.0.2.2/24", seed: 2 });
 * const listener = server.tcp();
 * listener.bind("192.0.2.1", 80);
 * listener.listen(8);
 * const socket = client.tcp();
 * socket.connect("192.0.2.1", 80); // -115, EINPROGRESS
 * right.take(); // the SYN is lost
 * client.advance(999);
 * console.log(right.waiting, right.take().length); // 0 0
 * client.advance(1000);
 * for (let i = 0; i < 3; i++) {
 *   for (const packet of right.take()) left.inject(packet);
 *   server.deliver();
 *   for (const packet of left.take()) right.inject(packet);
 *   client.deliver();
 * }
 * console.log(socket.state); // ESTABLISHED
 * const accepted = listener.accept();
 * console.log(typeof accepted === "number" ? accepted : accepted.state); // ESTABLISHED
 * ```
 */
export class BareStack {
  readonly #ip: InternetLayer;
  readonly #tcp: Tcp;
  readonly #udp: Udp;
  readonly #bound: BoundPorts;
  readonly #ports: BarePort[] = [];
  #now: number;
  #closed = false;

  /**
   * Takes the device, and opens it.
   *
   * @param device what carries its packets: a {@link PacketDevice}, or any other
   * @throws {TypeError | RangeError} for an option that is wrong, before the device is touched; what the device's `open` throws
   */
  constructor(device: Device, options: BareStackOptions = {}) {
    if (typeof device?.open !== "function") throw new TypeError(`a stack needs a device, like a PacketDevice: ${device}`);
    checkObject(options);
    const { seed = 1, now = 0, random32 = seededRandom32(seed), forwarding = false } = options;
    if (!Number.isFinite(now)) throw new RangeError(`now must be milliseconds: ${now}`);
    const wrong = options.tcp === undefined ? null : wrongTcpOption(options.tcp);
    if (wrong !== null) throw new RangeError(`tcp.${wrong}`);
    const gateway = options.gateway === undefined ? 0 : tryParseAddress(options.gateway);
    if (gateway === null) throw new TypeError(`gateway must be an IPv4 address: ${options.gateway}`);
    this.#now = now;
    this.#ip = new InternetLayer({ random32, forwarding });
    this.#ip.now = now;
    this.#tcp = new Tcp(this.#ip, { defaults: options.tcp });
    this.#tcp.advance(now);
    this.#bound = new BoundPorts(this.#tcp);
    this.#udp = new Udp(this.#ip);
    const interfaceIndex = this.addDevice(device, options);
    if (gateway !== 0) this.#ip.addRoute({ destination: 0, prefixLength: 0, gateway, interfaceIndex, metric: 0 });
  }

  /**
   * Takes another device.
   *
   * @returns the index of its interface
   * @throws {TypeError | RangeError} for an option that is wrong, before the device is touched; what the device's `open` throws
   */
  addDevice(device: Device, options: { address?: string | readonly string[]; mtu?: number } = {}): number {
    const { address = [], mtu } = options;
    const prefixes = (typeof address === "string" ? [address] : address).map((text) => parsePrefix(text));
    const netInterface = this.#ip.addInterface(device, mtu === undefined ? {} : { mtu });
    const { index } = netInterface;
    try {
      device.open(() => {});
    } catch (error) {
      this.#ip.removeInterface(index);
      throw error;
    }
    for (const { key, prefixLength } of prefixes) {
      const code = this.#ip.addAddress(index, key, prefixLength);
      if (code === OK) continue;
      this.#ip.removeInterface(index);
      device.close();
      throw new RangeError(`address ${formatKey(key)}/${prefixLength} can't be used (code ${code})`);
    }
    this.#ports.push(new BarePort(device, netInterface));
    this.settle();
    return index;
  }

  /** Milliseconds on the stack's clock, as the last {@link advance} said. */
  get now(): number {
    return this.#now;
  }

  /** Takes in every frame that waits, and sends what that leads to. Returns how many frames there were. */
  deliver(): number {
    if (this.#closed) return 0;
    let total = 0;
    for (let round = 0; round < ROUNDS_MAX; round++) {
      let taken = 0;
      for (const port of this.#ports) taken += Math.max(0, port.device.receive(port, BURST));
      this.settle();
      if (taken === 0) break;
      total += taken;
    }
    return total;
  }

  /** When something is due next: milliseconds on the stack's clock; Infinity when nothing is. */
  nextDeadline(): number {
    return this.#closed ? Infinity : Math.min(this.#ip.nextDeadline(), this.#tcp.nextDeadline());
  }

  /**
   * Lets the stack's clock go on to `nowMs`. Everything due until then happens at its own time, in order.
   *
   * @returns 0, or `EINVAL` for a time in the past: the clock then stays
   */
  advance(nowMs: number): number {
    if (!(nowMs >= this.#now)) return EINVAL;
    for (let round = 0; round < ROUNDS_MAX && !this.#closed; round++) {
      const at = this.nextDeadline();
      if (at > nowMs) break;
      this.#run(Math.max(at, this.#now));
    }
    this.#run(nowMs);
    return OK;
  }

  #run(now: number): void {
    this.#now = this.#ip.now = now;
    if (this.#closed) return;
    this.#ip.advance(now);
    this.#tcp.advance(now);
    this.settle();
  }

  /** Sends what is ready to be sent. Every socket call does it, so a caller needs it only after a device had no room. */
  settle(): void {
    for (let round = 0; round < ROUNDS_MAX; round++) {
      if (this.#tcp.dirty) this.#tcp.flush(this.#now);
      this.#forgetEvents();
      if (this.#ip.pump(BURST) === 0) break;
    }
    for (const port of this.#ports) port.device.flush?.();
  }

  /** Nobody waits here: sockets are asked, not told. */
  #forgetEvents(): void {
    for (const socket of this.#tcp.ready) socket.events = 0;
    for (const socket of this.#udp.ready) socket.events = 0;
    empty(this.#tcp.ready);
    empty(this.#udp.ready);
  }

  /** A TCP socket: not bound, not connected. */
  tcp(): BareTcpSocket {
    return new BareTcpSocket({ tcp: this.#tcp, ports: this.#bound, settle: () => this.settle() });
  }

  /** A UDP socket: not bound, not connected. */
  udp(): BareUdpSocket {
    return new BareUdpSocket({ udp: this.#udp, settle: () => this.settle() });
  }

  /** Counters of TCP, as `netstat -s` shows them. */
  get tcpStatistics(): TcpStatistics {
    return { ...this.#tcp.statistics };
  }

  /** Counters of UDP. */
  get udpStatistics(): UdpStatistics {
    return { ...this.#udp.statistics };
  }

  /** Counters of the layers below: ip, icmp, arp, igmp, reassembly, and each interface. */
  get ipStatistics(): Record<string, Record<string, number>> {
    return this.#ip.statistics;
  }

  /** Resets every connection and closes the devices. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#tcp.shutdown(OK, true);
    this.#udp.shutdown(EINVAL);
    this.settle();
    this.#closed = true;
    for (const port of this.#ports) port.device.close();
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
