/** Maps in user space beside the kernel's own: the same random steps, the same results and values. */
import { assertEquals } from "@std/assert";
import { createMap as createKernelMap } from "../../../drivers/xdp/bpf/load.ts";
import { createMap, InterfaceTable } from "../../../drivers/xdp/interface_maps.ts";
import type { MapKind, MapSpec } from "../../../drivers/xdp/map_kinds.ts";
import { libc } from "../../../ffi/libc.ts";
import { createLink, deleteLink, getLink } from "../../../ffi/rtnl_link.ts";
import { lacksBpf } from "../../testing/bpf.ts";
import { randomSource } from "../../testing/frames.ts";
import { lacksKernel } from "../../testing/namespace.ts";
import { pick } from "./random_frames.ts";

libc();
const ignore = lacksKernel() || lacksBpf();
const STEPS = 5000;

function le32(value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** Keys that often meet: few indexes, some beyond the end, and prefixes of every length, too long ones among them. */
function keyOf({ kind, keySize, maxEntries }: MapSpec, random: () => number): Uint8Array<ArrayBuffer> {
  if (kind !== "lpm_trie") {
    const key = new Uint8Array(keySize);
    key.set(le32(random() % (maxEntries + 3)).subarray(0, keySize));
    return key;
  }
  return Uint8Array.from([...le32(random() % 35), 10, random() % 2, random() % 4 * 64, random() % 4 * 64]);
}

/** The same steps with both; `values` are what may be stored. */
function compare(spec: MapSpec, interfaces: InterfaceTable, values: number[]): void {
  using kernel = createKernelMap(spec);
  const user = createMap(spec, interfaces);
  const random = randomSource(11);
  for (let step = 0; step < STEPS; step++) {
    const key = keyOf(spec, random);
    const what = `${spec.kind} ${step} ${key.toHex()}`;
    switch (random() % 4) {
      case 0:
        assertEquals(user.remove(key), kernel.delete(key), `${what} delete`);
        break;
      case 1:
        assertEquals(user.get(key), kernel.lookup(key), `${what} lookup`);
        break;
      default: {
        const [value, flags] = [new Uint8Array(spec.valueSize), pick([0, 0, 0, 1, 2, 3], random)];
        value.set(le32(pick(values, random)));
        const code = kernel.update(key, value, flags);
        assertEquals(user.set(key, value, flags), code, `${what} update ${value.toHex()} ${flags}`);
      }
    }
  }
}

const SHAPES: [MapKind, number, number, number][] = [
  ["array", 4, 8, 10],
  ["hash", 4, 4, 10],
  ["hash", 7, 12, 5],
  ["lpm_trie", 8, 4, 12],
  ["devmap", 4, 4, 10],
  ["devmap_hash", 4, 4, 10],
];

for (const [kind, keySize, valueSize, maxEntries] of SHAPES) {
  Deno.test({
    name: `${kind} (key ${keySize}, value ${valueSize} bytes): ${STEPS} random steps, the kernel's results and values`,
    ignore,
    fn: () => {
      createLink({ name: "ma", kind: "veth", peer: { name: "mb" } });
      const interfaces = new InterfaceTable();
      const known = ["ma", "mb"].map((name) => getLink(name).index);
      for (const ifindex of known) interfaces.add(ifindex);
      try {
        compare({ name: "both", kind, keySize, valueSize, maxEntries }, interfaces, [0, ...known, 54_321]);
      } finally {
        deleteLink("ma");
      }
    },
  });
}
