/**
 * What a virtio driver needs of a transport (virtio 1.2, 4): the same for MMIO and PCI, modern and legacy.
 *
 * @module
 */
import * as c from "./net_config.ts";

/** What a {@link VirtioError} is about. */
export type VirtioErrorCode =
  | "NOT_VIRTIO"
  | "UNSUPPORTED_VERSION"
  | "INCOMPATIBLE_DEVICE_ID"
  | "INCOMPATIBLE_MTU"
  | "FEATURES_REFUSED"
  | "MISSING_CAPABILITY"
  | "QUEUES_UNAVAILABLE"
  | "NO_RESET";

/** A device that a driver can't use, and why. */
export class VirtioError extends Error {
  /** What kind of error it is, for people. */
  override readonly name = "VirtioError";

  /** An error with a code, for programs, and a message. */
  constructor(readonly code: VirtioErrorCode, message: string) {
    super(message);
  }
}

/** Where the parts of a queue lie. */
export interface QueueAddresses {
  /** Entries. */
  readonly size: number;
  /** Address of the descriptors. */
  readonly descriptors: number;
  /** Address of what the driver writes. */
  readonly driver: number;
  /** Address of what the device writes. */
  readonly device: number;
}

/** A device as its driver reaches it. */
export interface VirtioTransport {
  /** For people: "mmio", "pci". */
  readonly name: string;
  /** From before virtio 1.0: 32 feature bits, no FEATURES_OK, a queue in one piece. */
  readonly legacy: boolean;
  /** The kind of device: 1 is a network device. */
  readonly deviceId: number;
  /** The driver can't choose a queue's size. */
  readonly fixedQueueSize: boolean;
  /** The status register. */
  status: number;
  /** What the device offers. */
  deviceFeatures(): bigint;
  /** Tells the driver's choice. */
  chooseFeatures(features: bigint): void;
  /** Changes whenever the configuration does; always 0 on legacy devices. */
  configGeneration(): number;
  /** Reads 1, 2 or 4 bytes of the configuration. */
  readConfig(offset: number, size: number): number;
  /** The largest size of a queue; 0 if there is none. */
  queueSizeMax(index: number): number;
  /** True if a queue is in use. */
  queueReady(index: number): boolean;
  /** Puts a queue to use. */
  setUpQueue(index: number, addresses: QueueAddresses): void;
  /** Tells the device that a queue has something new. */
  notify(index: number): void;
  /** What an interrupt is about, as INTERRUPT_… bits; acknowledges it. `vector` is given for one that came as a message. */
  interrupt(vector?: number): number;
}

/** A network device's configuration. */
export interface NetConfig {
  /** Six bytes. */
  readonly mac: Uint8Array;
  /** LINK_… bits. */
  readonly status: number;
  /** Queue pairs that there are. */
  readonly pairs: number;
  /** Largest IP packet that the driver is to send. */
  readonly mtu: number;
}

/** How often a configuration that changes meanwhile is read again. */
const CONFIG_TRIES = 16;

/** Reads the configuration, all of it from one moment (virtio 1.2, 2.5.1). */
export function readNetConfig(transport: VirtioTransport): NetConfig {
  const mac = new Uint8Array(6);
  for (let tries = 1;; tries++) {
    const generation = transport.configGeneration();
    for (let i = 0; i < 6; i++) mac[i] = transport.readConfig(i, 1);
    const status = transport.readConfig(c.CONFIG_STATUS, 2);
    const pairs = transport.readConfig(c.CONFIG_PAIRS, 2);
    const mtu = transport.readConfig(c.CONFIG_MTU, 2);
    if (transport.configGeneration() === generation || tries === CONFIG_TRIES) return { mac, status, pairs, mtu };
  }
}
