/**
 * Rules of the filter: keys and values of its maps, the same in the kernel and in user space.
 *
 * @module
 */
import { parsePrefix } from "../../../ffi/inet.ts";
import { XDP_DROP, XDP_PASS } from "../ir.ts";
import { readCounter } from "../maps.ts";
import { RULE_BYTES, RULE_FRAMES, RULE_SIZE, RULE_VERDICT } from "./filter.ts";

const PROTOCOLS = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 };

/** What a rule says, and what it has decided. */
export interface FilterRule {
  /** What happens to frames. */
  readonly verdict: "pass" | "drop";
  /** Frames that it decided. */
  readonly frames: number;
  /** Bytes of them. */
  readonly bytes: number;
}

/** A value of the filter's maps of rules: nothing counted yet. */
export function filterRule(verdict: "pass" | "drop"): Uint8Array<ArrayBuffer> {
  if (verdict !== "pass" && verdict !== "drop") throw new TypeError(`a rule is "pass" or "drop": ${verdict}`);
  const value = new Uint8Array(RULE_SIZE);
  value[RULE_VERDICT] = verdict === "drop" ? XDP_DROP : XDP_PASS;
  return value;
}

/** Reads a value of the filter's maps of rules. */
export function readFilterRule(value: Uint8Array): FilterRule {
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  const verdict = view.getUint32(RULE_VERDICT, true) === XDP_DROP ? "drop" : "pass";
  return { verdict, frames: readCounter(view, RULE_FRAMES), bytes: readCounter(view, RULE_BYTES) };
}

/** A key of `filter_src4` or `filter_dst4` ("198.51.100.0/24"), or of `filter_src6` or `filter_dst6` ("2001:db8::/32"). */
export function filterPrefix(prefix: string): Uint8Array<ArrayBuffer> {
  const { address, length } = parsePrefix(prefix);
  const key = new Uint8Array(4 + address.length);
  key[0] = length;
  key.set(address, 4);
  return key;
}

/**
 * A key of `filter_ports`.
 *
 * @param protocol its name or its number
 * @param port the destination port; 0 (default): any port of the protocol
 */
export function filterPort(protocol: "icmp" | "tcp" | "udp" | "icmpv6" | number, port = 0): Uint8Array<ArrayBuffer> {
  const number = typeof protocol === "number" ? protocol : PROTOCOLS[protocol];
  if (!(Number.isInteger(number) && number >= 0 && number <= 255)) throw new RangeError(`Invalid protocol ${protocol}`);
  if (!(Number.isInteger(port) && port >= 0 && port <= 65_535)) throw new RangeError(`Invalid port ${port}`);
  return Uint8Array.of(number, 0, port >> 8, port & 255);
}
