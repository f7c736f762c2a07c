/**
 * An interface: a device, its addresses, and the link header in front of its packets. Frames come in here.
 *
 * @module
 */
import { EINVAL, EIO, ENETDOWN, OK } from "../codes.ts";
import { type Device, type FrameMemory, TX_HEADROOM, TxFrame } from "../device.ts";
import { isMulticast } from "../wire/address.ts";
import { ARP_LENGTH, emitArp } from "../wire/arp.ts";
import {
  destinationHigh,
  destinationLow,
  emitEthernet,
  ETHERNET_HEADER,
  ETHERNET_OK,
  ETHERNET_TAGS,
  type EthernetHeader,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  isGroup,
  multicastMac,
  parseEthernet,
  VLAN_TAG,
} from "../wire/ethernet.ts";
import { IPV4_MAX, IPV4_MIN_MTU } from "../wire/ipv4.ts";
import type { InterfaceAddress } from "./addresses.ts";
import { type ArpStatistics, newArpStatistics } from "./arp_statistics.ts";
import type { InternetLayer } from "./internet.ts";
import { Neighbor, type NeighborHost, NeighborTable, PERMANENT, REACHABLE } from "./neighbors.ts";
import { completeChecksum } from "./offload.ts";
import { CAST_BROADCAST, CAST_MULTICAST, CAST_UNICAST, type InterfaceOptions, type NetInterface } from "./types.ts";

/** Frames in: `received` is the sum of `ip`, `arp` and the drops. */
export interface LinkStatistics {
  received: number;
  receivedBytes: number;
  ip: number;
  arp: number;
  dropShort: number;
  dropTags: number;
  dropOtherHost: number;
  dropVlan: number;
  dropType: number;
  dropRemoved: number;
  sent: number;
  sentBytes: number;
  /** The device took no more. */
  sendErrors: number;
}

const header: EthernetHeader = { headerLength: 0, etherType: 0, vlan: 0 };
const NO_MAC = new Uint8Array(6);

export class LinkInterface implements NetInterface, NeighborHost {
  readonly index: number;
  readonly device: Device;
  readonly mtu: number;
  readonly addresses: InterfaceAddress[] = [];
  /** Ethernet, with a header and neighbours; else packets begin with the IP header. */
  readonly ethernet: boolean;
  readonly ownMac: Uint8Array;
  /** Bytes of the link header of what is sent. */
  readonly linkHeader: number;
  readonly vlan: number;
  /** False: addresses are used without probes, whoever asks for them. */
  readonly detectConflicts: boolean;
  readonly neighbors: NeighborTable;
  /** Everyone on the link. */
  readonly everyone: Neighbor;
  /** When an address conflict was last answered, and how many there were: RFC 5227's limits. */
  conflicts = 0;
  removed = false;
  readonly arp: ArpStatistics = newArpStatistics();
  readonly counts: LinkStatistics = {
    received: 0,
    receivedBytes: 0,
    ip: 0,
    arp: 0,
    dropShort: 0,
    dropTags: 0,
    dropOtherHost: 0,
    dropVlan: 0,
    dropType: 0,
    dropRemoved: 0,
    sent: 0,
    sentBytes: 0,
    sendErrors: 0,
  };
  readonly #layer: InternetLayer;
  readonly #macHigh: number;
  readonly #macLow: number;
  readonly #control = new TxFrame();

  /** @throws {RangeError} if the MTU is under 68 or over the device's, or the VLAN id is none */
  constructor(layer: InternetLayer, index: number, device: Device, options: InterfaceOptions) {
    const mtu = Math.min(options.mtu ?? device.mtu, IPV4_MAX);
    //= rfc791#3.2
    // Every internet module must be able to forward a datagram of 68 octets without further fragmentation.
    if (!(Number.isInteger(mtu) && mtu >= IPV4_MIN_MTU) || mtu > device.mtu) {
      throw new RangeError(
        `MTU ${mtu} of "${device.name}" is out of range: at least ${IPV4_MIN_MTU}, at most the device's ${device.mtu}`,
      );
    }
    const vlan = options.vlan ?? 0;
    if (!(Number.isInteger(vlan) && vlan >= 0 && vlan <= 4094)) throw new RangeError(`VLAN ${vlan} is out of range: 1 to 4094`);
    this.ethernet = device.medium === "ethernet";
    if (this.ethernet && (device.mac?.length !== 6 || (device.mac[0] & 1) !== 0)) {
      throw new TypeError(`"${device.name}" has no usable MAC address: six bytes, the first one even`);
    }
    this.#layer = layer;
    this.index = index;
    this.device = device;
    this.mtu = mtu;
    this.vlan = vlan;
    this.detectConflicts = options.detectConflicts ?? true;
    this.linkHeader = this.ethernet ? ETHERNET_HEADER + (vlan === 0 ? 0 : VLAN_TAG) : 0;
    const mac = device.mac ?? NO_MAC;
    this.ownMac = mac.slice();
    this.#macHigh = (mac[0] << 24) | (mac[1] << 16) | (mac[2] << 8) | mac[3];
    this.#macLow = (mac[4] << 8) | mac[5];
    this.neighbors = new NeighborTable(this, this.arp);
    this.everyone = new Neighbor(-1, PERMANENT);
    this.everyone.setMac(new Uint8Array(6).fill(0xff), 0, mac);
  }

  /** The device's entrance. */
  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    const counts = this.counts;
    counts.received++;
    counts.receivedBytes += length;
    if (this.removed) {
      counts.dropRemoved++;
      return;
    }
    if (!this.ethernet) {
      counts.ip++;
      this.#layer.input.packet(this, memory, offset, length, flags, segmentSize, CAST_UNICAST);
      return;
    }
    const { view } = memory;
    const code = parseEthernet(view, offset, length, header);
    if (code !== ETHERNET_OK) {
      if (code === ETHERNET_TAGS) counts.dropTags++;
      else counts.dropShort++;
      return;
    }
    const high = destinationHigh(view, offset);
    const low = destinationLow(view, offset);
    let cast = CAST_UNICAST;
    if (isGroup(view, offset)) cast = high === -1 && low === 0xffff ? CAST_BROADCAST : CAST_MULTICAST;
    else if (high !== this.#macHigh || low !== this.#macLow) {
      counts.dropOtherHost++;
      return;
    }
    if (header.vlan !== this.vlan) {
      counts.dropVlan++;
      return;
    }
    const at = offset + header.headerLength;
    const rest = length - header.headerLength;
    if (header.etherType === ETHERTYPE_IPV4) {
      counts.ip++;
      this.#layer.input.packet(this, memory, at, rest, flags, segmentSize, cast);
    } else if (header.etherType === ETHERTYPE_ARP) {
      counts.arp++;
      this.#layer.arp.input(this, memory, at, rest);
    } else counts.dropType++;
  }

  /** Sends a packet (from its IP header on) to a neighbour, or keeps it until the neighbour's address is known. */
  output(neighbor: Neighbor | null, tx: TxFrame): number {
    if (this.removed) return ENETDOWN;
    const { device, counts } = this;
    if (tx.checksumStart >= 0 && !device.capabilities.txChecksum) completeChecksum(tx);
    if (neighbor !== null) {
      // The common case is decided here, without a call.
      const { now } = this.#layer;
      const known = neighbor.state === PERMANENT || (neighbor.state === REACHABLE && now < neighbor.freshUntil);
      if (known) neighbor.usedAt = now;
      else if (!this.neighbors.use(neighbor, tx, now)) return OK;
      const link = this.linkHeader;
      tx.offset -= link;
      tx.length += link;
      emitEthernet(tx.memory.view, tx.offset, neighbor.word0, neighbor.word1, neighbor.word2, ETHERTYPE_IPV4, this.vlan);
      if (tx.checksumStart >= 0) tx.checksumStart += link;
      if (tx.segmentSize > 0) tx.segmentHeaderLength += link;
    }
    const size = tx.size;
    const code = device.transmit(tx);
    if (code < 0) {
      counts.sendErrors++;
      // A driver passes on its kernel's word for an interface that is down; whoever waits wants to hear of the network.
      return code === EIO ? ENETDOWN : code;
    }
    counts.sent++;
    counts.sentBytes += size;
    return OK;
  }

  /** The neighbour that stands for a group on this link. */
  groupNeighbor(group: number): Neighbor | null {
    if (!this.ethernet) return null;
    if (!isMulticast(group)) return this.everyone;
    const made = new Neighbor(group, PERMANENT);
    const mac = new Uint8Array(6);
    multicastMac(group, mac);
    made.setMac(mac, 0, this.ownMac);
    return made;
  }

  /** An address of ours to speak from to `key` on this link; 0 if the interface has none. */
  sourceFor(key: number): number {
    let best = 0;
    for (const { key: own, prefixLength } of this.addresses) {
      if (prefixLength > 0 && ((own ^ key) >>> (32 - prefixLength)) === 0) return own;
      if (prefixLength === 0 || best === 0) best = own;
    }
    return best;
  }

  hasAddress(key: number): boolean {
    for (const address of this.addresses) if (address.key === key) return true;
    return false;
  }

  /** Sends an ARP packet to a neighbour or to everyone. */
  sendArp(operation: number, to: Neighbor | null, senderKey: number, targetMac: Uint8Array | null, targetKey: number): number {
    if (!this.ethernet || this.removed) return EINVAL;
    const tx = this.#control;
    const { word0, word1, word2 } = to ?? this.everyone;
    tx.reset(ARP_LENGTH);
    const { view } = tx.memory;
    emitArp(view, TX_HEADROOM, operation, this.ownMac, senderKey, targetMac, targetKey);
    tx.offset -= this.linkHeader;
    tx.length += this.linkHeader;
    emitEthernet(view, tx.offset, word0, word1, word2, ETHERTYPE_ARP, this.vlan);
    const size = tx.size;
    const code = this.device.transmit(tx);
    if (code < 0) this.counts.sendErrors++;
    else {
      this.counts.sent++;
      this.counts.sentBytes += size;
    }
    return code;
  }

  random32(): number {
    return this.#layer.random32();
  }

  ask(key: number, neighbor: Neighbor | null): void {
    this.#layer.arp.ask(this, key, neighbor);
  }

  undeliverable(frame: TxFrame): void {
    this.#layer.icmp.undeliverable(frame, this.index);
  }
}
