// Registers written at random on every bus, and shared memory scribbled over under a driver: nothing throws, nothing hangs.
import { assert, assertEquals } from "@std/assert";
import { DRIVER_FEATURES } from "../../../drivers/virtio/net_driver_options.ts";
import type { RegisterFile } from "../../../drivers/virtio/register_file.ts";
import { VirtioError } from "../../../drivers/virtio/transport.ts";
import { Keep, segment } from "../frames.ts";
import { BASE, bits, BUSES, type Machine, machine, MEMORY_BYTES } from "./machine.ts";

function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

function udp() {
  return segment({ link: 14, proto: 17, source: [10, 0, 2, 2], destination: [10, 0, 2, 15], ports: [1, 2], size: 100 }, false);
}

/** Begins anew with a driver, so that there is something to spoil. */
function restart(m: Machine, random: (below: number) => number): void {
  m.pci?.config.write(4, 2, 7);
  try {
    m.start({
      queueSize: 1 << (1 + random(6)),
      want: random(2) === 0 ? DRIVER_FEATURES : DRIVER_FEATURES & ~bits("RING_PACKED"),
    });
  } catch (error) {
    // What was written at random may have left it unusable: masked vectors, a window elsewhere.
    if (!(error instanceof VirtioError)) throw error;
  }
}

Deno.test("D2.16 registers at random, on every bus", () => {
  for (const bus of BUSES) {
    using m = machine(bus, { pairs: 3 }, {}, { kind: "transitional" });
    const random = generator(bus.length * 7919);
    m.device.open(() => {});
    const files = (m.registers !== null ? [m.registers] : [
      m.pci!.config,
      ...[0, 1, 4].map((i) => m.pci!.bar(i)!),
    ]) as RegisterFile[];
    m.pci?.config.write(4, 2, 7);
    const frame = udp();
    const keep = new Keep();
    for (let i = 0; i < 60_000; i++) {
      if (i % 500 === 0) restart(m, random);
      const file = files[random(files.length)];
      const size = [1, 2, 4][random(3)];
      const page = m.registers === null ? random(5) * 0x1000 : 0;
      const offset = page + (random(3) === 0 ? random(0x1000) : random(0x48) * (random(2) === 0 ? 4 : 1));
      const value =
        [random(2 ** 32), random(16), BASE + random(MEMORY_BYTES) & ~15, 0xffff_ffff, 1 << random(31), 15, 0][random(7)];
      // Config space has the switches that would end the fun.
      if (file !== m.pci?.config || random(50) === 0) file.write(offset, size, value);
      const back = file.read(offset, size);
      assert(Number.isInteger(back) && back >= 0 && back < 2 ** 32, `${bus} ${offset.toString(16)}: ${back}`);
      if (random(10) === 0) {
        m.device.transmit(frame);
        m.device.flush();
        m.device.receive(keep, 4);
        m.device.arm();
      }
      if (random(1000) === 0) m.device.setLink(random(2) === 0);
    }
    const { badAccesses, resets, faults } = m.device.statistics();
    assert(
      badAccesses > 1000 && resets > 100,
      `${bus}: ${badAccesses} bad accesses, ${resets} resets, ${faults} faults`,
    );
  }
});

Deno.test("D2.16 memory scribbled over: device and driver both find out, and both can begin anew", () => {
  const split = DRIVER_FEATURES & ~bits("RING_PACKED", "IN_ORDER");
  const kinds = [split, split & ~bits("NET_MRG_RXBUF"), split | bits("IN_ORDER"), split | bits("RING_PACKED"), DRIVER_FEATURES];
  kinds.forEach((want, kind) => {
    using m = machine("mmio", { queueSize: 8 });
    const driver = m.start({ want });
    const random = generator(kind + 77);
    m.device.open(() => {});
    driver.open(() => {});
    const keep = new Keep();
    let faults = 0;
    for (let round = 0; round < 3000; round++) {
      const queue = m.device.queueRegisters(random(2))!;
      const part = [queue.descriptors, queue.driver, queue.device][random(3)] - BASE;
      if (random(3) === 0) m.bytes[part + random(140)] = random(256);
      // A header, wherever it may be.
      if (random(5) === 0) m.bytes[queue.device - BASE + random(40_000)] = random(256);
      const frame = udp();
      m.device.transmit(frame);
      driver.transmit(frame);
      m.device.flush();
      driver.flush();
      m.device.receive(keep, 16);
      driver.receive(keep, 16);
      m.device.arm();
      driver.arm();
      if (m.device.fault !== null || driver.fault !== null) {
        faults++;
        driver.restart();
        assertEquals([m.device.fault, driver.fault], [null, null]);
      }
    }
    for (const { bytes } of keep.frames) assert(bytes.length >= 14 && bytes.length <= 65_557);
    assert(faults > 20 && keep.frames.length > 200, `${faults} faults, ${keep.frames.length} frames`);
  });
});
