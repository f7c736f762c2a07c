/** Rules of virtqueues one by one: when to notify, batches in order, memory beyond 4 GiB, addresses beyond 2^53. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Chain } from "../../../drivers/virtio/chain.ts";
import { Region, SharedMemory } from "../../../drivers/virtio/memory.ts";
import { EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE } from "../../../drivers/virtio/packed_device.ts";
import { Area, needEvent } from "../../../drivers/virtio/queue.ts";
import { rxSegmentSize, VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_TCPV4 } from "../../../drivers/virtio_header.ts";
import { BASE, numbers, Rig } from "./ring_rig.ts";

Deno.test("virtio rings: needEvent is true if and only if the event was passed, as walking from index to index says", () => {
  for (const old of [0, 1, 5, 0x7fff, 0xfff0, 0xffff]) {
    for (const steps of [1, 2, 3, 17, 300]) {
      const passed = new Set(Array.from({ length: steps }, (_, i) => (old + i) & 0xffff));
      for (let near = -310; near < 310; near++) {
        const event = (old + near) & 0xffff;
        assertEquals(needEvent(event, (old + steps) & 0xffff, old), passed.has(event), `${event} ${old} ${steps}`);
      }
    }
  }
});

/**
 * Plays rounds in a small packed ring, with every place and wrap counter as the event: `run(n)` moves on by `n` places and
 * tells whether there was a notification; `suppress` puts the event in place.
 */
function everyEvent(size: number, run: (n: number) => boolean, suppress: (event: number, flags: number) => void): void {
  const random = numbers(size);
  let at = 0;
  let wrap = true;
  for (let round = 0; round < 3000; round++) {
    const n = random(size) + 1;
    const event = random(size);
    const eventWrap = random(2) === 0;
    const flags = [EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC, EVENT_DESC, EVENT_DESC][random(5)];
    suppress(event | (eventWrap ? 0x8000 : 0), flags);
    let passed = flags === EVENT_ENABLE;
    const [from, fromWrap] = [at, wrap];
    for (let i = 0; i < n; i++) {
      if (flags === EVENT_DESC && at === event && wrap === eventWrap) passed = true;
      if (++at === size) [at, wrap] = [0, !wrap];
    }
    // A whole round ends where an event that lies one round ahead looks the same.
    const ambiguous = n === size && flags === EVENT_DESC && event === at && eventWrap === wrap;
    const told = run(n);
    if (!ambiguous) assertEquals(told, passed, `${n} places from ${from}/${fromWrap} of ${size}, event ${event}/${eventWrap}`);
  }
}

for (const size of [1, 2, 3, 5, 8, 17]) {
  Deno.test(`virtio rings: packed, size ${size}: interrupts and kicks at every event there is`, () => {
    const chain = new Chain();
    for (const side of ["driver", "device"] as const) {
      const rig = new Rig({ packed: true, size, eventIndex: true });
      const { driver, device, view, at } = rig;
      const run = (n: number) => {
        for (let i = 0; i < n; i++) assert(driver.add([BASE + at.buffers], [16], 0, 1) >= 0);
        const kick = driver.publish();
        for (let i = 0; i < n; i++) {
          assertEquals(device.take(chain), 1);
          device.give(chain.id, chain.descriptors, 1);
        }
        const interrupt = device.publish();
        for (let i = 0; i < n; i++) assert(driver.collect() >= 0);
        return side === "driver" ? kick : interrupt;
      };
      everyEvent(size, run, (event, flags) => {
        const area = side === "driver" ? at.device : at.driver;
        view.setUint16(area, event, true);
        view.setUint16(area + 2, flags, true);
      });
    }
  });
}

Deno.test("virtio rings: a split queue without event index obeys the flags", () => {
  const { driver, device, at } = new Rig({ packed: false, size: 4 });
  const chain = new Chain();
  for (const on of [true, false, false, true]) {
    device.wantKicks(on);
    driver.wantInterrupts(!on);
    driver.add([BASE + at.buffers], [16], 0, 1);
    assertEquals([driver.publish(), driver.publish()], [on, false]);
    assertEquals(device.take(chain), 1);
    device.give(chain.id, 1, 0);
    assertEquals([device.publish(), device.publish()], [!on, false]);
    driver.collect();
  }
});

/** A device that works in order, and writes one used entry for a batch of `count` chains of one descriptor. */
function useBatch(rig: Rig, from: number, count: number, written: number, told = count): void {
  const { view, at, options } = rig;
  const id = (from + count - 1) % options.size;
  if (!options.packed) {
    view.setUint32(at.device + 4 + 8 * (from % options.size), id, true);
    view.setUint32(at.device + 8 + 8 * (from % options.size), written, true);
    view.setUint16(at.device + 2, from + told, true);
    return;
  }
  const place = 16 * (from % options.size);
  view.setUint32(place + 8, written, true);
  view.setUint16(place + 12, id, true);
  view.setUint16(place + 14, (Math.floor(from / options.size) % 2 === 0 ? 0x8080 : 0) | 2, true);
}

for (const packed of [false, true]) {
  Deno.test(`virtio rings: ${packed ? "packed" : "split"}: one used entry for a batch in order, collected in parts`, () => {
    const rig = new Rig({ packed, size: 8, inOrder: true });
    const { driver, at } = rig;
    let done = 0;
    for (const count of [8, 1, 5, 3, 7, 8, 2, 6]) {
      for (let i = 0; i < count; i++) assert(driver.add([BASE + at.buffers], [20], 0, 1) >= 0);
      driver.publish();
      assertEquals([driver.collect(), driver.wantInterrupts(true)], [-1, false]);
      useBatch(rig, done, count, 7);
      for (let i = 0; i < count; i++) {
        // Whoever stops in the middle and goes to sleep would never hear of the rest.
        assertEquals(driver.wantInterrupts(true), true, `${i} of ${count}`);
        assertEquals([driver.collect(), driver.written], [done++ % 8, i === count - 1 ? 7 : 20]);
      }
      assertEquals([driver.collect(), driver.wantInterrupts(true), driver.free], [-1, false, 8]);
    }
  });
}

Deno.test("virtio rings: split: a batch that goes beyond the used index breaks the ring", () => {
  const rig = new Rig({ packed: false, size: 8, inOrder: true });
  const { driver, at } = rig;
  for (let i = 0; i < 8; i++) driver.add([BASE + at.buffers], [20], 0, 1);
  driver.publish();
  useBatch(rig, 0, 5, 7, 2);
  assertEquals([driver.collect(), driver.collect(), driver.collect()], [0, 1, -2]);
  assertEquals(driver.broken, "a batch of more chains than the used index tells");
});

for (const packed of [false, true]) {
  Deno.test(`virtio rings: ${packed ? "packed" : "split"}: no chain is longer than the queue, and a broken ring has nothing`, () => {
    const { driver, device, at, view } = new Rig({ packed, size: 2, indirect: true });
    const address = BASE + at.buffers;
    assertEquals(driver.add([address, address, address], [1, 1, 1], 0, 3), -1);
    assert(driver.add([address, address], [1, 1], 0, 2) >= 0);
    assertEquals(driver.free, 1);
    driver.publish();
    assertEquals(device.wantKicks(true), true);
    view.setUint32(8, 0, true);
    assertEquals([device.take(new Chain()), device.wantKicks(true)], [-1, false]);
    // The device says that it has used what it never had.
    if (packed) {
      view.setUint16(12, 77, true);
      view.setUint16(14, 0x8080, true);
    } else {
      view.setUint32(at.device + 4, 77, true);
      view.setUint16(at.device + 2, 1, true);
    }
    assertEquals(driver.wantInterrupts(true), true);
    assertEquals([driver.collect(), driver.wantInterrupts(true)], [-2, false]);
  });
}

Deno.test("virtio rings: indexes and flags are found in regions of more than 4 GiB", () => {
  const size = 2 ** 32 + 4096;
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(size);
  } catch {
    // A machine that has no such memory has no such guests either.
    return;
  }
  const memory = SharedMemory.of(bytes, 2 ** 32);
  const area = Area.resolve(memory, 2 ** 33, 64, 16, "ring");
  area.store(2, 0x1234);
  assertEquals([area.load(2), bytes[2 ** 32 + 2], bytes[2], area.view.getUint16(area.offset + 2, true)], [
    0x1234,
    0x34,
    0,
    0x1234,
  ]);
});

Deno.test("virtio memory: no region where addresses are rounded", () => {
  const bytes = new Uint8Array(4096);
  for (const base of [2 ** 53 - 4096, 2 ** 53, 2 ** 60, 2 ** 64]) {
    assertThrows(() => new Region(bytes, base), RangeError, "2^53");
    assertThrows(() => new Region(bytes, 0, base), RangeError, "2^53");
  }
  const memory = SharedMemory.of(bytes, 2 ** 53 - 4097);
  assert(memory.find(2 ** 53 - 4097, 4096) !== null);
  for (const address of [2 ** 53 - 4096, 2 ** 53, 2 ** 64 - 1]) assertEquals(memory.find(address, 4096), null);
  assertEquals(memory.find(2 ** 53 - 4097, 0xffff_ffff), null);
});

Deno.test("virtio header: the ECN mark without a kind of segments asks for none", () => {
  const view = new DataView(new ArrayBuffer(10));
  view.setUint16(4, 1000, true);
  for (const [kind, wanted] of [[0, 0], [VIRTIO_NET_HDR_GSO_ECN, 0], [VIRTIO_NET_HDR_GSO_TCPV4, 1000], [0x81, 1000]]) {
    view.setUint8(1, kind);
    assertEquals(rxSegmentSize(view, 0), wanted);
  }
});
