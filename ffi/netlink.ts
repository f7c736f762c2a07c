/**
 * Netlink: requests to the kernel's network configuration over a short-lived socket, answered at once (the kernel works
 * a request off inside `send`, so nothing here needs to be asynchronous).
 *
 *     nlmsghdr  length u32, type u16, flags u16, sequence u32, port u32
 *     nlattr    length u16 (with these 4 bytes), type u16, payload, padding to 4
 *
 * @module
 */
import { Descriptor } from "./descriptor.ts";
import { EAGAIN, EMSGSIZE, EPERM, errnoError, PRIVILEGE_HINT } from "./errno.ts";
import { cString, libc } from "./libc.ts";

export const NLM_F_REQUEST = 0x001;
export const NLM_F_ACK = 0x004;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const HEADER = 16;

/** Largest request that we build, in bytes. */
export const REQUEST_MAX = 8192;
/** Largest single answer that we take; the kernel's dumps come in pieces of at most 32 KiB. */
const ANSWER_MAX = 65536;
/** A dump that changed while it was read is read again, at most so often. */
const DUMP_TRIES = 8;
/** Messages taken for one request: a bound, far above any table that we list. */
const MESSAGES_MAX = 1_000_000;

/** A request under construction: a header, a fixed part, then attributes. */
export class NetlinkMessage {
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(REQUEST_MAX);
  readonly view: DataView<ArrayBuffer> = new DataView(this.bytes.buffer);
  length = HEADER;

  constructor(readonly type: number, readonly flags = 0) {}

  /** @throws `InvalidData` (EMSGSIZE) when the request is too long */
  #room(n: number): number {
    const at = this.length;
    if (at + n > REQUEST_MAX) throw errnoError("build", "a netlink request", EMSGSIZE, `At most ${REQUEST_MAX} bytes`);
    this.length = at + n;
    return at;
  }

  u8(value: number): this {
    this.view.setUint8(this.#room(1), value);
    return this;
  }

  u16(value: number): this {
    this.view.setUint16(this.#room(2), value, true);
    return this;
  }

  u32(value: number): this {
    this.view.setUint32(this.#room(4), value, true);
    return this;
  }

  attribute(type: number, payload: Uint8Array): this {
    const size = 4 + payload.length;
    const at = this.#room((size + 3) & ~3);
    this.view.setUint16(at, size, true);
    this.view.setUint16(at + 2, type, true);
    this.bytes.set(payload, at + 4);
    return this;
  }

  attributeU32(type: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    return this.attribute(type, bytes);
  }

  attributeText(type: number, text: string): this {
    return this.attribute(type, cString(text));
  }

  /** Opens a nested attribute; what `inside` adds becomes its payload. */
  nest(type: number, inside: () => void): this {
    const at = this.#room(4);
    inside();
    this.view.setUint16(at, this.length - at, true);
    this.view.setUint16(at + 2, type, true);
    return this;
  }
}

/** A message or attribute that was received: a range of bytes. Valid during the call that hands it over. */
export interface NetlinkPart {
  readonly type: number;
  readonly view: DataView;
  readonly bytes: Uint8Array;
}

/** Attributes of a message, behind its fixed part; the last of a type wins. Broken lengths end the list. */
export function attributes(part: NetlinkPart, fixed: number): Map<number, NetlinkPart> {
  const found = new Map<number, NetlinkPart>();
  let at = (fixed + 3) & ~3;
  while (at + 4 <= part.bytes.length) {
    const size = part.view.getUint16(at, true);
    if (size < 4 || at + size > part.bytes.length) break;
    const type = part.view.getUint16(at + 2, true) & 0x3fff; // without the "nested" and "network order" bits
    const bytes = part.bytes.subarray(at + 4, at + size);
    found.set(type, { type, bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) });
    at += (size + 3) & ~3;
  }
  return found;
}

/** Text of an attribute, without its final zero. */
export function attributeText(part: NetlinkPart | undefined): string {
  if (part === undefined) return "";
  const end = part.bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? part.bytes : part.bytes.subarray(0, end));
}

/** A 32-bit attribute, or `missing`. */
export function attributeU32(part: NetlinkPart | undefined, missing = 0): number {
  return part === undefined || part.bytes.length < 4 ? missing : part.view.getUint32(0, true);
}

/** What the kernel said about an error, from the extended acknowledgement. */
function extendedText(part: NetlinkPart, flags: number): string {
  if ((flags & NLM_F_ACK_TLVS) === 0 || part.bytes.length < 20) return "";
  const quoted = (flags & NLM_F_CAPPED) !== 0 ? HEADER : part.view.getUint32(4, true);
  return attributeText(attributes(part, 4 + quoted).get(1));
}

/** A socket to the kernel's routing and link configuration, in the network namespace of the thread that opens it. */
export class NetlinkSocket extends Descriptor {
  #sequence = 0;

  constructor() {
    const lib = libc();
    const fd = lib.socket(16, /* AF_NETLINK */ 3 /* SOCK_RAW */ | 0x80000, 0 /* NETLINK_ROUTE */);
    if (fd < 0) throw errnoError("open", "a netlink socket", lib.errno[0]);
    super(fd);
    const on = new Uint8Array([1, 0, 0, 0]);
    const seconds = new Uint8Array([5, ...new Array<number>(15).fill(0)]);
    // Each may be missing in an old kernel, which then says less: capped and extended acknowledgements, strict filters.
    for (const option of [10, 11, 12]) lib.setsockopt(fd, 270, option, on, 4);
    lib.setsockopt(fd, 1, 20, /* SO_RCVTIMEO */ seconds, 16); // a kernel that doesn't answer must not hang the process
  }

  /**
   * Sends a request and waits for its acknowledgement. Answers before it go to `each`.
   *
   * @param op and `what` name the request in the error: "set", `link "tap0"`
   * @throws the error of `errnoError`, with the kernel's own explanation if it gives one
   */
  request(message: NetlinkMessage, op: string, what: string, each: (part: NetlinkPart) => void = () => {}): void {
    this.#exchange(message, NLM_F_REQUEST | NLM_F_ACK, op, what, each);
  }

  /** Lists: every entry goes to `each`; `restart` is called before a list is read again because it changed meanwhile. */
  dump(message: NetlinkMessage, op: string, what: string, each: (part: NetlinkPart) => void, restart: () => void): void {
    for (let i = 0; i < DUMP_TRIES; i++) {
      restart();
      if (this.#exchange(message, NLM_F_REQUEST | NLM_F_DUMP, op, what, each)) return;
    }
    throw errnoError(op, what, EAGAIN, "It changes faster than it can be read");
  }

  #send(message: NetlinkMessage, flags: number, op: string, what: string): void {
    const lib = libc();
    const sequence = ++this.#sequence;
    message.view.setUint32(0, message.length, true);
    message.view.setUint16(4, message.type, true);
    message.view.setUint16(6, message.flags | flags, true);
    message.view.setUint32(8, sequence, true);
    message.view.setUint32(12, 0, true);
    if (lib.send(this.fd, message.bytes, message.length, 0) < 0) throw errnoError(op, what, lib.errno[0]);
  }

  /** True when the answer is consistent, false when a dump was interrupted by a change. */
  #exchange(message: NetlinkMessage, flags: number, op: string, what: string, each: (part: NetlinkPart) => void): boolean {
    this.#send(message, flags, op, what);
    const lib = libc();
    const answer = new Uint8Array(ANSWER_MAX);
    let consistent = true;
    for (let count = 0; count < MESSAGES_MAX;) {
      const n = lib.recv(this.fd, answer, ANSWER_MAX, 0);
      if (n < 0) throw errnoError(op, what, lib.errno[0], "The kernel did not answer");
      const view = new DataView(answer.buffer, 0, n);
      for (let at = 0; at + HEADER <= n; count++) {
        const size = view.getUint32(at, true);
        if (size < HEADER || at + size > n) break;
        const bytes = answer.subarray(at + HEADER, at + size);
        const part = { type: view.getUint16(at + 4, true), bytes, view: new DataView(answer.buffer, at + HEADER, bytes.length) };
        const partFlags = view.getUint16(at + 6, true);
        const ours = view.getUint32(at + 8, true) === this.#sequence;
        at += (size + 3) & ~3;
        if (!ours) continue;
        if (part.type === NLMSG_ERROR || part.type === NLMSG_DONE) {
          const code = bytes.length >= 4 ? part.view.getInt32(0, true) : 0;
          if (code === 0) return consistent && (partFlags & NLM_F_DUMP_INTR) === 0;
          const said = part.type === NLMSG_ERROR ? extendedText(part, partFlags) : "";
          const hint = said !== "" ? `The kernel says: ${said}` : code === -EPERM ? PRIVILEGE_HINT : "";
          throw errnoError(op, what, code, hint);
        }
        if ((partFlags & NLM_F_DUMP_INTR) !== 0) consistent = false;
        each(part);
      }
    }
    throw errnoError(op, what, EMSGSIZE, "The answer has no end");
  }
}
