/** Rows D3.1 to D3.11 on real interfaces: TAPs with the table's numbers, both programs attached, native and generic. */
import { assertEquals } from "@std/assert";
import { LoadedProgram } from "../../../drivers/xdp/bpf/load.ts";
import {
  MUX_COUNTERS,
  type MuxCounter,
  PHYSICAL_COUNTERS,
  physicalProgram,
  PORTS,
  ROUTER_COUNTERS,
  ROUTER_IFACE,
  routerProgram,
} from "../../../drivers/xdp/programs/vlan_mux.ts";
import { type AttachMode, BpfLink } from "../../../ffi/bpf_program.ts";
import { getLink, setLink } from "../../../ffi/rtnl_link.ts";
import { IFF_NO_PI, IFF_TAP, TunDescriptor } from "../../../ffi/tun.ts";
import { lacksBpf } from "../../testing/bpf.ts";
import { run } from "../../testing/namespace.ts";
import { le32, sameBytes } from "./both.ts";
import { D3_ROWS, HIGHEST, PHYSICAL, ROUTER, type Row, STRANGER, TOO_HIGH } from "./d3_rows.ts";

const TUNSETIFINDEX = 0x400454da;
const FORWARDERS = [ROUTER, PHYSICAL, HIGHEST];
const ALL = [...FORWARDERS, STRANGER, TOO_HIGH];
/** Addresses of the table's frames: what else comes out of an interface is the kernel's own chatter. */
const MACS = D3_ROWS[0].frame.slice(0, 12);

/** TAPs with given numbers, and what of them is attached. */
class Taps implements Disposable {
  readonly #taps = new Map<number, TunDescriptor>();
  readonly #links: BpfLink[] = [];
  readonly #buffer = new Uint8Array(4096);

  static async open(): Promise<Taps> {
    const taps = new Taps();
    for (const index of ALL) {
      const tap = TunDescriptor.open();
      taps.#taps.set(index, tap);
      assertEquals(tap.ioctl(TUNSETIFINDEX, le32(index)), 0);
      assertEquals(tap.attach(`t${index}`, IFF_TAP | IFF_NO_PI), `t${index}`);
      assertEquals(getLink(`t${index}`).index, index);
      // No address, and no talk about one.
      await run("ip", ["link", "set", `t${index}`, "addrgenmode", "none"]);
      setLink(`t${index}`, { up: true });
    }
    return taps;
  }

  attach(program: LoadedProgram, index: number, mode: AttachMode): void {
    this.#links.push(BpfLink.attachXdp(program.program, index, mode));
  }

  /** Sends a frame into an interface as if it had come over its wire. */
  send(index: number, frame: Uint8Array<ArrayBuffer>): number {
    return this.#taps.get(index)!.write(frame);
  }

  /** What comes out of all interfaces within a moment. */
  async receive(wanted: number): Promise<[number, Uint8Array][]> {
    const found: [number, Uint8Array][] = [];
    for (let tries = 0; tries < (wanted > 0 ? 200 : 2) && (found.length < wanted || wanted === 0); tries++) {
      for (const [index, tap] of this.#taps) {
        for (let n = tap.read(this.#buffer); n > 0; n = tap.read(this.#buffer)) {
          if (sameBytes(this.#buffer.subarray(0, 12), MACS)) found.push([index, this.#buffer.slice(0, n)]);
        }
      }
      if (found.length < wanted || wanted === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return found;
  }

  [Symbol.dispose](): void {
    for (const link of this.#links) link.close();
    for (const tap of this.#taps.values()) tap.close();
  }
}

function counted(program: LoadedProgram, row: Row, name: MuxCounter): number {
  const map = program.map(row.program === "physical" ? PHYSICAL_COUNTERS.name : ROUTER_COUNTERS.name);
  return Number(map.counter(le32(MUX_COUNTERS.indexOf(name))));
}

async function check(taps: Taps, program: LoadedProgram, row: Row): Promise<void> {
  const counter = row.drop ?? "received";
  const before = counted(program, row, counter);
  if (row.frame.length < 14) return assertEquals(taps.send(row.ifindex, row.frame), -22, row.name);
  assertEquals(taps.send(row.ifindex, row.frame), row.frame.length, row.name);
  assertEquals(await taps.receive(row.to === undefined ? 0 : 1), row.to === undefined ? [] : [[row.to, row.out!]], row.name);
  assertEquals(counted(program, row, counter), before + 1, row.name);
}

for (const attach of ["native", "generic"] as const) {
  for (const mode of ["mask", "strict"] as const) {
    Deno.test({
      name: `D3.1 to D3.11 over TAPs, ${attach}, ${mode}: every row comes out where it should, and nowhere else`,
      ignore: lacksBpf(["ip"], "iproute2"),
      async fn() {
        using taps = await Taps.open();
        using router = LoadedProgram.load(routerProgram({ mode }));
        using physical = LoadedProgram.load(physicalProgram(), [router.map(ROUTER_IFACE.name)]);
        assertEquals(router.map(ROUTER_IFACE.name).update(le32(0), le32(ROUTER)), 0);
        for (const port of FORWARDERS) assertEquals(router.map(PORTS.name).update(le32(port), le32(port)), 0);
        taps.attach(router, ROUTER, attach);
        for (const index of [PHYSICAL, HIGHEST, TOO_HIGH]) taps.attach(physical, index, attach);
        // Interface 0 isn't, and headroom is the driver's.
        const rows = D3_ROWS.filter((row) => row.ifindex !== 0 && row.headroom === undefined && (row.mode ?? mode) === mode);
        for (const row of rows) await check(taps, row.program === "physical" ? physical : router, row);
        assertEquals(rows.length, 26);
      },
    });
  }
}
