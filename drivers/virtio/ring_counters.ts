/**
 * What a ring device counts.
 *
 * @module
 */

/** Bytes are those of frames, without the virtio header. "rx" is from the guest. */
export interface RingCounters {
  /** Frames from the guest. */
  rxFrames: number;
  /** Their bytes. */
  rxBytes: number;
  /** Frames of several segments in one. */
  rxSegmented: number;
  /** Less than a header, or no Ethernet frame behind it. */
  rxShort: number;
  /** More than 64 KiB. */
  rxTooLong: number;
  /** Headers that ask for what was not agreed, or point outside the frame. */
  rxBadHeader: number;
  /** Frames to the guest. */
  txFrames: number;
  /** Their bytes. */
  txBytes: number;
  /** Frames of several segments in one. */
  txSegmented: number;
  /** Chains beyond the first that frames took (mergeable buffers). */
  txMerged: number;
  /** The guest offered no buffer. */
  txFull: number;
  /** No driver, or the link is down. */
  txDown: number;
  /** The guest's buffers were too small. */
  txTooLong: number;
  /** Notifications by the guest. */
  kicks: number;
  /** Notifications of the guest. */
  interrupts: number;
  /** Rings that made no sense; `fault` has the last reason. */
  faults: number;
}

/** Counters at zero. */
export function newCounters(): RingCounters {
  return {
    rxFrames: 0,
    rxBytes: 0,
    rxSegmented: 0,
    rxShort: 0,
    rxTooLong: 0,
    rxBadHeader: 0,
    txFrames: 0,
    txBytes: 0,
    txSegmented: 0,
    txMerged: 0,
    txFull: 0,
    txDown: 0,
    txTooLong: 0,
    kicks: 0,
    interrupts: 0,
    faults: 0,
  };
}
