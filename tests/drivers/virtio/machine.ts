/**
 * A virtio network device and its driver, joined by registers and memory: what a virtual machine would be, without the machine.
 */
import { FEATURES } from "../../../drivers/virtio/features.ts";
import { SharedMemory } from "../../../drivers/virtio/memory.ts";
import { MmioDevice } from "../../../drivers/virtio/mmio_device.ts";
import { MmioTransport } from "../../../drivers/virtio/mmio_transport.ts";
import { VirtioNetDevice } from "../../../drivers/virtio/net_device.ts";
import { NetDriver } from "../../../drivers/virtio/net_driver.ts";
import type { NetDriverOptions } from "../../../drivers/virtio/net_driver_options.ts";
import type { VirtioNetOptions } from "../../../drivers/virtio/net_options.ts";
import { PciDevice, type PciFunction, type PciOptions } from "../../../drivers/virtio/pci_device.ts";
import { pciTransport, type PciTransportOptions } from "../../../drivers/virtio/pci_transport.ts";
import type { RegisterFile } from "../../../drivers/virtio/register_file.ts";
import type { VirtioTransport } from "../../../drivers/virtio/transport.ts";

/** The ways to a device. */
export const BUSES = ["mmio", "mmio-legacy", "pci", "pci-msix", "pci-legacy", "pci-legacy-msix"] as const;
export type Bus = typeof BUSES[number];

/** Feature bits as one number. */
export function bits(...names: (keyof typeof FEATURES)[]): bigint {
  return names.reduce((all, name) => all | FEATURES[name], 0n);
}

export const MEMORY_BYTES = 16 << 20;
/** Not at 0, so that an address and an offset are never the same by chance. */
export const BASE = 0x4000_0000;
/** Where messages go, and the data of the first. */
export const MESSAGES = { address: 0x1_fee0_0000, data: 0x40 };

export interface Machine extends Disposable {
  readonly memory: SharedMemory;
  readonly bytes: Uint8Array;
  readonly device: VirtioNetDevice;
  /** What the device's interrupts were. */
  readonly interrupts: { lines: number; messages: number[] };
  /** Registers of an MMIO device. */
  readonly registers: RegisterFile | null;
  readonly pci: PciFunction | null;
  readonly transport: VirtioTransport;
  /** Made by {@link start}. */
  readonly driver: NetDriver;
  /** Makes the driver. */
  start(options?: Partial<NetDriverOptions>): NetDriver;
}

/** A device on a bus, without a driver at first; `wrap` stands between driver and registers. */
export function machine(
  bus: Bus,
  options: VirtioNetOptions = {},
  wrap: { registers?: (registers: RegisterFile) => RegisterFile; transport?: (transport: VirtioTransport) => VirtioTransport } =
    {},
  pciOptions: PciOptions = {},
): Machine {
  const bytes = new Uint8Array(new SharedArrayBuffer(MEMORY_BYTES));
  // A driver must not count on memory that is zero.
  bytes.fill(0xa5);
  const memory = SharedMemory.of(bytes, BASE);
  const device = new VirtioNetDevice(memory, options);
  const interrupts = { lines: 0, messages: [] as number[] };
  const made = { driver: null as NetDriver | null };
  const line = (up: boolean) => {
    if (!up) return;
    interrupts.lines++;
    made.driver?.interrupt();
  };
  const message = (address: number, data: number) => {
    interrupts.messages.push(data);
    if (address === MESSAGES.address) made.driver?.interrupt(data - MESSAGES.data);
  };
  let registers: RegisterFile | null = null;
  let pci: PciFunction | null = null;
  if (bus.startsWith("mmio")) registers = new MmioDevice(device, { legacy: bus === "mmio-legacy", interrupt: line });
  else {
    const kind = bus.startsWith("pci-legacy") ? "legacy" : "modern";
    pci = new PciDevice(device, { kind, interrupt: line, message, ...pciOptions });
  }
  const transportOptions: PciTransportOptions = bus.endsWith("msix") ? { msix: MESSAGES } : {};
  const transport = () => {
    const plain = registers !== null
      ? new MmioTransport(wrap.registers?.(registers) ?? registers)
      : pciTransport(pci!, transportOptions);
    return wrap.transport?.(plain) ?? plain;
  };
  let found: VirtioTransport | null = null;
  return {
    memory,
    bytes,
    device,
    interrupts,
    registers,
    pci,
    get transport() {
      return found ??= transport();
    },
    get driver() {
      return made.driver!;
    },
    start(own = {}) {
      const area = { address: BASE + 0x1000, length: MEMORY_BYTES - 0x1000 };
      return made.driver = new NetDriver({ transport: own.transport ?? this.transport, memory, area, ...own });
    },
    [Symbol.dispose]() {
      made.driver?.close();
      device.close();
    },
  };
}
