/**
 * A filter for IPv4 and IPv6 with counters: what is let through and what is dropped is said by entries of maps, which may change
 * while it runs. The first of these that has an entry decides:
 *
 * 1. `filter_ports`: protocol and destination port (0: any port of the protocol),
 * 2. `filter_src4`, `filter_src6`: the longest prefix of the source,
 * 3. `filter_dst4`, `filter_dst6`: the longest prefix of the destination,
 * 4. the verdict that the program was made with.
 *
 * Up to two VLAN tags and four IPv6 extension headers are passed over; more, and headers that are cut short or lie about
 * lengths, are dropped and counted. Of a fragmented datagram only the first fragment has ports: the others are judged by their
 * addresses and by "any port". What isn't IP is let through (ARP must be).
 *
 * In the kernel it needs CAP_PERFMON beside CAP_BPF and CAP_NET_ADMIN, for its variable offsets; see `bpf/compile.ts`.
 *
 * @module
 */
import { checkObject, checkWord } from "../../../stack/checks.ts";
import type { MapSpec } from "../map_kinds.ts";
import {
  defineProgram,
  type Entry,
  type KeyPart,
  type ProgramBuilder,
  type Value,
  type Variable,
  XDP_DROP,
  type XdpProgram,
} from "../program.ts";

const VLANS_MAX = 2;
const EXTENSIONS_MAX = 4;
const TYPE_IPV4 = 0x800;
const TYPE_IPV6 = 0x86dd;
const TYPE_VLAN = 0x8100;
const TYPE_SERVICE_VLAN = 0x88a8;
const TCP = 6;
const UDP = 17;
const FRAGMENT = 44;
/** Hop-by-hop, routing, destination options: of one form. */
const EXTENSIONS = [0, 43, 60] as const;
const TCP_SIZE = 20;
const UDP_SIZE = 8;
/** "No transport header here": no frame has one at 0. */
const NOWHERE = 0;

/**
 * A value of all five maps of rules: the verdict (an action: 1 drops, everything else lets through), 4 bytes of nothing, then
 * two counters of 64 bits, of frames and of their bytes.
 */
export const RULE_SIZE = 24;
/** Where in the value the verdict stands. */
export const RULE_VERDICT = 0;
/** Where the counter of frames stands. */
export const RULE_FRAMES = 8;
/** Where the counter of bytes stands. */
export const RULE_BYTES = 16;

function prefixes(name: string, addressSize: number, maxEntries: number): MapSpec {
  return { name, kind: "lpm_trie", keySize: 4 + addressSize, valueSize: RULE_SIZE, maxEntries };
}

/** Keys: length of the prefix (little-endian), 4 bytes of address. */
export const SOURCES_4: MapSpec = prefixes("filter_src4", 4, 1024);
/** As {@link SOURCES_4}. */
export const DESTINATIONS_4: MapSpec = prefixes("filter_dst4", 4, 1024);
/** Keys: length of the prefix (little-endian), 16 bytes of address. */
export const SOURCES_6: MapSpec = prefixes("filter_src6", 16, 1024);
/** As {@link SOURCES_6}. */
export const DESTINATIONS_6: MapSpec = prefixes("filter_dst6", 16, 1024);
/** Keys: protocol, a zero, destination port in network order. */
export const PORT_RULES: MapSpec = { name: "filter_ports", kind: "hash", keySize: 4, valueSize: RULE_SIZE, maxEntries: 1024 };

/** What the filter counts, by index in {@link FILTER_COUNT}; frames that a rule decided are counted in the rule too. */
export const FILTER_COUNTERS = ["passed", "dropped", "notIp", "malformed", "tooDeep"] as const;
/** Name of a counter. */
export type FilterCounter = typeof FILTER_COUNTERS[number];
/** One counter for each of {@link FILTER_COUNTERS}. */
export const FILTER_COUNT: MapSpec = {
  name: "filter_count",
  kind: "percpu_array",
  keySize: 4,
  valueSize: 8,
  maxEntries: FILTER_COUNTERS.length,
};

/** How the filter is made. */
export interface FilterOptions {
  /** What happens to IP that no rule speaks of. Default "pass". */
  otherwise?: "pass" | "drop";
}

/** The steps of the filter over one builder. */
class Filter {
  readonly #p: ProgramBuilder;
  readonly #otherwise: "pass" | "drop";

  constructor(p: ProgramBuilder, otherwise: "pass" | "drop") {
    this.#p = p;
    this.#otherwise = otherwise;
  }

  #drop = (name: FilterCounter) => () => {
    this.#p.count(FILTER_COUNT, FILTER_COUNTERS.indexOf(name));
    this.#p.drop();
  };

  #pass = (name: FilterCounter) => () => {
    this.#p.count(FILTER_COUNT, FILTER_COUNTERS.indexOf(name));
    this.#p.pass();
  };

  readonly #malformed = this.#drop("malformed");

  describe(): void {
    const p = this.#p;
    const type = p.variable(p.window(0, 14, this.#malformed).u16(12));
    const at = p.variable(14);
    p.loop(VLANS_MAX, () => {
      p.if(p.all(p.ne(type, TYPE_VLAN), p.ne(type, TYPE_SERVICE_VLAN)), () => p.break());
      const tag = p.window(at, 4, this.#malformed);
      type.set(tag.u16(2));
      at.set(p.add(at, 4));
    });
    p.if(p.eq(type, TYPE_IPV4), () => this.#ipv4(at));
    p.if(p.eq(type, TYPE_IPV6), () => this.#ipv6(at));
    p.if(p.any(p.eq(type, TYPE_VLAN), p.eq(type, TYPE_SERVICE_VLAN)), this.#drop("tooDeep"));
    this.#pass("notIp")();
  }

  #ipv4(at: Value): void {
    const p = this.#p;
    const ip = p.window(at, 20, this.#malformed);
    const first = ip.u8(0);
    const headerSize = p.shl(p.and(first, 15), 2);
    const total = ip.u16(2);
    const room = p.sub(p.length(), at);
    const lies = p.any(p.ne(p.shr(first, 4), 4), p.lt(headerSize, 20), p.lt(total, headerSize), p.gt(total, room));
    p.if(lies, this.#malformed);
    const fragment = ip.u16(6);
    const protocol = ip.u8(9);
    const port = p.variable(0);
    p.if(p.not(p.hasBits(fragment, 0x1fff)), () => {
      this.#transport(protocol, p.add(at, headerSize), p.sub(total, headerSize), p.hasBits(fragment, 0x2000), port);
    });
    this.#byPort(protocol, port);
    this.#byPrefix(SOURCES_4, [{ u32: 32 }, { be32: ip.u32(12) }]);
    this.#byPrefix(DESTINATIONS_4, [{ u32: 32 }, { be32: ip.u32(16) }]);
    this.#byDefault();
  }

  #ipv6(at: Value): void {
    const p = this.#p;
    const ip = p.window(at, 40, this.#malformed);
    const payload = ip.u16(4);
    const wrong = p.any(p.ne(p.shr(ip.u8(0), 4), 6), p.gt(payload, p.sub(p.sub(p.length(), at), 40)));
    p.if(wrong, this.#malformed);
    const protocol = p.variable(ip.u8(6));
    const start = p.add(at, 40);
    const end = p.add(start, payload);
    const next = p.variable(start);
    const inPieces = p.variable(0);
    p.loop(EXTENSIONS_MAX, () => this.#extension(protocol, next, end, inPieces));
    const isExtension = p.any(p.eq(protocol, FRAGMENT), p.eq(protocol, 0), p.eq(protocol, 43), p.eq(protocol, 60));
    p.if(p.all(p.ne(next, NOWHERE), isExtension), this.#drop("tooDeep"));
    const port = p.variable(0);
    p.if(p.ne(next, NOWHERE), () => {
      p.if(p.gt(next, end), this.#malformed);
      this.#transport(protocol, next, p.sub(end, next), p.ne(inPieces, 0), port);
    });
    this.#byPort(protocol, port);
    const address = (from: number): KeyPart[] => [0, 4, 8, 12].map((piece) => ({ be32: ip.u32(from + piece) }));
    this.#byPrefix(SOURCES_6, [{ u32: 128 }, ...address(8)]);
    this.#byPrefix(DESTINATIONS_6, [{ u32: 128 }, ...address(24)]);
    this.#byDefault();
  }

  /** Passes over one extension header; a fragment that isn't the first leaves `next` NOWHERE. */
  #extension(protocol: Variable, next: Variable, end: Value, inPieces: Variable): void {
    const p = this.#p;
    const [a, b, c] = EXTENSIONS;
    p.if(p.all(p.ne(protocol, a), p.ne(protocol, b), p.ne(protocol, c), p.ne(protocol, FRAGMENT)), () => p.break());
    const header = p.window(next, 8, this.#malformed);
    const size = p.variable(8);
    p.if(p.ne(protocol, FRAGMENT), () => size.set(p.add(p.shl(header.u8(1), 3), 8)));
    p.if(p.gt(p.add(next, size), end), this.#malformed);
    const [wasFragment, fragment] = [p.eq(protocol, FRAGMENT), header.u16(2)];
    p.if(p.all(wasFragment, p.hasBits(fragment, 0xfff8)), () => {
      protocol.set(header.u8(0));
      next.set(NOWHERE);
      p.break();
    });
    p.if(p.all(wasFragment, p.hasBits(fragment, 1)), () => inPieces.set(1));
    protocol.set(header.u8(0));
    next.set(p.add(next, size));
  }

  /** Checks the transport header in `room` bytes at `at`, and sets the destination port if it has one. */
  #transport(protocol: Value, at: Value, room: Value, inPieces: Parameters<ProgramBuilder["if"]>[0], port: Variable): void {
    const p = this.#p;
    p.if(p.eq(protocol, TCP), () => {
      const tcp = p.window(at, TCP_SIZE, this.#malformed);
      const headerSize = p.shl(p.shr(tcp.u8(12), 4), 2);
      p.if(p.any(p.lt(headerSize, TCP_SIZE), p.gt(headerSize, room)), this.#malformed);
      port.set(tcp.u16(2));
    });
    p.if(p.eq(protocol, UDP), () => {
      const udp = p.window(at, UDP_SIZE, this.#malformed);
      const length = udp.u16(4);
      p.if(p.any(p.lt(room, UDP_SIZE), p.lt(length, UDP_SIZE)), this.#malformed);
      // The length of the whole datagram, of which this may be the first piece.
      p.if(p.all(p.gt(length, room), p.not(inPieces)), this.#malformed);
      port.set(udp.u16(2));
    });
  }

  #byPort(protocol: Value, port: Value): void {
    const p = this.#p;
    const rule = (port: Value | number) =>
      p.lookup(PORT_RULES, [{ u8: protocol }, { u8: 0 }, { be16: port }], (entry) => this.#decide(entry));
    p.if(p.ne(port, 0), () => rule(port));
    rule(0);
  }

  #byPrefix(map: MapSpec, key: KeyPart[]): void {
    this.#p.lookup(map, key, (entry) => this.#decide(entry));
  }

  #decide(rule: Entry): void {
    const p = this.#p;
    rule.count(RULE_FRAMES);
    rule.count(RULE_BYTES, p.length());
    p.if(p.eq(rule.u32(RULE_VERDICT), XDP_DROP), this.#drop("dropped"));
    this.#pass("passed")();
  }

  #byDefault(): void {
    if (this.#otherwise === "drop") this.#drop("dropped")();
    else this.#pass("passed")();
  }
}

/**
 * Makes the filter. Its maps of rules are `filter_ports`, `filter_src4`, `filter_src6`, `filter_dst4` and `filter_dst6`: the first
 * with an entry decides, in this order; and `filter_count` counts, by index in {@link FILTER_COUNTERS}.
 *
 * ```ts
 * import { createMap, filterPrefix, filterProgram, filterRule, PacketDevice, readFilterRule, XdpEngine } from "@tapioca/tapioca";
 *
 * const engine = new XdpEngine();
 * const program = filterProgram();
 * const maps = program.maps.map((spec) => createMap(spec, engine.interfaces));
 * const sources = maps.find(({ spec }) => spec.name === "filter_src4")!;
 * sources.set(filterPrefix("198.51.100.0/24"), filterRule("drop"));
 * const device = new PacketDevice({ medium: "ethernet" });
 * const port = engine.add(device, { program: program.instantiate(maps) });
 *
 * const frame = new Uint8Array(34);
 * frame.set([0x08, 0x00, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 1, 0, 0, 198, 51, 100, 9, 192, 0, 2, 1], 12);
 * device.inject(frame);
 * engine.poll();
 * console.log(port.actions[1], readFilterRule(sources.get(filterPrefix("198.51.100.0/24"))!).frames); // 1 1
 * engine.close();
 * ```
 *
 * @throws {TypeError} for a wrong option
 */
export function filterProgram(options: FilterOptions = {}): XdpProgram {
  checkObject(options);
  const { otherwise = "pass" } = options;
  checkWord("otherwise", otherwise, ["pass", "drop"]);
  const maps = [PORT_RULES, SOURCES_4, DESTINATIONS_4, SOURCES_6, DESTINATIONS_6, FILTER_COUNT];
  return defineProgram("filter", maps, (p) => new Filter(p, otherwise).describe());
}
