/**
 * ARP as it comes in and goes out (RFC 826): answers for our addresses, learns what concerns us, and hands conflicts over.
 *
 * @module
 */
import { type FrameMemory } from "../device.ts";
import { isLoopback, isUnicast } from "../wire/address.ts";
import {
  ARP_FOREIGN,
  ARP_OK,
  ARP_REPLY,
  ARP_REQUEST,
  ARP_TRUNCATED,
  arpOperation,
  arpSenderKey,
  arpSenderMacAt,
  arpTargetKey,
  checkArp,
} from "../wire/arp.ts";
import type { LinkInterface } from "./interface.ts";
import type { InternetLayer } from "./internet.ts";
import { Neighbor, PERMANENT } from "./neighbors.ts";

export class Arp {
  readonly #layer: InternetLayer;
  /** Whom a reply goes to: the sender of the request, whether or not the table has room for it. */
  readonly #asker = new Neighbor(0, PERMANENT);

  constructor(layer: InternetLayer) {
    this.#layer = layer;
  }

  /** An ARP packet of an interface. */
  input(iface: LinkInterface, memory: FrameMemory, offset: number, length: number): void {
    const { arp } = iface;
    const { view, bytes } = memory;
    const code = checkArp(view, offset, length);
    if (code !== ARP_OK) {
      if (code === ARP_TRUNCATED) arp.dropTruncated++;
      else if (code === ARP_FOREIGN) arp.dropForeign++;
      else arp.dropOperation++;
      return;
    }
    const request = arpOperation(view, offset) === ARP_REQUEST;
    if (request) arp.requestsReceived++;
    else arp.repliesReceived++;
    const macAt = arpSenderMacAt(offset);
    const sender = arpSenderKey(view, offset);
    const target = arpTargetKey(view, offset);
    // A group can't be a sender; our own packets come back over hubs and bridges.
    if ((bytes[macAt] & 1) !== 0 || sameMac(bytes, macAt, iface.ownMac)) {
      arp.dropBadSender++;
      return;
    }
    if (this.#layer.conflicts.input(iface, bytes, macAt, sender, target, request)) return;
    const forUs = iface.hasAddress(target);
    if (sender !== 0) {
      if (!isUnicast(sender) || isLoopback(sender)) {
        arp.dropBadSender++;
        return;
      }
      this.#learn(iface, bytes, macAt, sender, forUs, request);
    }
    if (!forUs) {
      if (sender !== target) arp.dropNotForUs++;
      return;
    }
    //= rfc826#packet-reception
    // ?Is the opcode ares_op$REQUEST? … Swap hardware and protocol fields, putting the local hardware and protocol addresses
    // in the sender fields. Set the ar$op field to ares_op$REPLY. Send the packet to the (new) target hardware address.
    if (!request) return;
    this.#asker.setMac(bytes, macAt, iface.ownMac);
    if (iface.sendArp(ARP_REPLY, this.#asker, target, this.#asker.mac, sender) >= 0) arp.repliesSent++;
  }

  /** Asks for an address: everyone, or the neighbour itself. */
  ask(iface: LinkInterface, key: number, neighbor: Neighbor | null): void {
    if (iface.sendArp(ARP_REQUEST, neighbor, iface.sourceFor(key), neighbor?.mac ?? null, key) >= 0) iface.arp.requestsSent++;
  }

  #learn(iface: LinkInterface, bytes: Uint8Array, macAt: number, sender: number, forUs: boolean, request: boolean): void {
    const { now } = this.#layer;
    //= rfc826#packet-reception
    // If the pair <protocol type, sender protocol address> is already in my translation table, update the sender hardware
    // address field of the entry with the new information in the packet and set Merge_flag to true.
    let known = iface.neighbors.get(sender);
    // An answer that nobody asked for makes no entry, nor does a request for another host: a stranger can't fill the table
    // faster than we answer, and what it puts there is the first to go.
    //= rfc826#packet-reception
    // ?Am I the target protocol address? Yes: If Merge_flag is false, add the triplet <protocol type, sender protocol address,
    // sender hardware address> to the translation table.
    if (known === null && forUs && request) known = iface.neighbors.obtain(sender, now);
    if (known === null) return;
    iface.neighbors.learn(known, bytes, macAt, forUs && !request, now);
  }
}

function sameMac(bytes: Uint8Array, at: number, mac: Uint8Array): boolean {
  for (let i = 0; i < 6; i++) if (bytes[at + i] !== mac[i]) return false;
  return true;
}
