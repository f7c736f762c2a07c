// Data paths leave next to no garbage: netkit with and without programs, a class in the process, the loopback.
import { assert } from "@std/assert";
import { LoopbackDevice } from "../../../drivers/loopback/loopback.ts";
import { NetDevice } from "../../../drivers/netdev/net_device.ts";
import { NetDevices } from "../../../drivers/netdev/registry.ts";
import { DeviceTable } from "../../../drivers/netdev/table.ts";
import { attachNetkit } from "../../../drivers/netkit/netkit.ts";
import * as nk from "../../../drivers/netkit/options.ts";
import type { Device, TxFrame } from "../../../stack/device.ts";
import { HeapGrowth } from "../../testing/heap_growth.ts";
import { frameOf, kit } from "./rig.ts";

/** Bytes of garbage a frame: small frames are copied by loops, longer ones by a view that the house allows. */
async function garbage(from: Device, to: Device, tx: TxFrame): Promise<number> {
  const sink = { frame: () => {} };
  const growth = new HeapGrowth();
  for (let round = 0; round < 1000; round++) {
    if (round === 800) growth.begin();
    for (let i = 0; i < 200; i++) from.transmit(tx);
    await Promise.resolve();
    const got = to.receive(sink, 1000);
    assert(got === 200, `${got}`);
    if (round >= 800) growth.look(200);
  }
  return growth.perCount;
}

for (const programs of [0, 3]) {
  Deno.test(`no allocation per frame: netkit with ${programs} programs`, async () => {
    const { primary, peer } = kit({ mode: nk.NETKIT_L2 });
    primary.setUp(true);
    peer!.open(() => {});
    let sum = 0;
    for (let i = 0; i < programs; i++) {
      attachNetkit(primary, (frame) => {
        sum += frame.memory.bytes[frame.offset];
        return nk.NETKIT_NEXT;
      });
    }
    const bytes = await garbage(primary, peer!, frameOf(40));
    assert(bytes < 8, `${bytes} bytes of garbage a frame`);
  });
}

Deno.test("no allocation per frame: a class in the process, and the loopback", async () => {
  const devices = new NetDevices({ backing: "process", table: new DeviceTable() });
  class Back extends NetDevice {
    override startXmit(frame: Parameters<NonNullable<NetDevice["startXmit"]>>[0]) {
      this.handle.netifRx(frame);
    }
  }
  for (const kind of [Back, LoopbackDevice]) {
    const handle = await devices.register(kind.name.toLowerCase(), kind).ready;
    handle.open(() => {});
    const bytes = await garbage(handle, handle, frameOf(40));
    assert(bytes < 8, `${kind.name}: ${bytes} bytes of garbage a frame`);
  }
  await devices.close();
});
