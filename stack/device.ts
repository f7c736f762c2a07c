/**
 * What a device is: the one contract between `stack/` and `drivers/`. Bursts come in, gathered frames go out, and
 * capabilities are asked for instead of assumed. A device made of two arrays and a device made of a kernel ring look
 * the same to the stack.
 *
 * @module
 */

/** Bytes that the stack leaves free in front of a transport header: device header (12), Ethernet with a tag (18), IP with options (60). */
export const TX_HEADROOM = 128;

/** Memory that frames live in: bytes and one DataView over the same buffer, made once and used at absolute offsets. */
export class FrameMemory {
  /** The bytes themselves. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same memory as numbers, at absolute offsets. */
  readonly view: DataView<ArrayBuffer>;
  /** A driver's own note, for example the address of `bytes[0]` in the process; 0 until a driver asked. */
  address = 0;
  /** What {@link window} made last. */
  #window: Uint8Array<ArrayBuffer>;

  /** So many bytes, or the bytes themselves. */
  constructor(size: number | Uint8Array<ArrayBuffer>) {
    this.bytes = typeof size === "number" ? new Uint8Array(size) : size;
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    this.#window = this.bytes;
  }

  /**
   * A view of `length` bytes at `offset`, valid until the next call, for copying them away at once. Full segments lie at the same
   * place of a device's slot every time, and the view that was made for the last one serves the next: no garbage.
   */
  window(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const { bytes } = this;
    const last = this.#window;
    if (last.byteOffset === bytes.byteOffset + offset && last.length === length) return last;
    return this.#window = bytes.subarray(offset, offset + length);
  }
}

/** No payload: what {@link TxFrame.payload} holds when the frame is all in `memory`. */
export const NO_MEMORY: FrameMemory = new FrameMemory(0);

/** Received frame: the device has verified the transport checksum. */
export const RX_CHECKSUM_VALID = 1;
/** Received frame: the transport checksum holds only the pseudo-header's sum, because the frame never crossed a wire. */
export const RX_CHECKSUM_PARTIAL = 2;

/** Takes the frames of a burst. */
export interface FrameSink {
  /**
   * One frame: `length` bytes at `offset` of `memory`, valid during the call only.
   *
   * @param flags `RX_CHECKSUM_VALID`, `RX_CHECKSUM_PARTIAL` or 0
   * @param segmentSize payload bytes per segment if the frame is several TCP (or UDP) segments in one, else 0
   */
  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void;
}

/**
 * One frame on its way out: header bytes in `memory`, then up to two pieces of `payload` (a ring that wraps around).
 * The stack reuses one record for everything, so a device must be done with it, or have copied it, when `transmit` returns.
 */
export class TxFrame {
  /** Holds the headers, with room before `offset` for a device's own header. */
  memory: FrameMemory = new FrameMemory(2048);
  /** Where the frame begins in `memory`. */
  offset: number = TX_HEADROOM;
  /** Bytes of headers (and inline data) in `memory`. */
  length = 0;
  /** Holds the payload. */
  payload: FrameMemory = NO_MEMORY;
  /** Where the first piece begins. */
  payloadOffset1 = 0;
  /** Bytes of the first piece. */
  payloadLength1 = 0;
  /** Where the second piece begins. */
  payloadOffset2 = 0;
  /** Bytes of the second piece. */
  payloadLength2 = 0;
  /** Where the transport header begins, from the start of the frame, if the device is to fill in the checksum; else -1. */
  checksumStart: number = -1;
  /** Where the checksum field lies behind `checksumStart`; the field holds the folded pseudo-header sum. */
  checksumOffset = 0;
  /** Payload bytes per segment if the device is to cut the frame into TCP segments; else 0. */
  segmentSize = 0;
  /** All headers in front of the payload to be cut, in bytes; used with `segmentSize`. */
  segmentHeaderLength = 0;

  /** Bytes of the whole frame. */
  get size(): number {
    return this.length + this.payloadLength1 + this.payloadLength2;
  }

  /** Starts a frame whose transport header will be put at `TX_HEADROOM`, without payload. */
  reset(headerLength: number): void {
    this.offset = TX_HEADROOM;
    this.length = headerLength;
    this.payload = NO_MEMORY;
    this.payloadOffset1 = this.payloadLength1 = 0;
    this.payloadOffset2 = this.payloadLength2 = 0;
    this.checksumStart = -1;
    this.checksumOffset = 0;
    this.segmentSize = 0;
    this.segmentHeaderLength = 0;
  }

  /** Copies the whole frame, headers and pieces, to `at` of `into` and returns its size. */
  copyTo(into: Uint8Array, at: number): number {
    const { memory, payload } = this;
    into.set(memory.bytes.subarray(this.offset, this.offset + this.length), at);
    let end = at + this.length;
    if (this.payloadLength1 > 0) {
      into.set(payload.bytes.subarray(this.payloadOffset1, this.payloadOffset1 + this.payloadLength1), end);
      end += this.payloadLength1;
    }
    if (this.payloadLength2 > 0) {
      into.set(payload.bytes.subarray(this.payloadOffset2, this.payloadOffset2 + this.payloadLength2), end);
      end += this.payloadLength2;
    }
    return end - at;
  }
}

/** What a device can do; asked once, when a stack takes the device. */
export interface DeviceCapabilities {
  /** The device may deliver frames marked `RX_CHECKSUM_VALID` or `RX_CHECKSUM_PARTIAL`. */
  readonly rxChecksum: boolean;
  /** The device fills in transport checksums (`TxFrame.checksumStart`). */
  readonly txChecksum: boolean;
  /** Largest frame that the device cuts into segments itself (`TxFrame.segmentSize`), in bytes; 0 if it doesn't. */
  readonly txSegmentation: number;
  /** Largest frame that `receive` may deliver, in bytes. */
  readonly rxFrame: number;
  /**
   * Frames of one segment each that the device queues before it drops: the windows of all connections together stay below.
   * Left out or 0 when nothing is known, or when frames are so large that it doesn't matter.
   */
  readonly rxQueueFrames?: number;
  /**
   * Bytes before a received frame that its receiver may overwrite during the call, and the frame itself with them; left out or 0
   * when all has to stay as it is. A forwarder works there in place, instead of copying.
   */
  readonly rxHeadroom?: number;
  /** The same behind a received frame, when there is `rxHeadroom`. */
  readonly rxTailroom?: number;
}

/**
 * A thing that carries frames.
 *
 * All methods return at once. Results are counts or negative codes of `stack/codes.ts`: `EAGAIN` the device takes no
 * more now, `EIO` or `ENETDOWN` it is down for the moment, `ENODEV` it is gone for good.
 */
export interface Device {
  /** For people: "tap0". */
  readonly name: string;
  /** What a frame begins with: an Ethernet header, or the IP header. */
  readonly medium: "ethernet" | "ip";
  /** Largest IP packet in bytes, the link header not counted. */
  readonly mtu: number;
  /** Six bytes, or null on medium "ip". */
  readonly mac: Uint8Array | null;
  /** What the device can do. */
  readonly capabilities: DeviceCapabilities;
  /**
   * Attaches the device to its user. `wake` is to be called when frames wait after {@link arm}, when room came back after
   * an `EAGAIN`, and when the device goes away. `wake` only takes note; it never receives from inside the call.
   */
  open(wake: () => void): void;
  /** Asks for one call of `wake` when frames wait. Called when `receive` has returned less than its budget. */
  arm(): void;
  /** Hands at most `budget` waiting frames to `sink`. Returns how many, 0 for none, or a negative code. */
  receive(sink: FrameSink, budget: number): number;
  /** Sends a frame. Returns 0, or a negative code with nothing sent. */
  transmit(frame: TxFrame): number;
  /** Called at the end of a burst of `transmit`, for devices that gather. */
  flush?(): void;
  /** Gives everything back. A second call does nothing. */
  close(): void;
  /** Lets the device's waiting keep the process alive (as at first), or not; for devices whose waiting does. */
  ref?(): void;
  /** Lets the process end. */
  unref?(): void;
  /** The device's own counters, for people: names to numbers. */
  statistics?(): Record<string, number>;
}
