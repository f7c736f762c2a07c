import { assertEquals, assertThrows } from "@std/assert";
import { pcapTap } from "../../drivers/pcap.ts";
import { decodeCapture, INBOUND, OUTBOUND } from "../../drivers/pcap_format.ts";
import { PcapPlayer } from "../../drivers/pcap_player.ts";
import { PacketDevice } from "../../drivers/packets.ts";
import { XdpForwarder } from "../../drivers/xdp/forwarder.ts";
import { Keep } from "./frames.ts";
import { tagged } from "./xdp/run.ts";

/** A capture of frames that came in. */
function capture(frames: Uint8Array[], snaplen?: number): Uint8Array {
  const chunks: number[] = [];
  const inner = new PacketDevice({ medium: "ethernet" });
  const tap = pcapTap(inner, { write: (bytes) => void chunks.push(...bytes) }, { nowNs: () => 1n, snaplen });
  for (const frame of frames) inner.inject(frame);
  tap.receive(new Keep(), frames.length);
  tap.close();
  return Uint8Array.from(chunks);
}

Deno.test("a capture goes through the forwarder, and what comes out is a capture", () => {
  const frames = [tagged([]), tagged([[0x8100, 5]]), tagged([], [8, 6], [])];
  const folder = Deno.makeTempDirSync();
  Deno.writeFileSync(`${folder}/in.pcapng`, capture(frames));
  const gone: string[] = [];
  const forwarder = new XdpForwarder({ onGone: ({ name }) => gone.push(name) });
  forwarder.add(new PcapPlayer(`${folder}/in.pcapng`, { name: "in", atEnd: "gone", direction: INBOUND }), { ifindex: 7 });
  forwarder.add(pcapTap(new PcapPlayer([], { name: "out" }), `${folder}/out.pcapng`), { role: "router" });
  forwarder.setRouterInterface("out");
  assertEquals(forwarder.engine.poll(), 3);
  assertEquals(forwarder.engine.port(7)!.counters.copied, 0);
  forwarder.engine.poll();
  assertEquals(gone, ["in"]);
  forwarder.close();
  const out = decodeCapture(Deno.readFileSync(`${folder}/out.pcapng`));
  assertEquals(out.map(({ bytes, direction }) => [direction, ...bytes.subarray(12, 18)]), [
    [OUTBOUND, 0x81, 0, 0, 7, 8, 0],
    [OUTBOUND, 0x81, 0, 0, 7, 0x81, 0],
    [OUTBOUND, 0x81, 0, 0, 7, 8, 6],
  ]);
  Deno.removeSync(folder, { recursive: true });
});

Deno.test("budgets, the end, cut packets, and files that are no captures", () => {
  const bytes = capture([tagged([]), tagged([]), tagged([])], 20);
  const player = new PcapPlayer(bytes);
  let wakes = 0;
  player.open(() => wakes++);
  assertThrows(() => player.open(() => {}), Deno.errors.Busy);
  player.arm();
  const keep = new Keep();
  assertEquals([player.receive(keep, 2), player.waiting, player.receive(keep, 2), player.receive(keep, 2)], [2, 1, 1, 0]);
  assertEquals(keep.frames.map(({ bytes }) => bytes.length), [20, 20, 20]);
  player.arm();
  assertEquals([wakes, player.statistics().cutShort, player.mtu], [1, 3, 1500]);
  assertEquals(new PcapPlayer(bytes, { direction: OUTBOUND }).waiting, 0);
  player.close();
  assertEquals(player.receive(keep, 1), -19);
  assertThrows(() => new PcapPlayer(new Uint8Array(40)), Deno.errors.InvalidData);
  assertThrows(() => new PcapPlayer(bytes, { mtu: 20 }), RangeError);
  assertThrows(() => new PcapPlayer("/nowhere"), Deno.errors.NotFound);
});
