/** D3.16: actions, adjust_head with headroom, redirects by number and by map, tail calls, counters, the trace hook. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { PacketDevice } from "../../../drivers/packets.ts";
import { cable } from "../../../drivers/cable.ts";
import {
  adjustHead,
  adjustTail,
  type PortProgram,
  redirect,
  redirectMap,
  TAIL_CALLS_MAX,
  tailCall,
} from "../../../drivers/xdp/context.ts";
import { XdpEngine } from "../../../drivers/xdp/engine.ts";
import { createMap, type DevMap, type DevMapHash, type ProgMap } from "../../../drivers/xdp/interface_maps.ts";
import { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX } from "../../../drivers/xdp/ir.ts";
import { swapMac } from "../../../drivers/xdp/helpers.ts";
import { type FrameSink, RX_CHECKSUM_PARTIAL, type TxFrame } from "../../../stack/device.ts";
import { checksumHolds, Keep, segment } from "../frames.ts";
import { tagged } from "./run.ts";
import { bytesOf, contextOf, roomHeld, run } from "./run.ts";

const frame = tagged([]);

/** An engine with PacketDevices as interfaces 1, 2, …, all with the same program. */
function world(count: number, program: PortProgram, options: ConstructorParameters<typeof XdpEngine>[0] = {}) {
  const engine = new XdpEngine(options);
  const devices = Array.from({ length: count }, (_, i) => new PacketDevice({ name: `if${i + 1}`, medium: "ethernet" }));
  const host = new Keep();
  const loaded = engine.load("test", program);
  for (const device of devices) engine.add(device, { program: loaded, host });
  return { engine, devices, host, loaded, [Symbol.dispose]: () => engine.close() };
}

Deno.test("D3.16 the five actions: where the frame goes, and what is counted", () => {
  const { engine, devices, host, loaded } = world(2, (view, offset, _end, _ifindex, context) => {
    const action = view.getUint8(offset + 14);
    if (action === XDP_TX) swapMac(view, offset);
    return action === XDP_REDIRECT ? redirect(context, 2) : action;
  });
  for (const action of [XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT, 5, 255]) {
    devices[0].inject(tagged([], [8, 0], [action, 1, 2, 3]));
  }
  assertEquals(engine.poll(), 7);
  assertEquals(host.frames.map(({ bytes }) => bytes[14]), [XDP_PASS]);
  const [back] = devices[0].take();
  assertEquals([...back.subarray(0, 12)], [...frame.subarray(6, 12), ...frame.subarray(0, 6)]);
  assertEquals(devices[1].take().map((bytes) => bytes[14]), [XDP_REDIRECT]);
  const port = engine.port("if1")!;
  for (const actions of [port.actions, loaded.actions]) assertEquals([...actions], [3, 1, 1, 1, 1]);
  assertEquals([...engine.port("if2")!.actions], [0, 0, 0, 0, 0]);
  assertEquals([port.statistics.rxFrames, port.statistics.txFrames, port.statistics.xdpABORTED], [7, 1, 3]);
  assertEquals(engine.port("if2")!.counters.txFrames, 1);
  engine.close();
});

Deno.test("D3.16 a program that throws loses this frame only, and is counted", () => {
  const errors: unknown[] = [];
  const program: PortProgram = (view, offset, end) => view.getUint8(offset + 14) === 0 ? XDP_PASS : view.getUint8(end + 1e6);
  using running = world(1, program, { trace: ({ action, error }) => errors.push(action === XDP_ABORTED ? error : null) });
  for (const byte of [0, 1, 0]) running.devices[0].inject(tagged([], [8, 0], [byte]));
  running.engine.poll();
  assertEquals([...running.loaded.actions], [1, 0, 2, 0, 0]);
  assertEquals(running.loaded.thrown, 1);
  assertEquals(errors.map((error) => error instanceof RangeError), [false, true, false]);
});

Deno.test("D3.16 actions that are no number count as aborted", () => {
  for (const action of [NaN, 1.5, -1, Infinity, undefined, "1"]) {
    assertEquals(run(() => action as number, frame).action, XDP_ABORTED);
  }
});

Deno.test("D3.16 adjust_head: within the headroom, and 14 bytes stay", () => {
  const context = contextOf(frame, 10);
  assertEquals(adjustHead(context, -11), -22);
  assertEquals(adjustHead(context, -10), 0);
  assertEquals(adjustHead(context, -1), -22);
  assertEquals(context.end - context.offset, frame.length + 10);
  assertEquals(adjustHead(context, 10 + frame.length - 14), 0);
  assertEquals(adjustHead(context, 1), -22);
  assertEquals(adjustHead(context, 0x7fff_ffff), -22);
  assertEquals(adjustHead(context, -0x8000_0000), -22);
  assertEquals(bytesOf(context), frame.slice(-14));
  assert(roomHeld(context));
});

Deno.test("D3.16 adjust_tail: within the tailroom, new bytes are zero, and 14 bytes stay", () => {
  const context = contextOf(frame, 10, 5);
  assertEquals(adjustTail(context, 6), -22);
  assertEquals(adjustTail(context, 5), 0);
  assertEquals([...bytesOf(context).slice(-6)], [frame.at(-1), 0, 0, 0, 0, 0]);
  assertEquals(adjustTail(context, -5 - frame.length + 14), 0);
  assertEquals(adjustTail(context, -1), -22);
  assertEquals(bytesOf(context), frame.slice(0, 14));
  assert(roomHeld(context));
});

Deno.test("D3.16 redirects by number and by map; to nobody: dropped and counted", () => {
  const engine = new XdpEngine();
  const devmap = createMap({ name: "d", kind: "devmap", keySize: 4, valueSize: 4, maxEntries: 4 }, engine.interfaces) as DevMap;
  const hash = createMap(
    { name: "h", kind: "devmap_hash", keySize: 4, valueSize: 4, maxEntries: 4 },
    engine.interfaces,
  ) as DevMapHash;
  const program: PortProgram = (view, offset, _end, _ifindex, context) => {
    const key = view.getUint8(offset + 15);
    switch (view.getUint8(offset + 14)) {
      case 0:
        return redirect(context, key);
      case 1:
        return redirectMap(context, devmap, key);
      case 2:
        return redirectMap(context, hash, key * 0x01010101, XDP_PASS);
      case 3:
        return redirectMap(context, devmap, 0, 8);
      default:
        return redirect(context, key, 1);
    }
  };
  const devices = [1, 2, 5000].map((ifindex) => {
    const device = new PacketDevice({ medium: "ethernet", name: `if${ifindex}` });
    engine.add(device, { ifindex, program });
    return device;
  });
  assertEquals([devmap.set(0, 2), devmap.set(3, 5000), hash.set(0xfefefefe, 1)], [0, 0, 0]);
  const send = (how: number, key: number) => {
    devices[0].inject(tagged([], [8, 0], [how, key]));
    engine.poll();
    const to = devices.map((device) => device.take().length).indexOf(1);
    const port = engine.port(1)!;
    const action = port.actions.indexOf(1);
    port.actions.fill(0);
    return [action, to];
  };
  assertEquals(send(0, 2), [XDP_REDIRECT, 1]);
  assertEquals(send(0, 1), [XDP_REDIRECT, 0]);
  assertEquals(send(0, 0), [XDP_REDIRECT, -1]);
  assertEquals(send(0, 77), [XDP_REDIRECT, -1]);
  assertEquals(send(1, 0), [XDP_REDIRECT, 1]);
  assertEquals(send(1, 3), [XDP_REDIRECT, 2]);
  for (const key of [1, 4, 255]) assertEquals(send(1, key), [XDP_ABORTED, -1]);
  assertEquals(send(2, 0xfe), [XDP_REDIRECT, 0]);
  assertEquals(send(2, 0xfd), [XDP_PASS, -1]);
  assertEquals(send(3, 0), [XDP_ABORTED, -1]);
  assertEquals(send(4, 2), [XDP_ABORTED, -1]);
  assertEquals(engine.port(1)!.counters.redirectErrors, 2);
  engine.remove(5000);
  assertEquals(send(1, 3), [XDP_ABORTED, -1]);
  engine.close();
});

Deno.test("D3.16 tail calls: 33 of them, then the caller goes on; a missing program too", () => {
  const map = createMap(
    { name: "p", kind: "prog_array", keySize: 4, valueSize: 4, maxEntries: 2 },
    new XdpEngine().interfaces,
  ) as ProgMap;
  let runs = 0;
  const again: PortProgram = (_view, _offset, _end, _ifindex, context) => {
    runs++;
    const action = tailCall(context, map, 0);
    return action >= 0 ? action : XDP_TX;
  };
  assertEquals([run(again, frame).action, runs], [XDP_TX, 1]);
  assertEquals(map.setProgram(0, again), 0);
  runs = 0;
  assertEquals([run(again, frame).action, runs], [XDP_TX, 1 + TAIL_CALLS_MAX]);
  // The next program sees the frame as this one left it; what it returns counts, also nonsense.
  assertEquals(map.setProgram(0, (_view, offset, end, ifindex) => end - offset === frame.length - 4 ? ifindex : 77), 0);
  const caller: PortProgram = (_view, _offset, _end, _ifindex, context) => {
    adjustHead(context, 4);
    return Math.max(-1, tailCall(context, map, 0));
  };
  assertEquals(run(caller, frame, XDP_TX).action, XDP_TX);
  assertEquals(run(caller, frame.slice(0, 20), XDP_TX).action, XDP_ABORTED);
  assertEquals([map.setProgram(2, again), map.setProgram(0, null!), map.setProgram(0, again, 1)], [-7, -9, -22]);
  assertEquals([map.remove(0), map.remove(0), map.remove(2), map.set(0, 1), map.set(2, 1)], [0, -2, -7, -9, -7]);
  assertEquals(map.programs, [null, null]);
});

Deno.test("D3.16 the trace hook sees every frame as its program left it, and may throw or remove the port", () => {
  const seen: unknown[] = [];
  const hook = (event: Event) => event.preventDefault();
  globalThis.addEventListener("error", hook);
  const program: PortProgram = (_view, _offset, _end, _ifindex, context) => (adjustHead(context, 2), redirect(context, 2));
  using running = world(2, program, {
    trace: ({ port, action, target, memory, offset, length, error }) => {
      seen.push([port.name, action, target, memory.bytes[offset], length, error]);
      if (seen.length === 2) running.engine.remove(1);
      throw new Error("of the hook");
    },
  });
  for (let i = 0; i < 2; i++) running.devices[0].inject(frame);
  running.engine.poll();
  globalThis.removeEventListener("error", hook);
  assertEquals(seen, new Array(2).fill(["if1", XDP_REDIRECT, 2, frame[2], frame.length - 2, null]));
  assertEquals(running.devices[1].take().length, 2);
  assertThrows(() => running.engine.remove(1), Deno.errors.NotFound);
});

Deno.test("a host that throws, and a hook that throws when a device is gone, are reported; the ports go on", () => {
  const reported: string[] = [];
  const hook = (event: ErrorEvent) => {
    event.preventDefault();
    reported.push(event.error.message);
  };
  globalThis.addEventListener("error", hook);
  const engine = new XdpEngine({
    onGone: () => {
      throw new Error("gone");
    },
  });
  const device = new PacketDevice({ medium: "ethernet" });
  const host = {
    frame(): void {
      throw new Error("host");
    },
  };
  engine.add(device, { host });
  for (let i = 0; i < 3; i++) device.inject(frame);
  assertEquals(engine.poll(), 3);
  device.close();
  engine.poll();
  globalThis.removeEventListener("error", hook);
  assertEquals(reported, ["host", "host", "host", "gone"]);
  assertEquals(engine.ports, []);
});

Deno.test("a device that throws is removed and told of; the other ports go on, in the same round too", () => {
  class Bad extends PacketDevice {
    fails = "";
    #check(what: string): void {
      if (this.fails === what) throw new Error(what);
    }
    override receive(sink: FrameSink, budget: number): number {
      this.#check("receive");
      return super.receive(sink, budget);
    }
    override transmit(tx: TxFrame): number {
      this.#check("transmit");
      return super.transmit(tx);
    }
    override arm(): void {
      this.#check("arm");
      super.arm();
    }
    flush(): void {
      this.#check("flush");
    }
    override close(): void {
      this.#check("close");
      super.close();
    }
  }
  for (const fails of ["receive", "transmit", "arm", "flush"]) {
    const gone: unknown[] = [];
    const engine = new XdpEngine({ onGone: ({ name }, error) => gone.push(name, (error as Error).message) });
    const devices = ["a", "bad", "c", "d"].map((name) => new Bad({ name, medium: "ethernet" }));
    const [a, bad, c, d] = devices;
    const to = (target: number): PortProgram => (_view, _offset, _end, _ifindex, context) => redirect(context, target);
    for (const [i, device] of devices.entries()) engine.add(device, { ifindex: i + 1, program: to(i < 2 ? 2 : 4) });
    engine.poll();
    bad.fails = fails;
    for (const device of [a, bad, c]) for (let i = 0; i < 3; i++) device.inject(frame);
    engine.poll();
    engine.poll();
    assertEquals(gone, ["bad", fails]);
    assertEquals(engine.ports.map(({ name }) => name), ["a", "c", "d"]);
    assertEquals(d.take().length, 3, fails);
    assertEquals(engine.port("a")!.counters.rxFrames, 3);
    // One that can't be closed doesn't keep the others.
    a.fails = "close";
    assertThrows(() => engine.close(), Error, "close");
    assertEquals(engine.ports, []);
    c.inject(frame);
    assertThrows(() => c.open(() => {}));
  }
});

Deno.test("frames beyond the MTU of where they go are dropped and counted; headers lent by no device are copied", () => {
  using running = world(2, (_view, _offset, _end, _ifindex, context) => redirect(context, 2));
  running.devices[0].inject(new Uint8Array(1519));
  running.devices[0].inject(new Uint8Array(1518));
  running.engine.poll();
  assertEquals(running.devices[1].take().map(({ length }) => length), [1518]);
  assertEquals([running.engine.port(2)!.counters.txTooLong, running.engine.port(1)!.counters.rxTooLong], [0, 1]);
  assertEquals(running.engine.port(1)!.counters.copied, 1);
});

Deno.test("a frame whose checksum or cutting was left to a device: handed on, or finished, behind a tag", () => {
  for (const offload of [true, false]) {
    const engine = new XdpEngine();
    const [nearA, farA] = cable({ offload: true, name: ["a", "A"] });
    const [nearB, farB] = cable({ offload, name: ["b", "B"] });
    for (const far of [farA, farB]) far.open(() => {});
    engine.add(nearB, { ifindex: 2 });
    const program: PortProgram = (view, _offset, _end, _ifindex, context) => {
      // As the tag is pushed by the forwarder: into the headroom.
      if (adjustHead(context, -4) !== 0) return XDP_DROP;
      for (let i = 0; i < 12; i++) view.setUint8(context.offset + i, view.getUint8(context.offset + 4 + i));
      view.setUint32(context.offset + 12, 0x8100_0007);
      return redirect(context, 2);
    };
    engine.add(nearA, { ifindex: 1, program });
    const spec = { link: 14, proto: 6, source: [10, 0, 0, 1], destination: [10, 0, 0, 2], ports: [1, 2], size: 4000 } as const;
    const large = segment({ ...spec, source: [...spec.source], destination: [...spec.destination], ports: [1, 2] }, true);
    large.segmentSize = 1000;
    large.segmentHeaderLength = 54;
    assertEquals(farA.transmit(large), 0);
    const small = segment({ ...spec, source: [10, 0, 0, 1], destination: [10, 0, 0, 2], ports: [1, 2], size: 100 }, true);
    assertEquals(farA.transmit(small), 0);
    assertEquals(engine.poll(), 2);
    const keep = new Keep();
    farB.receive(keep, 10);
    assertEquals(keep.frames.map(({ view }) => view.getUint32(12)), new Array(offload ? 2 : 5).fill(0x8100_0007));
    if (offload) {
      assertEquals(keep.frames.map(({ flags, segmentSize }) => [flags, segmentSize]), [[RX_CHECKSUM_PARTIAL, 1000], [
        RX_CHECKSUM_PARTIAL,
        0,
      ]]);
    } else for (const part of keep.frames) assert(checksumHolds(part, 18));
    assertEquals(keep.frames.at(-1)!.bytes.length, 14 + 4 + 20 + 20 + 100);
    engine.close();
    for (const far of [farA, farB]) far.close();
  }
});
