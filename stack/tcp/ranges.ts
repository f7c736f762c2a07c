/**
 * Sequence ranges that arrived out of order, sorted, with the most recent one remembered: what the SACK option is made of.
 *
 * @module
 */

/** Ranges kept for one connection; a further one is refused, so that a sender of crumbs costs bounded time and memory. */
export const RANGES_MAX = 128;

export class RangeSet {
  length = 0;
  readonly #edges = new Int32Array(2 * RANGES_MAX);
  /** Left edges of the most recently changed ranges, latest first (RFC 2018 section 4). */
  readonly #recent = new Int32Array(4);
  #recentCount = 0;

  left(index: number): number {
    return this.#edges[2 * index];
  }

  right(index: number): number {
    return this.#edges[2 * index + 1];
  }

  clear(): void {
    this.length = this.#recentCount = 0;
  }

  /** True if every byte of the range is here already. */
  covers(left: number, right: number): boolean {
    for (let i = 0; i < this.length; i++) {
      if (((left - this.left(i)) | 0) >= 0 && ((right - this.right(i)) | 0) <= 0) {
        //= rfc2018#4
        // The first SACK block (i.e., the one immediately following the kind and length fields in the option) MUST specify the
        // contiguous block of data containing the segment which triggered this ACK, unless that segment advanced the
        // Acknowledgment Number field in the header.
        this.#remember(this.left(i));
        return true;
      }
    }
    return false;
  }

  /** Adds a range and joins what touches. Returns the bytes that are new, or -1 when there is no room for one more range. */
  add(left: number, right: number): number {
    const edges = this.#edges;
    let first = 0;
    while (first < this.length && ((this.right(first) - left) | 0) < 0) first++;
    let last = first;
    let had = 0;
    let newLeft = left;
    let newRight = right;
    while (last < this.length && ((this.left(last) - right) | 0) <= 0) {
      had += (this.right(last) - this.left(last)) | 0;
      if (((this.left(last) - newLeft) | 0) < 0) newLeft = this.left(last);
      if (((this.right(last) - newRight) | 0) > 0) newRight = this.right(last);
      last++;
    }
    if (first === last && this.length === RANGES_MAX) return -1;
    edges.copyWithin(2 * (first + 1), 2 * last, 2 * this.length);
    edges[2 * first] = newLeft;
    edges[2 * first + 1] = newRight;
    this.length += 1 - (last - first);
    this.#remember(newLeft);
    return ((newRight - newLeft) | 0) - had;
  }

  /** Takes away what lies before `seq`, which has arrived in order. Returns the new in-order end: `seq`, or the end of a range that `seq` reaches. */
  advance(seq: number): number {
    let end = seq;
    let gone = 0;
    while (gone < this.length && ((this.left(gone) - end) | 0) <= 0) {
      if (((this.right(gone) - end) | 0) > 0) end = this.right(gone);
      gone++;
    }
    if (gone > 0) {
      this.#edges.copyWithin(0, 2 * gone, 2 * this.length);
      this.length -= gone;
    }
    return end;
  }

  /** Writes at most `blocks` (four at the most) ranges as big-endian pairs, the latest first. Returns how many. */
  emit(view: DataView, offset: number, blocks: number): number {
    let n = 0;
    for (let r = 0; r < this.#recentCount && n < blocks; r++) {
      const index = this.#indexOf(this.#recent[r]);
      if (index >= 0) n += this.#emitOne(view, offset, n, index);
    }
    // Those that came long ago, from the left: at most as many as stand there already are passed over.
    for (let i = 0; i < this.length && n < blocks; i++) n += this.#emitOne(view, offset, n, i);
    return n;
  }

  /** Writes range `index` behind `n` others, unless it is among them. Returns 1 or 0. */
  #emitOne(view: DataView, offset: number, n: number, index: number): number {
    const left = this.left(index);
    for (let k = 0; k < n; k++) if (view.getInt32(offset + 8 * k) === left) return 0;
    view.setInt32(offset + 8 * n, left);
    view.setInt32(offset + 8 * n + 4, this.right(index));
    return 1;
  }

  #indexOf(seq: number): number {
    for (let i = 0; i < this.length; i++) {
      if (((seq - this.left(i)) | 0) >= 0 && ((seq - this.right(i)) | 0) < 0) return i;
    }
    return -1;
  }

  #remember(left: number): void {
    const recent = this.#recent;
    let at = 0;
    while (at < this.#recentCount && recent[at] !== left) at++;
    if (at === this.#recentCount) {
      if (this.#recentCount < recent.length) this.#recentCount++;
      else at--;
    }
    recent.copyWithin(1, 0, at);
    recent[0] = left;
  }
}
