/**
 * Which queue pair a flow uses (virtio 1.2, 5.1.6.5.6.1): what goes to the guest takes the pair that the same flow last came by.
 *
 * @module
 */
const FLOWS = 1024;
const IPV4 = 0x0800;

/** Pairs by a hash that is the same in both directions. */
export class FlowTable {
  readonly #pairs = new Uint8Array(FLOWS);

  #hash(view: DataView, offset: number, length: number): number {
    if (length < 38 || view.getUint16(offset + 12) !== IPV4) return 0;
    const header = (view.getUint8(offset + 14) & 15) * 4;
    let mix = view.getUint32(offset + 26) ^ view.getUint32(offset + 30);
    // The ports of TCP and UDP stand at the same place; a fragment's bytes there are no ports.
    if ((view.getUint16(offset + 20) & 0x3fff) === 0 && 14 + header + 4 <= length) {
      mix ^= view.getUint16(offset + 14 + header) ^ view.getUint16(offset + 16 + header);
    }
    return (Math.imul(mix, 0x9e3779b1) >>> 22) % FLOWS;
  }

  /** A frame came by `pair`. */
  learn(view: DataView, offset: number, length: number, pair: number): void {
    this.#pairs[this.#hash(view, offset, length)] = pair;
  }

  /** The pair for a frame, below `pairs`. */
  find(view: DataView, offset: number, length: number, pairs: number): number {
    const pair = this.#pairs[this.#hash(view, offset, length)];
    return pair < pairs ? pair : 0;
  }
}
