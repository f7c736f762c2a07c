/**
 * What a device made of virtqueues counts.
 *
 * @module
 */

/** What a ring device counts; bytes are those of frames, without the virtio header. "rx" is from the guest. */
export class RingCounters {
  /** Frames from the guest. */
  rxFrames = 0;
  /** Their bytes. */
  rxBytes = 0;
  /** Frames of several segments in one. */
  rxSegmented = 0;
  /** Less than a header, or no Ethernet frame behind it. */
  rxShort = 0;
  /** More than 64 KiB. */
  rxTooLong = 0;
  /** Headers that ask for what was not agreed, or point outside the frame. */
  rxBadHeader = 0;
  /** Frames to the guest. */
  txFrames = 0;
  /** Their bytes. */
  txBytes = 0;
  /** Frames of several segments in one. */
  txSegmented = 0;
  /** Chains beyond the first that frames took (mergeable buffers). */
  txMerged = 0;
  /** The guest offered no buffer. */
  txFull = 0;
  /** No driver, or the link is down. */
  txDown = 0;
  /** The guest's buffers were too small. */
  txTooLong = 0;
  /** Times that the guest has told of something new. */
  kicks = 0;
  /** Times that it was told. */
  interrupts = 0;
  /** Rings that made no sense; `fault` has the last reason. */
  faults = 0;
}
