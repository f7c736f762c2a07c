/**
 * IGMP, the host's side: version 3 (RFC 3376) without source filters, and versions 2 and 1 (RFC 2236, 1112) where an older
 * querier is heard.
 *
 * Pure: time comes with `input` and `advance`. `join` and `leave` send at once and leave the repetition to be scheduled by the
 * next `advance`, which {@link Igmp.nextDeadline} asks for.
 *
 * @module
 */
import { EADDRNOTAVAIL, EINVAL, ENOBUFS, OK } from "../codes.ts";
import { FrameMemory } from "../device.ts";
import * as wire from "../wire/igmp.ts";
import { DEFAULT_QUERY_INTERVAL_MS, DEFAULT_ROBUSTNESS, type IgmpStatistics, InterfaceState, Membership } from "./igmp_state.ts";
import type { Packet } from "./types.ts";

export type { IgmpStatistics } from "./igmp_state.ts";

/** 224.0.0.1, 224.0.0.2 and 224.0.0.22. */
export const ALL_SYSTEMS = 0xe0000001 | 0;
export const ALL_ROUTERS = 0xe0000002 | 0;
export const IGMP_ROUTERS = 0xe0000016 | 0;

/** Groups that an interface may be in, besides 224.0.0.1. */
export const GROUPS_PER_INTERFACE = 256;
/** Interfaces that the layer keeps a state for. */
export const INTERFACES_MAX = 256;
/** Group records in one report: 8 + 64 * 8 bytes fit into the smallest MTU of 576. */
export const RECORDS_PER_REPORT = 64;

//= rfc3376#8.11
//# The Unsolicited Report Interval is the time between repetitions of a host's initial report of membership in a group. Default: 1 second.
const UNSOLICITED_INTERVAL_V3_MS = 1000;
//= rfc2236#8.10
//# The Unsolicited Report Interval is the time between repetitions of a host's initial report of membership in a group. Default: 10 seconds.
const UNSOLICITED_INTERVAL_V2_MS = 10_000;

/** A deadline that the next `advance` is to choose. Earlier than any time. */
const UNSCHEDULED = -Infinity;

/** What the layer needs around it. */
export interface IgmpHost {
  /** Uniformly random unsigned 32-bit number. */
  random32(): number;
  /** Sends an IGMP message, TTL 1, with the router alert option. The bytes are valid during the call only. */
  sendIgmp(interfaceIndex: number, destinationKey: number, bytes: Uint8Array): void;
}

/** The group memberships of a host. */
export class Igmp {
  readonly statistics: IgmpStatistics = {
    queriesReceived: 0,
    reportsReceived: 0,
    reportsSent: 0,
    leavesSent: 0,
    suppressed: 0,
    badChecksum: 0,
    badLength: 0,
    ignored: 0,
    limited: 0,
    groups: 0,
  };
  readonly #host: IgmpHost;
  readonly #interfaces = new Map<number, InterfaceState>();
  readonly #message = new wire.IgmpMessage();
  readonly #out = new FrameMemory(wire.IGMP_HEADER_LENGTH + RECORDS_PER_REPORT * wire.IGMP_RECORD_LENGTH);
  #next = Infinity;
  #nextKnown = true;

  constructor(host: IgmpHost) {
    this.#host = host;
  }

  /**
   * Joins a group; each join wants a leave of its own. Returns 0, `EINVAL` if it is no multicast address, `ENOBUFS` over
   * {@link GROUPS_PER_INTERFACE}.
   */
  join(interfaceIndex: number, group: number): number {
    if (!isMulticast(group)) return EINVAL;
    //= rfc3376#5
    //# The all-systems multicast address, 224.0.0.1, is handled as a special case. On all systems -- that is all hosts and
    //# routers, including multicast routers -- reception of packets destined to the all-systems multicast address, from all
    //# sources, is permanently enabled on all interfaces on which multicast reception is supported. No IGMP messages are
    //# ever sent regarding the all-systems multicast address.
    if (group === ALL_SYSTEMS) return OK;
    const state = this.#interface(interfaceIndex);
    if (state === null) return ENOBUFS;
    let membership = state.groups.get(group);
    if (membership !== undefined && membership.users > 0) {
      membership.users++;
      return OK;
    }
    if (membership === undefined) {
      if (state.groups.size >= GROUPS_PER_INTERFACE) {
        this.statistics.limited++;
        return ENOBUFS;
      }
      membership = new Membership(group);
      state.groups.set(group, membership);
    }
    membership.users = 1;
    this.statistics.groups++;
    this.#changed(state, membership);
    return OK;
  }

  /** Leaves a group once. Returns 0, or `EADDRNOTAVAIL` if it wasn't joined. */
  leave(interfaceIndex: number, group: number): number {
    if (group === ALL_SYSTEMS) return OK;
    const state = this.#interfaces.get(interfaceIndex);
    const membership = state?.groups.get(group);
    if (state === undefined || membership === undefined || membership.users === 0) return EADDRNOTAVAIL;
    if (--membership.users > 0) return OK;
    this.statistics.groups--;
    membership.responseAt = Infinity;
    if (state.version === 3) {
      this.#changed(state, membership);
    } else {
      //= rfc2236#3
      //# If it was the last host to reply to a Query with a Membership Report for that group, it SHOULD send a Leave Group
      //# message to the all-routers multicast group (224.0.0.2).
      if (state.version === 2 && membership.lastReporter) this.#sendLeave(state, group);
      state.groups.delete(group);
    }
    this.#nextKnown = false;
    return OK;
  }

  /** True if packets to the group are for this host. */
  isMember(interfaceIndex: number, group: number): boolean {
    if (group === ALL_SYSTEMS) return true;
    const membership = this.#interfaces.get(interfaceIndex)?.groups.get(group);
    return membership !== undefined && membership.users > 0;
  }

  /** Forgets an interface that is gone. Nothing is sent. */
  removeInterface(interfaceIndex: number): void {
    const state = this.#interfaces.get(interfaceIndex);
    if (state === undefined) return;
    for (const membership of state.groups.values()) if (membership.users > 0) this.statistics.groups--;
    this.#interfaces.delete(interfaceIndex);
    this.#nextKnown = false;
  }

  /** An IGMP packet that came. */
  input(packet: Packet, now: number): void {
    //= rfc3376#4
    //# Every IGMP message described in this document is sent with an IP Time-to-Live of 1
    if (packet.ttl !== 1) {
      // From beyond the link: nobody there has a say in how we talk to our querier.
      this.statistics.ignored++;
      return;
    }
    const message = this.#message;
    const code = wire.parse(packet.memory.view, packet.offset, packet.length, message);
    if (code !== wire.PARSE_OK) {
      if (code === wire.PARSE_CHECKSUM) this.statistics.badChecksum++;
      else if (code === wire.PARSE_UNKNOWN) this.statistics.ignored++;
      else this.statistics.badLength++;
      return;
    }
    if (message.type === wire.IGMP_QUERY) {
      this.statistics.queriesReceived++;
      this.#query(packet.interfaceIndex, packet.dstKey, message, now);
    } else if (message.type === wire.IGMP_V1_REPORT || message.type === wire.IGMP_V2_REPORT) {
      this.statistics.reportsReceived++;
      this.#suppress(packet.interfaceIndex, message.group);
    } else {
      this.statistics.ignored++;
    }
  }

  /** When {@link Igmp.advance} is next needed: a time, -Infinity for at once, or Infinity. */
  nextDeadline(): number {
    if (this.#nextKnown) return this.#next;
    let next = Infinity;
    for (const state of this.#interfaces.values()) {
      next = Math.min(next, state.generalAt);
      if (state.v1Until !== -Infinity) next = Math.min(next, state.v1Until);
      if (state.v2Until !== -Infinity) next = Math.min(next, state.v2Until);
      for (const membership of state.groups.values()) next = Math.min(next, membership.responseAt, membership.repeatAt);
    }
    this.#next = next;
    this.#nextKnown = true;
    return next;
  }

  /** Sends what is due. */
  advance(now: number): void {
    if (now < this.nextDeadline()) return;
    this.#nextKnown = false;
    for (const state of this.#interfaces.values()) {
      this.#expireVersions(state, now);
      if (now >= state.generalAt) {
        state.generalAt = Infinity;
        this.#sendGeneral(state);
      }
      for (const membership of state.groups.values()) this.#advanceGroup(state, membership, now);
    }
  }

  #advanceGroup(state: InterfaceState, membership: Membership, now: number): void {
    if (now >= membership.responseAt) {
      membership.responseAt = Infinity;
      this.#sendReport(state, membership, wire.RECORD_MODE_IS_EXCLUDE);
    }
    if (membership.repeatAt === UNSCHEDULED) {
      membership.repeatAt = now + this.#unsolicitedDelay(state);
    } else if (now >= membership.repeatAt) {
      this.#sendChange(state, membership);
      membership.repeatAt = --membership.repetitions > 0 ? now + this.#unsolicitedDelay(state) : Infinity;
      if (membership.repetitions === 0 && membership.users === 0) state.groups.delete(membership.group);
    }
  }

  #interface(index: number): InterfaceState | null {
    let state = this.#interfaces.get(index);
    if (state === undefined) {
      if (this.#interfaces.size >= INTERFACES_MAX) {
        this.statistics.limited++;
        return null;
      }
      state = new InterfaceState(index);
      this.#interfaces.set(index, state);
    }
    return state;
  }

  /** Reports a join or a leave now, and again [robustness - 1] times. */
  #changed(state: InterfaceState, membership: Membership): void {
    //= rfc3376#5.1
    //# To cover the possibility of the State-Change Report being missed by one or more multicast routers, it is retransmitted
    //# [Robustness Variable] - 1 more times, at intervals chosen at random from the range (0, [Unsolicited Report Interval]).
    this.#sendChange(state, membership);
    membership.repetitions = state.robustness - 1;
    membership.repeatAt = membership.repetitions > 0 ? UNSCHEDULED : Infinity;
    if (membership.repetitions === 0 && membership.users === 0) state.groups.delete(membership.group);
    this.#nextKnown = false;
  }

  #sendChange(state: InterfaceState, membership: Membership): void {
    const joined = membership.users > 0;
    this.#sendReport(state, membership, joined ? wire.RECORD_CHANGE_TO_EXCLUDE : wire.RECORD_CHANGE_TO_INCLUDE);
  }

  #query(interfaceIndex: number, destination: number, message: wire.IgmpMessage, now: number): void {
    //= rfc3376#4.1.12
    //# In IGMPv3, General Queries are sent with an IP destination address of 224.0.0.1, the all-systems multicast address.
    if (message.group !== 0 ? !isMulticast(message.group) : isMulticast(destination) && destination !== ALL_SYSTEMS) {
      this.statistics.ignored++;
      return;
    }
    const state = this.#interface(interfaceIndex);
    if (state === null) return;
    this.#nextKnown = false;
    this.#noteQuerier(state, message, now);
    const v3 = state.version === 3;
    //= rfc3376#5.2
    //# When a system receives a Query, it does not respond immediately. Instead, it delays its response by a random amount of
    //# time, bounded by the Max Resp Time value derived from the Max Resp Code in the received Query message.
    if (message.group === 0 && v3) {
      state.generalAt = Math.min(state.generalAt, this.#delay(now, message.maxResponseMs));
      return;
    }
    //= rfc3376#5.2
    //# If there is a pending response to a previous General Query scheduled sooner than the selected delay, no additional
    //# response needs to be scheduled.
    //= rfc3376#5.2 type=exception reason=a state of EXCLUDE {} says more than the sources asked for, and needs no memory
    //# If the received Query is a Group-and-Source-Specific Query, the list of queried sources is
    //# recorded to be used when generating a response.
    for (const membership of state.groups.values()) {
      if (membership.users === 0 || (message.group !== 0 && message.group !== membership.group)) continue;
      const at = this.#delay(now, message.maxResponseMs);
      if (state.generalAt > at) membership.responseAt = Math.min(membership.responseAt, at);
    }
  }

  /** Remembers an older querier, and what a querier of version 3 says about itself. */
  #noteQuerier(state: InterfaceState, message: wire.IgmpMessage, now: number): void {
    const before = state.version;
    if (message.version === 3) {
      //= rfc3376#4.1.6
      //# Routers adopt the QRV value from the most recently received Query as their own [Robustness Variable] value
      state.robustness = message.robustness > 0 ? message.robustness : DEFAULT_ROBUSTNESS;
      state.queryIntervalMs = message.queryIntervalMs > 0 ? message.queryIntervalMs : DEFAULT_QUERY_INTERVAL_MS;
      return;
    }
    //= rfc3376#8.12
    //# This value MUST be ((the Robustness Variable) times (the Query Interval in the last Query received)) plus (one Query
    //# Response Interval).
    const until = now + state.robustness * state.queryIntervalMs + message.maxResponseMs;
    //= rfc3376#7.2.1
    //# IGMPv1 Querier Present is set to Older Version Querier Present Timeout seconds whenever an IGMPv1 Membership Query is
    //# received.
    if (message.version === 1) state.v1Until = until;
    else if (message.group === 0) state.v2Until = until;
    if (state.version !== before) this.#cancel(state);
  }

  #expireVersions(state: InterfaceState, now: number): void {
    const before = state.version;
    if (now >= state.v1Until) state.v1Until = -Infinity;
    if (now >= state.v2Until) state.v2Until = -Infinity;
    if (state.version !== before) this.#cancel(state);
  }

  //= rfc3376#7.2.1
  //# Whenever a host changes its compatibility mode, it cancels all its pending response and retransmission timers.
  #cancel(state: InterfaceState): void {
    state.generalAt = Infinity;
    for (const membership of state.groups.values()) {
      membership.responseAt = membership.repeatAt = Infinity;
      membership.repetitions = 0;
      if (membership.users === 0) state.groups.delete(membership.group);
    }
  }

  //= rfc2236#3
  //# If the host receives another host's Report (version 1 or 2) while it has a timer running, it stops its timer for the
  //# specified group and does not send a Report, in order to suppress duplicate Reports.
  #suppress(interfaceIndex: number, group: number): void {
    const state = this.#interfaces.get(interfaceIndex);
    if (state === undefined || state.version === 3) return;
    const membership = state.groups.get(group);
    if (membership === undefined) return;
    if (membership.responseAt !== Infinity || membership.repeatAt !== Infinity) this.statistics.suppressed++;
    membership.responseAt = membership.repeatAt = Infinity;
    membership.repetitions = 0;
    membership.lastReporter = false;
    this.#nextKnown = false;
  }

  #delay(now: number, maxMs: number): number {
    return now + 1 + (this.#host.random32() % Math.max(maxMs, 1));
  }

  #unsolicitedDelay(state: InterfaceState): number {
    const interval = state.version === 3 ? UNSOLICITED_INTERVAL_V3_MS : UNSOLICITED_INTERVAL_V2_MS;
    return 1 + (this.#host.random32() % interval);
  }

  #sendReport(state: InterfaceState, membership: Membership, recordType: number): void {
    const { view, bytes } = this.#out;
    const { version } = state;
    this.statistics.reportsSent++;
    if (version === 3) {
      wire.emitRecord(view, 0, 0, recordType, membership.group);
      const length = wire.emitV3Report(view, 0, 1);
      this.#host.sendIgmp(state.index, IGMP_ROUTERS, bytes.subarray(0, length));
      return;
    }
    membership.lastReporter = true;
    const type = version === 2 ? wire.IGMP_V2_REPORT : wire.IGMP_V1_REPORT;
    const length = wire.emitV2(view, 0, type, membership.group);
    this.#host.sendIgmp(state.index, membership.group, bytes.subarray(0, length));
  }

  #sendLeave(state: InterfaceState, group: number): void {
    const length = wire.emitV2(this.#out.view, 0, wire.IGMP_V2_LEAVE, group);
    this.statistics.leavesSent++;
    this.#host.sendIgmp(state.index, ALL_ROUTERS, this.#out.bytes.subarray(0, length));
  }

  /** The current state of all groups, in as many reports as it takes. */
  #sendGeneral(state: InterfaceState): void {
    let records = 0;
    for (const membership of state.groups.values()) {
      if (membership.users === 0) continue;
      membership.responseAt = Infinity;
      wire.emitRecord(this.#out.view, 0, records++, wire.RECORD_MODE_IS_EXCLUDE, membership.group);
      if (records === RECORDS_PER_REPORT) records = this.#sendRecords(state, records);
    }
    if (records > 0) this.#sendRecords(state, records);
  }

  #sendRecords(state: InterfaceState, records: number): 0 {
    const length = wire.emitV3Report(this.#out.view, 0, records);
    this.statistics.reportsSent++;
    this.#host.sendIgmp(state.index, IGMP_ROUTERS, this.#out.bytes.subarray(0, length));
    return 0;
  }
}

function isMulticast(key: number): boolean {
  return key >>> 28 === 0xe;
}
