/**
 * The kernel's bridge by its private ioctls: the living example of a device whose `SIOCDEVPRIVATE+0` means something.
 * `ifr_data` points to four words: an operation, and its arguments.
 *
 * @module
 */
import { EAGAIN, EPERM, errnoError, PRIVILEGE_HINT } from "./errno.ts";
import { formatMac } from "./inet.ts";
import { InterfaceIoctls } from "./ioctl_interface.ts";
import { addressOf } from "./libc.ts";
import type { NamespaceReference } from "./namespace.ts";
import { array, bytes, i32, structure, u16, u32, u64, u8, word } from "./structure.ts";

export const BRCTL_GET_BRIDGE_INFO = 6;
export const BRCTL_GET_PORT_LIST = 7;
export const BRCTL_SET_BRIDGE_FORWARD_DELAY = 8;
export const BRCTL_GET_FDB_ENTRIES = 18;

/** Ports that a bridge can have: what an answer has room for. */
const PORTS_MAX = 1024;
/** Entries of the forwarding table taken at once. */
const ENTRIES = 256;
/** Entries taken in all. */
const ENTRIES_MAX = 1_048_576;
/** The kernel counts times of the bridge in hundredths of a second (USER_HZ). */
const TICK_MS = 10;
/** A table that changes while it is read is read again, at most so often. */
const TRIES = 10;

/** What `ifr_data` points to. */
export const bridgeArguments = structure("bridge_args", { operation: word, first: word, second: word, third: word });

/** `struct __bridge_info`, 72 bytes. Times in hundredths of a second, but `forwardDelay`, `bridgeMaxAge`, `bridgeHelloTime` in kernel ticks. */
export const bridgeInfo = structure("__bridge_info", {
  designatedRoot: u64,
  bridgeId: u64,
  rootPathCost: u32,
  maxAge: u32,
  helloTime: u32,
  forwardDelay: u32,
  bridgeMaxAge: u32,
  bridgeHelloTime: u32,
  bridgeForwardDelay: u32,
  topologyChange: u8,
  topologyChangeDetected: u8,
  rootPort: u8,
  stpEnabled: u8,
  ageingTime: u32,
  gcInterval: u32,
  helloTimerValue: u32,
  tcnTimerValue: u32,
  topologyChangeTimerValue: u32,
  gcTimerValue: u32,
});

/** `struct __fdb_entry`, 16 bytes. */
export const fdbEntry = structure("__fdb_entry", {
  mac: bytes(6),
  portLow: u8,
  isLocal: u8,
  ageingTimer: u32,
  portHigh: u8,
  pad: u8,
  unused: u16,
});

const portList = array(i32, PORTS_MAX);

/** What a bridge says of itself. */
export interface BridgeInfo {
  /** Priority and MAC address: "8000.020000000001". */
  readonly id: string;
  /** The same of the root of the spanning tree. */
  readonly root: string;
  /** Cost of the way to the root. */
  readonly rootPathCost: number;
  /** Number of the port towards the root; 0 if it is the root. */
  readonly rootPort: number;
  /** The spanning tree protocol is on. */
  readonly spanningTree: boolean;
  /** How long a port listens, and then learns. */
  readonly forwardDelayMs: number;
  /** Of the spanning tree's root, as the next. */
  readonly helloTimeMs: number;
  /** How long the root's messages are believed. */
  readonly maxAgeMs: number;
  /** How long an address is remembered. */
  readonly ageingTimeMs: number;
}

/** An address that a bridge knows. */
export interface ForwardingEntry {
  /** "02:00:00:00:00:01". */
  readonly mac: string;
  /** Number of the port behind which it is. */
  readonly port: number;
  /** It is the port's own. */
  readonly local: boolean;
  /** Since it was seen; 0 for a local one. */
  readonly ageMs: number;
}

/** The id in the kernel's own notation. It stands in memory in network order. */
function bridgeId(id: bigint): string {
  let text = "";
  for (let shift = 0n; shift < 64n; shift += 8n) text += Number((id >> shift) & 0xffn).toString(16).padStart(2, "0");
  return `${text.slice(0, 4)}.${text.slice(4)}`;
}

/** A bridge, asked by `ioctl(SIOCDEVPRIVATE)`. Anyone may read; to change needs CAP_NET_ADMIN. */
export class Bridge implements Disposable {
  readonly #ioctls: InterfaceIoctls;

  /**
   * The bridge of that name; it must exist already.
   *
   * @param namespace where it is. Default: the calling thread's.
   */
  constructor(readonly name: string, namespace?: NamespaceReference) {
    this.#ioctls = new InterfaceIoctls(namespace);
  }

  #call(operation: number, first: number, second = 0, third = 0): number {
    return this.#ioctls.private(this.name, 0, { data: bridgeArguments.make({ operation, first, second, third }) });
  }

  #check(code: number, op: string): number {
    if (code < 0) throw errnoError(op, `bridge "${this.name}"`, code, code === -EPERM ? PRIVILEGE_HINT : "");
    return code;
  }

  /** What it says of itself. @throws `NotFound` (ENODEV), `NotSupported` (EOPNOTSUPP) when it is no bridge */
  info(): BridgeInfo {
    const memory = new Uint8Array(bridgeInfo.size);
    this.#check(this.#call(BRCTL_GET_BRIDGE_INFO, addressOf(memory)), "read");
    const info = bridgeInfo.parse(memory);
    return {
      id: bridgeId(info.bridgeId),
      root: bridgeId(info.designatedRoot),
      rootPathCost: info.rootPathCost,
      rootPort: info.rootPort,
      spanningTree: info.stpEnabled !== 0,
      forwardDelayMs: info.bridgeForwardDelay * TICK_MS,
      // The kernel gives the bridge's own hello time and age in its own clock's ticks, which nobody outside knows.
      helloTimeMs: info.helloTime * TICK_MS,
      maxAgeMs: info.maxAge * TICK_MS,
      ageingTimeMs: info.ageingTime * TICK_MS,
    };
  }

  /** Interface indexes by port number: `ports().get(1)`. */
  ports(): Map<number, number> {
    const memory = new Uint8Array(portList.size);
    this.#check(this.#call(BRCTL_GET_PORT_LIST, addressOf(memory), PORTS_MAX), "list the ports of");
    const indexes = portList.read(new DataView(memory.buffer), 0);
    return new Map([...indexes.entries()].filter(([, index]) => index !== 0));
  }

  /** All addresses that it knows. */
  forwardingTable(): ForwardingEntry[] {
    const memory = new Uint8Array(fdbEntry.size * ENTRIES);
    const entries: ForwardingEntry[] = [];
    for (let tries = 0; entries.length < ENTRIES_MAX;) {
      const count = this.#call(BRCTL_GET_FDB_ENTRIES, addressOf(memory), ENTRIES, entries.length);
      if (count === -EAGAIN && ++tries < TRIES) continue;
      this.#check(count, "read the forwarding table of");
      for (let i = 0; i < count; i++) {
        const entry = fdbEntry.parse(memory, i * fdbEntry.size);
        entries.push({
          mac: formatMac(entry.mac),
          port: entry.portLow | entry.portHigh << 8,
          local: entry.isLocal !== 0,
          ageMs: entry.ageingTimer * TICK_MS,
        });
      }
      if (count < ENTRIES) break;
    }
    return entries;
  }

  /**
   * Sets how long a port listens and learns before it forwards. With the spanning tree on the kernel takes 2 to 30 seconds.
   *
   * @throws `PermissionDenied` (EPERM), `InvalidData` (ERANGE)
   */
  setForwardDelay(ms: number): void {
    if (!Number.isFinite(ms) || ms < 0) throw new TypeError(`Invalid delay ${ms}: milliseconds from 0 on are needed`);
    this.#check(this.#call(BRCTL_SET_BRIDGE_FORWARD_DELAY, Math.round(ms / TICK_MS)), "set the forward delay of");
  }

  /** Closes the socket; the bridge stays. */
  [Symbol.dispose](): void {
    this.#ioctls[Symbol.dispose]();
  }
}
