// Two hosts, one over the device and one over the driver, through every bus and ring: ping, and a megabyte each way.
import { assert, assertEquals } from "@std/assert";
import { DRIVER_FEATURES } from "../../../drivers/virtio/net_driver_options.ts";
import { NetStack } from "../../../mod.ts";
import { bits, BUSES, machine } from "./machine.ts";

const SIZE = 1 << 20;

async function transfer(from: NetStack, to: NetStack, address: string, port: number): Promise<void> {
  using listener = to.listen({ port });
  const [sink, source] = await Promise.all([listener.accept(), from.connect({ hostname: address, port })]);
  const data = new Uint8Array(SIZE);
  for (let at = 0; at < SIZE; at += 65_536) crypto.getRandomValues(data.subarray(at, at + 65_536));
  const writing = (async () => {
    for (let at = 0; at < data.length;) at += await source.write(data.subarray(at));
    source.close();
  })();
  const got = new Uint8Array(SIZE);
  let total = 0;
  const buffer = new Uint8Array(100_000);
  for (let count = await sink.read(buffer); count !== null; count = await sink.read(buffer)) {
    got.set(buffer.subarray(0, count), total);
    total += count;
  }
  await writing;
  sink.close();
  assertEquals(total, SIZE);
  assert(data.every((byte, i) => byte === got[i]), "other bytes arrived");
}

const RINGS = {
  split: DRIVER_FEATURES & ~bits("RING_PACKED", "IN_ORDER"),
  "split, in order": DRIVER_FEATURES & ~bits("RING_PACKED"),
  "split, plain": bits("VERSION_1", "NET_MAC", "NET_MTU"),
  "split, no merging": DRIVER_FEATURES & ~bits("RING_PACKED", "NET_MRG_RXBUF", "RING_EVENT_IDX"),
  "split, cut by the device": DRIVER_FEATURES & ~bits("RING_PACKED", "NET_GUEST_TSO4", "RING_INDIRECT_DESC"),
  packed: DRIVER_FEATURES & ~bits("IN_ORDER"),
  "packed, in order": DRIVER_FEATURES,
  "packed, plain": bits("VERSION_1", "NET_MAC", "NET_MTU", "RING_PACKED"),
};

for (const bus of BUSES) {
  for (const [name, want] of Object.entries(RINGS)) {
    if (bus.includes("legacy") && name.includes("packed")) continue;
    Deno.test(`D2.14 a stack over the driver, one over the device: ${bus}, ${name}`, async () => {
      using m = machine(bus);
      const driver = m.start({ want });
      {
        await using host = new NetStack(m.device, { address: "10.0.2.2/24" });
        await using guest = new NetStack(driver, { address: "10.0.2.15/24" });
        assert(driver.agreedFeatures.includes("RING_PACKED") === name.includes("packed"));
        const reply = await guest.ping("10.0.2.2", { timeoutMs: 2000 });
        assertEquals([reply.address, reply.size], ["10.0.2.2", 56]);
        await host.ping("10.0.2.15", { timeoutMs: 2000 });
        await transfer(guest, host, "10.0.2.2", 7);
        await transfer(host, guest, "10.0.2.15", 8);
        assertEquals(host.statistics.stack.faults + guest.statistics.stack.faults, 0);
      }
      assertEquals([m.device.fault, driver.fault], [null, null]);
      const { rxBadHeader, rxSegmented, txSegmented, rxTooLong, txTooLong } = m.device.statistics();
      assertEquals([rxBadHeader, rxTooLong, txTooLong], [0, 0, 0]);
      assertEquals(driver.statistics().rxBadHeader + driver.statistics().rxUnusable, 0);
      // A segment of 64 KiB stays one, where that was agreed on.
      const segments = (want & bits("NET_HOST_TSO4")) !== 0n;
      assertEquals([rxSegmented > 0, txSegmented > 0], [segments, segments && name !== "split, cut by the device"]);
    });
  }
}
