// Section D2, the rows about PCI: capabilities, notification addresses, MSI-X, and the registers of legacy devices.
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { PciFunction } from "../../../drivers/virtio/pci_device.ts";
import { PciDevice } from "../../../drivers/virtio/pci_device.ts";
import { COMMON, LEGACY, PCI } from "../../../drivers/virtio/pci_registers.ts";
import { pciTransport } from "../../../drivers/virtio/pci_transport.ts";
import type { RegisterFile } from "../../../drivers/virtio/register_file.ts";
import { VirtioError, type VirtioErrorCode } from "../../../drivers/virtio/transport.ts";
import { SharedMemory } from "../../../drivers/virtio/memory.ts";
import { VirtioNetDevice } from "../../../drivers/virtio/net_device.ts";
import { Keep, segment } from "../frames.ts";
import { machine, MESSAGES } from "./machine.ts";

function throwsVirtio(code: VirtioErrorCode, message: string, run: () => unknown): void {
  assertEquals(assertThrows(run, VirtioError, message).code, code);
}

/** The capabilities of a function: where each lies, by kind; 0 for MSI-X. */
function capabilities(config: RegisterFile): Map<number, number> {
  const found = new Map<number, number>();
  for (let at = config.read(PCI.CAPABILITIES, 1); at !== 0; at = config.read(at + 1, 1)) {
    assertEquals(at % 4, 0, "aligned");
    found.set(config.read(at, 1) === 0x11 ? 0 : config.read(at + 3, 1), at);
  }
  return found;
}

/** A function whose configuration space reads otherwise at some offsets. */
function lying(pci: PciFunction, answers: Record<number, number>): PciFunction {
  const config: RegisterFile = {
    read: (offset, size) => answers[offset] ?? pci.config.read(offset, size),
    write: (offset, size, value) => pci.config.write(offset, size, value),
  };
  return { config, bar: (index) => pci.bar(index) };
}

function udp() {
  return segment({ link: 14, proto: 17, source: [10, 0, 2, 2], destination: [10, 0, 2, 15], ports: [1, 2], size: 100 }, false);
}

Deno.test("D2.5 PCI modern: capabilities common, notify, ISR and device; the id is the device's less 0x1040", () => {
  using m = machine("pci");
  const config = m.pci!.config;
  assertEquals([config.read(PCI.VENDOR, 2), config.read(PCI.DEVICE, 2), config.read(PCI.REVISION, 1)], [0x1af4, 0x1041, 1]);
  assertEquals([...capabilities(config).keys()].sort(), [0, 1, 2, 3, 4, 5]);
  assertEquals(pciTransport(m.pci!).deviceId, 1);
  assertEquals(pciTransport(lying(m.pci!, { [PCI.DEVICE]: 0x1040 + 16 })).deviceId, 16);
  for (const [at, wrong] of [[PCI.VENDOR, 0x8086], [PCI.DEVICE, 0x0fff], [PCI.DEVICE, 0x1080], [PCI.VENDOR, 0xffff]]) {
    throwsVirtio("NOT_VIRTIO", "no virtio device", () => pciTransport(lying(m.pci!, { [at]: wrong })));
  }
});

Deno.test("D2.5 PCI modern: a missing capability is an error, and so is a list that is a loop", () => {
  using m = machine("pci");
  const at = capabilities(m.pci!.config);
  for (const [kind, message] of [[1, "common"], [2, "notification"], [3, "ISR"], [4, "device configuration"]] as const) {
    const capability = at.get(kind)!;
    // Of another kind, in a BAR that isn't there, and too short.
    for (const wrong of [{ [capability + 3]: 9 }, { [capability + 4]: 2 }, { [capability + 4]: 6 }, { [capability + 12]: 0 }]) {
      throwsVirtio("MISSING_CAPABILITY", `missing ${message}`, () => pciTransport(lying(m.pci!, wrong)));
    }
  }
  throwsVirtio("MISSING_CAPABILITY", "missing common", () => pciTransport(lying(m.pci!, { [PCI.STATUS]: 0 })));
  throwsVirtio("MISSING_CAPABILITY", "loop", () => pciTransport(lying(m.pci!, { [at.get(4)! + 1]: at.get(1)! })));
  using bare = new VirtioNetDevice(SharedMemory.of(new Uint8Array(4096)));
  const none = new PciDevice(bare, { vectors: 0 });
  throwsVirtio("MISSING_CAPABILITY", "no MSI-X", () => pciTransport(none, { msix: MESSAGES }));
});

Deno.test("D2.5 PCI modern: a queue is notified at base + queue_notify_off x multiplier", async () => {
  for (const notifyMultiplier of [0, 2, 4, 64]) {
    using m = machine("pci", { pairs: 2 }, {}, { notifyMultiplier });
    const at = capabilities(m.pci!.config).get(2)!;
    const base = m.pci!.config.read(at + 8, 4);
    assertEquals(m.pci!.config.read(at + 16, 4), notifyMultiplier);
    const notified: number[] = [];
    const bar = m.pci!.bar(4)!;
    const spied: PciFunction = {
      config: m.pci!.config,
      bar: (index) =>
        index !== 4 ? m.pci!.bar(index) : {
          read: (offset, size) => bar.read(offset, size),
          write: (offset, size, value) => {
            if (offset >= base) notified.push(offset - base, value);
            bar.write(offset, size, value);
          },
        },
    };
    const transport = pciTransport(spied);
    const driver = m.start({ transport });
    assertEquals(driver.tx(new Uint8Array(60)), 0);
    assert(await driver.control!.command(0, 0, new Uint8Array([1])));
    assertEquals(notified, [notifyMultiplier, 1, 2 * notifyMultiplier, 2]);
    assertEquals(m.device.receive(new Keep(), 10), 1);
    assertEquals(m.device.statistics().badAccesses, 0);
  }
  // A place outside of what the capability spans.
  using m = machine("pci");
  const at = capabilities(m.pci!.config).get(2)!;
  throwsVirtio("QUEUES_UNAVAILABLE", "outside", () => m.start({ transport: pciTransport(lying(m.pci!, { [at + 16]: 4096 })) }));
});

Deno.test("D2.5 PCI modern: MSI-X, a vector for the configuration and one for each queue; masked ones wait", () => {
  using m = machine("pci-msix");
  const driver = m.start();
  driver.arm();
  m.device.transmit(udp());
  m.device.flush();
  assertEquals([m.interrupts.lines, m.interrupts.messages], [0, [MESSAGES.data + 1]]);
  m.device.setLink(false);
  assertEquals([driver.linkUp, m.interrupts.messages.at(-1)], [false, MESSAGES.data]);
  m.device.setLink(true);
  // virtio 1.2, 4.1.4.5.1: with messages only the configuration's bit is set.
  assertEquals(m.device.interruptStatus, 2);
  const table = m.pci!.bar(1)!;
  const control = capabilities(m.pci!.config).get(0)! + 2;
  for (
    const mask of [
      (on: boolean) => table.write(28, 4, on ? 1 : 0),
      (on: boolean) => m.pci!.config.write(control, 2, on ? 0xc000 : 0x8000),
    ]
  ) {
    const before = m.interrupts.messages.length;
    driver.receive(new Keep(), 10);
    driver.arm();
    mask(true);
    m.device.transmit(udp());
    m.device.flush();
    assertEquals([m.interrupts.messages.length, table.read(0x800, 4)], [before, 2]);
    mask(false);
    assertEquals([m.interrupts.messages.length, table.read(0x800, 4)], [before + 1, 0]);
  }
  // A vector that isn't there reads back as none; a driver gives up then.
  const common = m.pci!.bar(4)!;
  common.write(COMMON.CONFIG_VECTOR, 2, 4);
  assertEquals(common.read(COMMON.CONFIG_VECTOR, 2), 0xffff);
});

Deno.test("D2.5 PCI modern: few vectors are shared", () => {
  for (const vectors of [1, 2, 3, 4]) {
    using m = machine("pci-msix", {}, {}, { vectors });
    const driver = m.start();
    driver.arm();
    m.device.transmit(udp());
    m.device.flush();
    assertEquals(m.interrupts.messages, [MESSAGES.data + Math.min(1, vectors - 1)]);
    m.device.setLink(false);
    assertEquals(driver.linkUp, false);
  }
});

Deno.test("D2.5 PCI modern: BARs tell their size, answer when they are switched on, and can be reached by the PCI_CFG window", () => {
  using m = machine("pci", {}, {}, { kind: "transitional" });
  const { config } = m.pci!;
  for (const [index, size, io] of [[0, 0x40, 1], [1, 0x1000, 0], [4, 0x4000, 0]]) {
    config.write(PCI.BAR0 + 4 * index, 4, 0xffff_ffff);
    assertEquals(config.read(PCI.BAR0 + 4 * index, 4), (0x1_0000_0000 - size) + io);
  }
  config.write(PCI.BAR0 + 8, 4, 0xffff_ffff);
  assertEquals([config.read(PCI.BAR0 + 8, 4), m.pci!.bar(2), m.pci!.bar(-1)], [0, null, null]);
  assertEquals(m.pci!.bar(4)!.read(COMMON.NUM_QUEUES, 2), 0xffff, "memory isn't switched on");
  const window = capabilities(config).get(5)!;
  const look = (offset: number, length: number) => {
    config.write(window + 4, 1, 4);
    config.write(window + 8, 4, offset);
    config.write(window + 12, 4, length);
    return config.read(window + 16, length);
  };
  config.write(PCI.COMMAND, 2, 7);
  assertEquals([look(COMMON.NUM_QUEUES, 2), look(0x2000, 4) & 0xff], [3, m.device.guestMac[0]]);
  look(COMMON.STATUS, 1);
  config.write(window + 16, 1, 3);
  assertEquals(m.device.status, 3);
  assertEquals(config.read(255, 2), 0xffff);
});

Deno.test("D2.6 PCI legacy: revision 0, ids 0x1000 to 0x103f, 32 feature bits, pages of 4096, configuration at 0x14 or 0x18", () => {
  for (const bus of ["pci-legacy", "pci-legacy-msix"] as const) {
    using m = machine(bus);
    const { config } = m.pci!;
    assertEquals([config.read(PCI.DEVICE, 2), config.read(PCI.REVISION, 1), config.read(PCI.SUBSYSTEM, 2)], [0x1000, 0, 1]);
    const driver = m.start();
    assert(m.transport.legacy);
    assert(m.device.offered(true) < 1n << 32n);
    const io = m.pci!.bar(0)!;
    const at = bus === "pci-legacy" ? 0x14 : 0x18;
    assertEquals([0, 1, 2, 3, 4, 5].map((i) => io.read(at + i, 1)), [...m.device.guestMac]);
    assertEquals(BigInt(io.read(LEGACY.DEVICE_FEATURES, 4)), m.device.offered(true));
    io.write(LEGACY.QUEUE_SELECT, 2, 1);
    const { descriptors, driver: available, device } = m.device.queueRegisters(1)!;
    assertEquals(io.read(LEGACY.QUEUE_PFN, 4) * 4096, descriptors);
    assertEquals([available, device], [descriptors + 4096, descriptors + 8192]);
    assertEquals(driver.mac, m.device.guestMac);
    // The configuration is the driver's to write, as far as its address goes.
    const own = [2, 9, 8, 7, 6, 5];
    own.forEach((byte, i) => io.write(at + i, 1, byte));
    assertEquals([...m.device.guestMac].join() === own.join(), false, "there is a command for that");
    driver.close();
    own.forEach((byte, i) => io.write(at + i, 1, byte));
    assertEquals([...m.device.guestMac], own);
  }
});

Deno.test("D2.6 PCI legacy: another revision is no legacy device; a transitional one is used either way", () => {
  using m = machine("pci-legacy");
  throwsVirtio("UNSUPPORTED_VERSION", "revision 1", () => pciTransport(lying(m.pci!, { [PCI.REVISION]: 1 })));
  for (const id of [0x1000, 0x103f]) assertEquals(pciTransport(lying(m.pci!, { [PCI.DEVICE]: id })).legacy, true);
  for (const preferLegacy of [true, false]) {
    using both = machine("pci", {}, {}, { kind: "transitional" });
    const transport = pciTransport(both.pci!, { preferLegacy });
    assertEquals([transport.legacy, transport.deviceId], [preferLegacy, 1]);
    const driver = both.start({ transport });
    assertEquals(driver.agreedFeatures.includes("VERSION_1"), !preferLegacy);
    assertEquals(driver.tx(new Uint8Array(60)), 0);
    const keep = new Keep();
    assertEquals([both.device.receive(keep, 10), keep.frames[0].bytes.length], [1, 60]);
  }
});
