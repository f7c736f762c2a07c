/**
 * The transport checksum of an outgoing frame: left to the device, or computed over header and payload pieces.
 *
 * @module
 */
import type { TxFrame } from "../device.ts";
import { finish, fold, sum, swapped } from "../wire/checksum.ts";
import type { Path } from "./types.ts";

/**
 * Fills in the checksum field of the transport header at `tx.offset`. `tx.length` is the header (and inline data), the
 * pieces follow. Called before `IpLayer.send`, with the checksum field still at any value.
 *
 * @param checksumOffset where the field lies in the transport header (TCP 16, UDP 6)
 */
export function sealChecksum(tx: TxFrame, path: Path, proto: number, checksumOffset: number): void {
  const { view } = tx.memory;
  const field = tx.offset + checksumOffset;
  const length = tx.length + tx.payloadLength1 + tx.payloadLength2;
  const pseudo = path.addressSum + proto + length;
  if (path.txChecksum) {
    view.setUint16(field, fold(pseudo));
    tx.checksumStart = 0; // relative to tx.offset; whoever puts headers in front moves it
    tx.checksumOffset = checksumOffset;
    return;
  }
  view.setUint16(field, 0);
  let total = sum(view, tx.offset, tx.length, pseudo);
  if (tx.payloadLength1 > 0) {
    const data = tx.payload.view;
    // The header may hold an odd number of bytes when data stands in it (a UDP datagram); TCP headers are even.
    const part1 = sum(data, tx.payloadOffset1, tx.payloadLength1, 0);
    total += (tx.length & 1) === 0 ? part1 : swapped(part1);
    if (tx.payloadLength2 > 0) {
      const part2 = sum(data, tx.payloadOffset2, tx.payloadLength2, 0);
      total += ((tx.length + tx.payloadLength1) & 1) === 0 ? part2 : swapped(part2);
    }
  }
  view.setUint16(field, finish(total));
}
