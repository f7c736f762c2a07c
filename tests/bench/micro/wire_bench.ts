// Codecs and checksum: what reading and writing headers costs, per packet.
import { copyBytes } from "../../../stack/wire/copy.ts";
import { finish, sum } from "../../../stack/wire/checksum.ts";
import { checkIpv4, ipDestination, ipSource, sealIpHeader } from "../../../stack/wire/ipv4.ts";
import { emit, parse, Segment } from "../../../stack/wire/tcp.ts";

const view = new DataView(new ArrayBuffer(65_536));
const bytes = new Uint8Array(view.buffer);
const target = new Uint8Array(65_536);
const segment = new Segment();
for (let i = 0; i < bytes.length; i++) bytes[i] = i * 7;

/** A header as `Segment` and `checkIpv4` accept it, at `offset`. */
function prepare(offset: number): void {
  bytes.fill(0, offset, offset + 40);
  view.setUint16(offset, 0x4500);
  view.setUint16(offset + 2, 1500);
  view.setUint8(offset + 8, 64);
  view.setUint8(offset + 9, 6);
  view.setInt32(offset + 12, 0x0a000001);
  view.setInt32(offset + 16, 0x0a000002);
  sealIpHeader(view, offset, 20);
  view.setUint16(offset + 32, 0x5010);
}

prepare(14);

for (const length of [20, 64, 1460, 65_000]) {
  Deno.bench({ name: `checksum of ${length} bytes`, group: "checksum", fn: () => void finish(sum(view, 34, length, 0)) });
}
for (const length of [16, 64, 1460, 65_000]) {
  Deno.bench({ name: `copy of ${length} bytes`, group: "copy", fn: () => copyBytes(bytes, 34, target, 100, length) });
}
Deno.bench({
  name: "read an IPv4 and a TCP header",
  group: "codecs",
  fn: () => {
    if (checkIpv4(view, 14, 1500) < 0 || !parse(view, 34, 1480, segment)) throw new Error("not a packet");
    return void (ipSource(view, 14) ^ ipDestination(view, 14));
  },
});
Deno.bench({
  name: "write a TCP header",
  group: "codecs",
  fn: () => void emit(view, 2000, (80 << 16) | 1024, 1, 2, 20, 16, 512),
});
Deno.bench({
  name: "seal an IPv4 header",
  group: "codecs",
  fn: () => sealIpHeader(view, 14, 20),
});
