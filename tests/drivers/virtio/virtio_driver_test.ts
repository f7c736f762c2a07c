// The driver's side of section D2, row by row: how it finds a device, agrees with it, and lays out its buffers.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { featureNames } from "../../../drivers/virtio/features.ts";
import { MmioTransport } from "../../../drivers/virtio/mmio_transport.ts";
import { type NetDriverOptions, PLAIN_FEATURES } from "../../../drivers/virtio/net_driver_options.ts";
import { MMIO, type RegisterFile } from "../../../drivers/virtio/register_file.ts";
import { VirtioError, type VirtioErrorCode, type VirtioTransport } from "../../../drivers/virtio/transport.ts";
import { codes } from "../../../mod.ts";
import { Keep, segment } from "../frames.ts";
import { bits, type Bus, BUSES, machine } from "./machine.ts";

/** Registers in which some reads give another answer. */
function lying(registers: RegisterFile, answers: Record<number, number>): RegisterFile {
  return {
    read: (offset, size) => answers[offset] ?? registers.read(offset, size),
    write: (offset, size, value) => registers.write(offset, size, value),
  };
}

function throwsVirtio(code: VirtioErrorCode, message: string, run: () => unknown): void {
  const error = assertThrows(run, VirtioError, message);
  assertEquals(error.code, code);
}

/** A frame as a host would send it: broadcast UDP. */
function udp(size: number) {
  return segment({ link: 14, proto: 17, source: [10, 0, 2, 2], destination: [10, 0, 2, 15], ports: [1, 2], size }, false);
}

Deno.test("D2.1 a device that isn't a network device is incompatible, and isn't touched", () => {
  for (const id of [0, 2, 16]) {
    const written: number[] = [];
    using m = machine("mmio", {}, {
      registers: (registers) => ({
        read: (offset, size) => offset === MMIO.DEVICE_ID ? id : registers.read(offset, size),
        write: (offset) => written.push(offset),
      }),
    });
    throwsVirtio("INCOMPATIBLE_DEVICE_ID", "incompatible device ID", () => m.start());
    assertEquals(written, []);
  }
});

Deno.test("D2.2 features: what both sides offer, and VERSION_1; or all masked away", () => {
  assertEquals(featureNames(PLAIN_FEATURES), ["NET_CSUM", "NET_MTU", "NET_MAC", "NET_STATUS", "NET_SPEED_DUPLEX"]);
  assertEquals(PLAIN_FEATURES, 1n | 1n << 3n | 1n << 5n | 1n << 16n | 1n << 63n);
  const agreed = (bus: Bus, options: Partial<NetDriverOptions>, withhold = 0n) => {
    using m = machine(bus, { withhold });
    const driver = m.start(options);
    assertEquals(driver.agreedFeatures, m.device.agreedFeatures);
    return driver.agreedFeatures;
  };
  const plain = { want: PLAIN_FEATURES };
  assertEquals(agreed("mmio", plain), ["NET_CSUM", "NET_MTU", "NET_MAC", "NET_STATUS", "VERSION_1", "NET_SPEED_DUPLEX"]);
  assertEquals(agreed("pci", plain, bits("NET_MTU", "NET_CSUM")), ["NET_MAC", "NET_STATUS", "VERSION_1", "NET_SPEED_DUPLEX"]);
  assertEquals(agreed("pci-legacy", plain), ["NET_CSUM", "NET_MTU", "NET_MAC", "NET_STATUS"]);
  for (const bus of BUSES) {
    assertEquals(agreed(bus, { compatibility: "maskAll" }), bus.includes("legacy") ? [] : ["VERSION_1"]);
  }
  // What nobody here knows is never asked for, and what depends on something refused isn't either.
  assertEquals(agreed("mmio", { want: ~bits("NET_GUEST_CSUM") }).some((name) => /bit|GUEST_TSO|GUEST_ECN/.test(name)), false);
});

Deno.test("D2.2 without any feature there are frames all the same, with checksums and of one segment", () => {
  using m = machine("mmio");
  const driver = m.start({ compatibility: "maskAll" });
  assertEquals(driver.capabilities, {
    rxChecksum: false,
    txChecksum: false,
    txSegmentation: 0,
    rxFrame: 1522,
    rxQueueFrames: 256,
  });
  assertEquals(driver.mac, m.device.guestMac, "the address is there to be read");
  const tcp = segment(
    { link: 14, proto: 6, source: [10, 0, 2, 2], destination: [10, 0, 2, 15], ports: [1, 2], size: 3000 },
    true,
  );
  tcp.segmentSize = 1000;
  tcp.segmentHeaderLength = 54;
  assertEquals(m.device.transmit(tcp), 0);
  m.device.flush();
  const keep = new Keep();
  driver.receive(keep, 10);
  assertEquals(
    keep.frames.map(({ bytes, flags, segmentSize }) => [bytes.length, flags, segmentSize]),
    Array(3).fill([1054, 0, 0]),
  );
});

/** Every value that a driver writes to the status register, and where features and queues come in between. */
function recorder(log: string[]): (transport: VirtioTransport) => VirtioTransport {
  return (transport) =>
    new Proxy(transport, {
      get(target, key) {
        const value = Reflect.get(target, key, target);
        if (typeof value !== "function") return value;
        if (key === "chooseFeatures" || key === "setUpQueue" || key === "notify") log.push(String(key));
        return value.bind(target);
      },
      set(target, key, value) {
        log.push(`${String(key)} ${value}`);
        return Reflect.set(target, key, value, target);
      },
    });
}

Deno.test("D2.3 status: 0, ACKNOWLEDGE, DRIVER, features, FEATURES_OK, queues, DRIVER_OK; legacy without FEATURES_OK", () => {
  for (const bus of BUSES) {
    const log: string[] = [];
    using m = machine(bus, {}, { transport: recorder(log) });
    m.start({ want: PLAIN_FEATURES });
    const legacy = bus.includes("legacy");
    assertEquals(log, [
      "status 0",
      "status 1",
      "status 3",
      "chooseFeatures",
      ...(legacy ? [] : ["status 11"]),
      "setUpQueue",
      "setUpQueue",
      legacy ? "status 7" : "status 15",
    ]);
    m.driver.tx(new Uint8Array(60));
    assertEquals(log.at(-1), "notify", "nothing is notified before DRIVER_OK");
    assertEquals(m.device.status, legacy ? 7 : 15);
  }
});

Deno.test("D2.3 FEATURES_OK that doesn't stay is an error, and the device is told that the driver has failed", () => {
  // A driver that leaves out what another feature needs.
  using m = machine("mmio", {}, {
    transport: (transport) => {
      const choose = transport.chooseFeatures.bind(transport);
      transport.chooseFeatures = (features) => choose(features & ~bits("NET_GUEST_CSUM"));
      return transport;
    },
  });
  throwsVirtio("FEATURES_REFUSED", "the device refuses these features", () => m.start());
  assertEquals(m.device.status, 128 | 3);
  assertEquals(m.device.refusal, "NET_GUEST_TSO4 without NET_GUEST_CSUM");
  assertEquals(m.device.statistics().featuresRefused, 1);
});

Deno.test("D2.3 a device that never ends its reset is given up", () => {
  using m = machine("mmio", {}, { registers: (registers) => lying(registers, { [MMIO.STATUS]: 1 }) });
  throwsVirtio("NO_RESET", "reset", () => m.start());
});

Deno.test("D2.4 MMIO: magic, versions, ConfigGeneration, InterruptStatus bits 0 and 1", () => {
  const { device, registers } = machine("mmio");
  const magic = registers!.read(MMIO.MAGIC, 4);
  assertEquals(magic, 0x74726976);
  assertEquals(String.fromCharCode(...[0, 8, 16, 24].map((shift) => magic >>> shift & 255)), "virt");
  assertEquals(registers!.read(MMIO.VERSION, 4), 2);
  throwsVirtio("NOT_VIRTIO", "magic value 0x0", () => new MmioTransport(lying(registers!, { [MMIO.MAGIC]: 0 })));
  for (const version of [0, 3]) {
    throwsVirtio(
      "UNSUPPORTED_VERSION",
      `version ${version}`,
      () => new MmioTransport(lying(registers!, { [MMIO.VERSION]: version })),
    );
  }
  const old = machine("mmio-legacy");
  assertEquals(old.registers!.read(MMIO.VERSION, 4), 1);
  assertEquals(new MmioTransport(old.registers!).legacy, true);
  throwsVirtio("UNSUPPORTED_VERSION", "version 1", () => new MmioTransport(old.registers!, { legacy: false }));
  for (const one of [device, old.device]) one.close();

  using m = machine("mmio");
  const driver = m.start({ want: PLAIN_FEATURES });
  driver.arm();
  const [before, read] = [m.registers!.read(MMIO.CONFIG_GENERATION, 4), m.registers!.read.bind(m.registers!)];
  m.device.setLink(false);
  assertEquals(read(MMIO.CONFIG_GENERATION, 4), before + 1);
  assertEquals([driver.linkUp, driver.statistics().configChanges, driver.transmit(udp(100))], [false, 1, codes.ENETDOWN]);
  assertEquals(read(MMIO.INTERRUPT_STATUS, 4), 0, "acknowledged");
  m.device.setLink(true);
  assertEquals([driver.linkUp, driver.statistics().configChanges], [true, 2]);
  // Without anybody who acknowledges, the bits stay: used buffers are bit 0, the configuration bit 1.
  driver.arm();
  driver.interrupt = () => {};
  m.device.transmit(udp(100));
  m.device.flush();
  assertEquals(read(MMIO.INTERRUPT_STATUS, 4), 1);
  m.device.setLink(false);
  assertEquals(read(MMIO.INTERRUPT_STATUS, 4), 3);
  m.registers!.write(MMIO.INTERRUPT_ACK, 4, 1);
  assertEquals(read(MMIO.INTERRUPT_STATUS, 4), 2);
  m.registers!.write(MMIO.INTERRUPT_ACK, 4, 2);
  assertEquals(read(MMIO.INTERRUPT_STATUS, 4), 0);
});

Deno.test("D2.4 a configuration that changes while it is read is read again", () => {
  let reads = 0;
  using m = machine("mmio", { guestMac: "02:00:00:00:00:99" }, {
    registers: (registers) => ({
      read: (offset, size) => {
        // The generation moves once, behind the first reading, which was half of this and half of that.
        if (offset === MMIO.CONFIG_GENERATION) return reads++ < 1 ? 7 : 8;
        return offset === MMIO.CONFIG && reads === 1 ? 0xff : registers.read(offset, size);
      },
      write: (offset, size, value) => registers.write(offset, size, value),
    }),
  });
  assertEquals([...m.start().mac], [2, 0, 0, 0, 0, 0x99]);
  assertEquals(reads, 4);
});

Deno.test("D2.7 a device whose MTU is below ours is incompatible, where the MTU was agreed on", () => {
  for (const bus of BUSES) {
    using m = machine(bus, { mtu: 1400 });
    throwsVirtio("INCOMPATIBLE_MTU", "incompatible MTU", () => m.start({ mtu: 1500 }));
    assertEquals(m.device.status & 128, 128);
    assertEquals(m.start({ mtu: 1400 }).mtu, 1400);
    m.driver.close();
    assertEquals(m.start({ mtu: 1500, want: 0n }).mtu, 1500, "nothing was agreed on");
  }
});

Deno.test("D2.8 queues that are in use already, or aren't there, are unavailable", () => {
  for (const bus of BUSES) {
    for (const key of ["queueReady", "queueSizeMax"] as const) {
      using m = machine(bus, {}, {
        transport: (transport) => {
          const real = transport[key].bind(transport);
          // deno-lint-ignore no-explicit-any
          (transport as any)[key] = (index: number) => index === 1 ? key === "queueReady" : real(index);
          return transport;
        },
      });
      if (key === "queueSizeMax") Object.assign(m.transport, { queueSizeMax: () => 0 });
      throwsVirtio("QUEUES_UNAVAILABLE", "queues unavailable", () => m.start());
      assertEquals(m.device.status & 128, 128);
    }
    // The registers themselves say so too.
    using m = machine(bus);
    m.start();
    assertEquals([m.transport.queueReady(0), m.transport.queueReady(1), m.transport.queueReady(9)], [true, true, false]);
    assertEquals(m.transport.queueSizeMax(9), 0);
    m.transport.status = 0;
    assertEquals(m.transport.queueReady(0), false);
  }
});

Deno.test("D2.9 headerLength: 12, or 10 for legacy devices without merging; another one in size, strip and prefix", () => {
  const plain = PLAIN_FEATURES;
  const merging = plain | bits("NET_MRG_RXBUF");
  for (
    const [bus, options, length] of [
      ["mmio", { want: plain }, 12],
      ["mmio", { want: plain, headerLength: 0 }, 12],
      ["pci-legacy", { want: merging }, 12],
      ["pci-legacy", { want: plain }, 10],
      ["mmio-legacy", { want: plain }, 10],
      ["mmio", { want: merging, headerLength: 10 }, 10],
      ["pci", { want: plain, headerLength: 20 }, 20],
    ] as const
  ) {
    using m = machine(bus);
    const driver = m.start(options);
    assertEquals(driver.headerLength, length);
    const merges = driver.agreedFeatures.includes("NET_MRG_RXBUF");
    assertEquals(merges, length === 12 && options.want === merging);
    assertEquals(driver.receiveBuffers, { size: merges ? 4096 : length + 1522, count: bus.includes("legacy") ? 128 : 256 });
    // The device has its own idea of the header, of 12 bytes or 10: what is longer or shorter is the frame's.
    const device = bus.includes("legacy") && !merges ? 10 : 12;
    const keep = new Keep();
    assertEquals([m.device.transmit(udp(100)), m.device.flush()], [0, undefined]);
    assertEquals(driver.receive(keep, 10), 1);
    assertEquals(keep.frames[0].bytes.length, 142 + device - length, "stripped");
    assertEquals([driver.tx(new Uint8Array(100).fill(1)), m.device.receive(keep, 10)], [0, 1]);
    assertEquals(keep.frames[1].bytes.length, 100 + length - device, "put in front");
    assertEquals(keep.frames[1].bytes.subarray(-100), new Uint8Array(100).fill(1).subarray(0, keep.frames[1].bytes.length));
  }
  using m = machine("mmio");
  for (const headerLength of [-1, 9, 129, 12.5, NaN]) assertThrows(() => m.start({ headerLength }), RangeError, "headerLength");
  assertEquals(m.device.statistics().resets, 0, "nothing was touched");
});

Deno.test("D2.10 all receive buffers are posted at start, and used again; too small a buffer; a frame shorter than its header", () => {
  for (const bus of BUSES) {
    using m = machine(bus, { queueSize: 8 });
    const driver = m.start({ want: PLAIN_FEATURES });
    // A legacy device without ANY_LAYOUT needs two descriptors for a buffer.
    const count = bus.includes("legacy") ? 4 : 8;
    assertEquals(driver.receiveBuffers.count, count);
    for (let i = 0; i < count; i++) assertEquals(m.device.transmit(udp(100 + i)), 0);
    assertEquals(m.device.transmit(udp(1)), codes.EAGAIN);
    m.device.flush();
    const buffer = new Uint8Array(1600);
    for (let i = 0; i < count; i++) {
      const error = assertThrows(() => driver.rx(new Uint8Array(141 + i)), RangeError, "buffer too small");
      assert(error.message.includes(String(142 + i)));
      assertEquals(driver.rx(buffer), 142 + i, "it has waited");
    }
    assertEquals(driver.rx(buffer), 0);
    for (let round = 0; round < 100; round++) {
      assertEquals(m.device.transmit(udp(round)), 0);
      m.device.flush();
      assertEquals(driver.rx(buffer), 42 + round);
    }
  }
});

Deno.test("D2.10 a frame shorter than the header gives 0, and its buffer goes back", () => {
  using m = machine("mmio", { queueSize: 4 });
  // The device's header has 12 bytes and its frames 14 at least: only a longer header makes them too short.
  const driver = m.start({ want: PLAIN_FEATURES, headerLength: 128 });
  for (let round = 0; round < 20; round++) {
    assertEquals(m.device.transmit(udp(0)), 0);
    m.device.flush();
    assertEquals(driver.rx(new Uint8Array(1600)), 0);
  }
  assertEquals(driver.statistics().rxUnusable, 20);
});
