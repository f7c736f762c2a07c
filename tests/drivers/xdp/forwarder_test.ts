/** D3.11 to D3.13: the forwarder's map, its errors, and which interface is the router's. Interfaces that come and go. */
import { assert, assertEquals, assertInstanceOf, assertStringIncludes, assertThrows } from "@std/assert";
import { cable, type CableEnd } from "../../../drivers/cable.ts";
import { PacketDevice } from "../../../drivers/packets.ts";
import { type InterfaceOptions, isRouterMac, type PromiscuousDevice, XdpForwarder } from "../../../drivers/xdp/forwarder.ts";
import { thrown } from "../../ffi/kernel.ts";
import { tagged } from "./run.ts";

/** A device whose frames are put in and taken out by hand. */
function device(name: string): PacketDevice {
  return new PacketDevice({ name, medium: "ethernet" });
}

const frame = tagged([]);

Deno.test("D3.11 router_iface is there with the first interface, outlives the physical ones, and goes with the last", () => {
  using forwarder = new XdpForwarder();
  assertEquals(forwarder.routerIface, null);
  const physical = device("eth0");
  forwarder.add(physical, { role: "physical", ifindex: 3 });
  const map = forwarder.routerIface!;
  assertEquals([map.spec.kind, map.spec.maxEntries], ["devmap", 1]);
  const router = device("router0");
  forwarder.add(router, { role: "router", ifindex: 8 });
  // Without an entry frames are dropped, not aborted.
  physical.inject(frame);
  forwarder.engine.poll();
  assertEquals(forwarder.engine.port("eth0")!.actions[1], 1);
  forwarder.setRouterInterface("router0");
  forwarder.remove("eth0");
  assertEquals(forwarder.routerIface, map);
  assertEquals(map.ifindexAt(0), 8);
  // A physical interface that comes later finds the router without being told.
  const later = device("eth1");
  forwarder.add(later, { role: "physical", ifindex: 3 });
  later.inject(frame);
  forwarder.engine.poll();
  assertEquals(router.take().map((bytes) => [...bytes.subarray(12, 16)]), [[0x81, 0, 0, 3]]);
  forwarder.remove("eth1");
  forwarder.remove("router0");
  assertEquals(forwarder.routerIface, null);
});

Deno.test("D3.11 the map's entry goes with the router's interface: another one of its number isn't the router", () => {
  using forwarder = new XdpForwarder();
  const physical = device("eth0");
  forwarder.add(physical, { role: "physical", ifindex: 3 });
  forwarder.add(device("router0"), { role: "router", ifindex: 8 });
  forwarder.setRouterInterface("router0");
  forwarder.remove("router0");
  assertEquals(forwarder.routerIface!.ifindexAt(0), 0);
  const other = device("eth8");
  forwarder.add(other, { role: "physical", ifindex: 8 });
  physical.inject(frame);
  forwarder.engine.poll();
  assertEquals(other.take(), []);
  assertEquals(forwarder.statistics.programs.physical.DROP, 1);
});

Deno.test("D3.12 set-router-iface: no name, no map, no such interface, an update that fails", () => {
  using forwarder = new XdpForwarder();
  for (const name of ["", undefined, 3]) {
    assertThrows(() => forwarder.setRouterInterface(name as string), TypeError, "name is needed");
  }
  const noMap = thrown(() => forwarder.setRouterInterface("router0"));
  assertInstanceOf(noMap, Deno.errors.NotFound);
  assertEquals(noMap.code, "ENOENT");
  assertStringIncludes(noMap.message, 'Cannot open map "router_iface"');
  const port = forwarder.add(device("router0"), { role: "router" });
  const unknown = thrown(() => forwarder.setRouterInterface("router1"));
  assertInstanceOf(unknown, Deno.errors.NotFound);
  assertEquals(unknown.code, "ENODEV");
  assertStringIncludes(unknown.message, "router0");
  // An interface that vanishes between being found and being put into the map.
  forwarder.engine.interfaces.remove(port.ifindex);
  const failed = thrown(() => forwarder.setRouterInterface("router0"));
  assertInstanceOf(failed, Deno.errors.InvalidData);
  assertEquals(failed.code, "EINVAL");
  assertStringIncludes(failed.message, 'Cannot update map "router_iface" with interface "router0"');
  assertEquals(forwarder.routerIface!.ifindexAt(0), 0);
});

class Promiscuous extends PacketDevice implements PromiscuousDevice {
  calls: boolean[] = [];
  setPromiscuous(on: boolean): void {
    this.calls.push(on);
    if (this.name === "refuses") throw new Deno.errors.PermissionDenied("no");
  }
}

Deno.test("D3.13 an interface whose MAC address begins with 02:01 is the router's, and is made promiscuous", () => {
  using forwarder = new XdpForwarder();
  const add = (name: string, mac: number[], options: InterfaceOptions = {}) => {
    const device = new Promiscuous({ name, medium: "ethernet", mac: Uint8Array.from(mac) });
    forwarder.add(device, options);
    return [forwarder.role(name), device.calls];
  };
  assertEquals(add("a", [2, 1, 0, 0, 0, 1]), ["router", [true]]);
  assertEquals(add("b", [2, 0, 0, 0, 0, 1]), ["physical", []]);
  assertEquals(add("c", [0, 1, 2, 1, 0, 1]), ["physical", []]);
  // What the caller says counts more; and an address that the device doesn't show can be told.
  assertEquals(add("d", [2, 1, 0, 0, 0, 1], { role: "physical" }), ["physical", []]);
  assertEquals(add("e", [2, 0, 0, 0, 0, 1], { role: "router" }), ["router", [true]]);
  assertEquals(add("f", [2, 0, 0, 0, 0, 1], { mac: Uint8Array.of(2, 1, 9, 9, 9, 9) }), ["router", [true]]);
  assertEquals(isRouterMac(null), false);
  // A refusal leaves nothing behind.
  assertThrows(() => add("refuses", [2, 1, 0, 0, 0, 1]), Deno.errors.PermissionDenied);
  assertEquals(forwarder.engine.port("refuses"), undefined);
});

Deno.test("interfaces come and go under a running forwarder; one that is deleted is removed, and told about", async () => {
  const gone: string[] = [];
  const told = Promise.withResolvers<void>();
  using forwarder = new XdpForwarder({
    onGone: (port) => {
      gone.push(port.name);
      told.resolve();
    },
  });
  const ends: CableEnd[] = [];
  for (const [i, name] of ["eth0", "eth1", "router0"].entries()) {
    const [near, far] = cable({ name: [name, `far${i}`] });
    ends.push(near);
    far.open(() => {});
    forwarder.add(near, { ifindex: i + 1, role: name === "router0" ? "router" : "physical" });
  }
  forwarder.setRouterInterface("router0");
  assertThrows(() => forwarder.add(device("eth0")), Deno.errors.AlreadyExists);
  assertThrows(() => forwarder.add(device("eth9"), { ifindex: 2 }), Deno.errors.AlreadyExists);
  assertThrows(() => forwarder.add(new PacketDevice()), TypeError, "Ethernet is needed");
  assertThrows(() => forwarder.remove("eth9"), Deno.errors.NotFound);
  ends[2].remove();
  await told.promise;
  assertEquals(gone, ["router0"]);
  assertEquals(forwarder.engine.ports.map(({ name }) => name), ["eth0", "eth1"]);
  assertEquals(forwarder.routerIface!.ifindexAt(0), 0);
  forwarder.close();
  forwarder.close();
  assertEquals(forwarder.engine.ports, []);
});

Deno.test("a device that is down is tried again; the others go on", async () => {
  using forwarder = new XdpForwarder();
  const [near, far] = cable({ name: ["eth0", "far"] });
  far.open(() => {});
  forwarder.add(near, { role: "physical" });
  near.setCarrier(false);
  forwarder.engine.poll();
  assert(forwarder.engine.port("eth0")!.attached);
  near.setCarrier(true);
  const router = device("router0");
  forwarder.add(router, { role: "router" });
  forwarder.setRouterInterface("router0");
  forwarder.add(device("eth1"), { role: "physical" });
  router.inject(tagged([[0x8100, 3]]));
  while (forwarder.engine.port("eth1")!.counters.txFrames === 0) await new Promise((resolve) => setTimeout(resolve, 1));
});
