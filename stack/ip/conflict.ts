/**
 * Address conflict detection (RFC 5227): probes before an address is used, announces it, and defends it.
 *
 * @module
 */
import { EADDRINUSE, OK } from "../codes.ts";
import { ARP_REQUEST } from "../wire/arp.ts";
import type { LinkInterface } from "./interface.ts";
import type { InternetLayer } from "./internet.ts";
import * as limits from "./limits.ts";

/** An address that is being probed. */
interface Probe {
  iface: LinkInterface;
  key: number;
  prefixLength: number;
  sent: number;
  deadline: number;
  settled: (code: number) => void;
}

/** An address whose announcements are not all sent. */
interface Announcement {
  iface: LinkInterface;
  key: number;
  left: number;
  deadline: number;
}

export class Conflicts {
  readonly #layer: InternetLayer;
  #probes: Probe[] = [];
  #announcements: Announcement[] = [];

  constructor(layer: InternetLayer) {
    this.#layer = layer;
  }

  /** Begins to probe. `settled` is called with 0 when the address is ours, or `EADDRINUSE`. */
  probe(iface: LinkInterface, key: number, prefixLength: number, settled: (code: number) => void): void {
    //= rfc5227#2.1.1
    // …the host should then wait for a random time interval selected uniformly in the range zero to PROBE_WAIT seconds,
    // and should then send PROBE_NUM probe packets, each of these probe packets spaced randomly and uniformly, PROBE_MIN to
    // PROBE_MAX seconds apart.
    let wait = this.#random(0, limits.PROBE_WAIT_MS);
    //= rfc5227#2.1.1
    // if the host experiences MAX_CONFLICTS or more address conflicts on a given interface, then the host MUST limit the rate at
    // which it probes for new addresses on this interface to no more than one attempted new address per RATE_LIMIT_INTERVAL.
    if (iface.conflicts >= limits.MAX_CONFLICTS) wait = limits.RATE_LIMIT_INTERVAL_MS;
    this.#probes.push({ iface, key, prefixLength, sent: 0, deadline: this.#layer.now + wait, settled });
  }

  /** Announces an address that is in use from now on: one packet now, one later. */
  announce(iface: LinkInterface, key: number): void {
    if (!iface.ethernet) return;
    this.#announcements.push({ iface, key, left: limits.ANNOUNCE_NUM, deadline: this.#layer.now });
    this.advance(this.#layer.now);
  }

  isProbing(iface: LinkInterface, key: number): boolean {
    return this.#probes.some((p) => p.iface === iface && p.key === key);
  }

  probing(iface: LinkInterface): number {
    return this.#probes.reduce((n, p) => n + (p.iface === iface ? 1 : 0), 0);
  }

  /** Stops everything for an address, or for the whole interface. */
  forget(iface: LinkInterface, key?: number, code: number = EADDRINUSE): void {
    const mine = (p: { iface: LinkInterface; key: number }) => p.iface === iface && (key === undefined || p.key === key);
    this.#announcements = this.#announcements.filter((a) => !mine(a));
    const gone = this.#probes.filter(mine);
    if (gone.length === 0) return;
    this.#probes = this.#probes.filter((p) => !mine(p));
    for (const probe of gone) probe.settled(code);
  }

  /** Looks at every ARP packet that others send. True: it is a conflict, and nothing else is to be done with it. */
  input(iface: LinkInterface, bytes: Uint8Array, macAt: number, sender: number, target: number, request: boolean): boolean {
    for (const probe of this.#probes) {
      if (probe.iface !== iface) continue;
      //= rfc5227#2.1.1
      // If during this period … the host receives any ARP packet (Request *or* Reply) on the interface where the probe is
      // being performed, where the packet's 'sender IP address' is the address being probed for, then the host MUST treat
      // this address as being in use by some other host
      //= rfc5227#2.1.1
      // …if during this period the host receives any ARP Probe where the packet's 'target IP address' is the address being
      // probed for, and the packet's 'sender hardware address' is not the hardware address of any of the host's interfaces,
      // then the host SHOULD similarly treat this as an address conflict
      if (sender === probe.key || (request && sender === 0 && target === probe.key)) {
        this.#count(iface);
        this.#layer.onConflict(probe.key, iface.index, bytes.slice(macAt, macAt + 6));
        this.forget(iface, probe.key);
        return true;
      }
    }
    if (sender === 0) return false;
    for (const address of iface.addresses) {
      if (address.key !== sender) continue;
      this.#count(iface);
      const { now } = this.#layer;
      //= rfc5227#2.4
      // (c) If a host has been configured such that it should not give up its address under any circumstances … the host
      // … MAY elect to defend its address indefinitely … if it has not seen any other conflicting ARP packets recently,
      // within the last DEFEND_INTERVAL seconds, … broadcasting one single ARP Announcement
      if (now - address.defendedAt >= limits.DEFEND_INTERVAL_MS) {
        address.defendedAt = now;
        iface.arp.defenses++;
        this.#sendAnnouncement(iface, address.key);
      }
      this.#layer.onConflict(address.key, iface.index, bytes.slice(macAt, macAt + 6));
      return true;
    }
    return false;
  }

  nextDeadline(): number {
    let next = Infinity;
    for (const probe of this.#probes) next = Math.min(next, probe.deadline);
    for (const announcement of this.#announcements) next = Math.min(next, announcement.deadline);
    return next;
  }

  advance(now: number): void {
    for (const announcement of this.#announcements) {
      if (announcement.deadline > now) continue;
      this.#sendAnnouncement(announcement.iface, announcement.key);
      announcement.left--;
      announcement.deadline = now + limits.ANNOUNCE_INTERVAL_MS;
    }
    if (this.#announcements.some((a) => a.left <= 0)) this.#announcements = this.#announcements.filter((a) => a.left > 0);
    // A copy, because settling may begin another probe.
    for (const probe of [...this.#probes]) if (probe.deadline <= now) this.#step(probe, now);
  }

  #step(probe: Probe, now: number): void {
    const { iface, key } = probe;
    if (probe.sent < limits.PROBE_NUM) {
      //= rfc5227#2.1.1
      // The 'sender IP address' field MUST be set to all zeroes; this is to avoid polluting ARP caches in other hosts on the
      // same link in the case where the address turns out to be already in use by another host.
      iface.sendArp(ARP_REQUEST, null, 0, null, key);
      iface.arp.probesSent++;
      probe.sent++;
      const last = probe.sent === limits.PROBE_NUM;
      probe.deadline = now + (last ? limits.ANNOUNCE_WAIT_MS : this.#random(limits.PROBE_MIN_MS, limits.PROBE_MAX_MS));
      return;
    }
    this.#probes = this.#probes.filter((p) => p !== probe);
    iface.conflicts = 0;
    this.#layer.adopt(iface, key, probe.prefixLength);
    probe.settled(OK);
  }

  #sendAnnouncement(iface: LinkInterface, key: number): void {
    //= rfc5227#2.3
    // An ARP Announcement is identical to the ARP Probe described above, except that now the sender and target IP addresses
    // are both set to the host's newly selected IPv4 address.
    if (iface.sendArp(ARP_REQUEST, null, key, null, key) >= 0) iface.arp.announcementsSent++;
  }

  #count(iface: LinkInterface): void {
    iface.arp.conflicts++;
    iface.conflicts++;
  }

  #random(low: number, high: number): number {
    return low + (high - low) * (this.#layer.random32() / 0x1_0000_0000);
  }
}
