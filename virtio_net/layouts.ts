/**
 * The two structures of virtio-net that a program meets: its configuration, and the header before every frame.
 *
 * @module
 */
/** Bytes of {@link Config}. */
export const CONFIG_SIZE = 12;
/** Bytes of {@link Header}. */
export const HEADER_SIZE = 12;

function viewOf(bytes: Uint8Array, size: number, what: string): DataView {
  if (bytes.length < size) throw new RangeError(`${what} has ${size} bytes, not ${bytes.length}`);
  return new DataView(bytes.buffer, bytes.byteOffset, size);
}

/** The device's configuration (virtio 1.2, 5.1.4), 12 bytes, little-endian. */
export class Config {
  /** `mac` six bytes; `status` bit 0: the link is up; `maxVirtqueuePairs` and `mtu` 0 where the device doesn't say. */
  constructor(
    readonly mac: Uint8Array = new Uint8Array(6),
    readonly status = 0,
    readonly maxVirtqueuePairs = 0,
    readonly mtu = 0,
  ) {
    if (mac.length !== 6) throw new RangeError(`a MAC address has 6 bytes, not ${mac.length}`);
  }

  /** Reads 12 bytes. @throws {RangeError} for fewer */
  static decode(bytes: Uint8Array): Config {
    const view = viewOf(bytes, CONFIG_SIZE, "the configuration");
    return new Config(bytes.slice(0, 6), view.getUint16(6, true), view.getUint16(8, true), view.getUint16(10, true));
  }

  /** 12 bytes. */
  encode(): Uint8Array {
    const bytes = new Uint8Array(CONFIG_SIZE);
    const view = new DataView(bytes.buffer);
    bytes.set(this.mac);
    view.setUint16(6, this.status, true);
    view.setUint16(8, this.maxVirtqueuePairs, true);
    view.setUint16(10, this.mtu, true);
    return bytes;
  }
}

/** `virtio_net_hdr` (virtio 1.2, 5.1.6), 12 bytes, little-endian. */
export class Header {
  /** 1: the checksum is to be filled in; 2: it was verified. */
  flags = 0;
  /** 0 a frame of one segment, 1 TCP over IPv4, 4 over IPv6, 5 UDP; bit 7 with ECN. */
  gsoType = 0;
  /** Bytes of all headers in front of the payload to be cut. */
  hdrLen = 0;
  /** Payload bytes per segment. */
  gsoSize = 0;
  /** Where the checksum begins to count, from the frame's first byte. */
  csumStart = 0;
  /** Where it lies behind that. */
  csumOffset = 0;
  /** Buffers that a received frame took. */
  numBuffers = 0;

  /** Reads 12 bytes. @throws {RangeError} for fewer */
  static decode(bytes: Uint8Array): Header {
    const view = viewOf(bytes, HEADER_SIZE, "the header");
    const header = new Header();
    header.flags = view.getUint8(0);
    header.gsoType = view.getUint8(1);
    header.hdrLen = view.getUint16(2, true);
    header.gsoSize = view.getUint16(4, true);
    header.csumStart = view.getUint16(6, true);
    header.csumOffset = view.getUint16(8, true);
    header.numBuffers = view.getUint16(10, true);
    return header;
  }

  /** 12 bytes. */
  encode(): Uint8Array {
    const bytes = new Uint8Array(HEADER_SIZE);
    const view = new DataView(bytes.buffer);
    view.setUint8(0, this.flags);
    view.setUint8(1, this.gsoType);
    view.setUint16(2, this.hdrLen, true);
    view.setUint16(4, this.gsoSize, true);
    view.setUint16(6, this.csumStart, true);
    view.setUint16(8, this.csumOffset, true);
    view.setUint16(10, this.numBuffers, true);
    return bytes;
  }
}
