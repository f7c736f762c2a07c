/**
 * TCP Fast Open: RFC 7413. Data in the SYN, for peers that have met before; a cookie proves that they have.
 *
 * @module
 */
import * as wire from "../wire/tcp.ts";
import type { Segment } from "../wire/tcp.ts";
import type { Listener } from "./listener.ts";
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";
import { acceptText } from "./text.ts";
import { SYN_SENT } from "./types.ts";

/** Servers whose cookies are kept; the one not used for longest goes. */
const CACHE_MAX = 1024;
/** Bytes of the cookies that we give out. */
const COOKIE_LENGTH = 8;
/** A server at which data in the SYN was lost is not tried again for so long (RFC 7413 4.1.3). */
const DISTRUST_MS = 3_600_000;

interface Known {
  cookie: Uint8Array;
  mss: number;
  distrustedUntil: number;
}

/** Cookies that servers gave us, by address. */
export class FastOpenCache {
  readonly #servers = new Map<number, Known>();

  get(key: number): Known | undefined {
    return this.#servers.get(key);
  }

  put(key: number, cookie: Uint8Array, mss: number): void {
    this.#servers.delete(key);
    if (this.#servers.size >= CACHE_MAX) {
      const [oldest] = this.#servers.keys();
      this.#servers.delete(oldest);
    }
    this.#servers.set(key, { cookie, mss, distrustedUntil: -Infinity });
  }
}

//= rfc7413#4.1.2
// The cookie is an encrypted data string suitable to authenticate the source IP address of the SYN packet.
function writeCookie(tcp: Tcp, localKey: number, remoteKey: number, view: DataView, offset: number): void {
  view.setInt32(offset, tcp.secret.hash(localKey, remoteKey, 0, 6));
  view.setInt32(offset + 4, tcp.secret.hash(localKey, remoteKey, 0, 7));
}

/** Bytes of options that a SYN has room for: what the header can say, or less on a path under 80 bytes. */
function optionRoom(tcb: Tcb): number {
  return Math.min(40, tcb.path.mtu - tcb.path.ipHeaderLength - wire.HEADER_LENGTH);
}

/**
 * Adds the Fast Open option to a SYN or SYN-ACK whose options end at `offset`; `used` option bytes are taken already.
 *
 * @returns bytes written
 */
export function emitFastOpen(tcp: Tcp, tcb: Tcb, view: DataView, offset: number, used: number): number {
  if (tcb.state !== SYN_SENT) {
    if (!tcb.fastOpenWanted || used + 4 + COOKIE_LENGTH > optionRoom(tcb)) return 0;
    const written = wire.emitFastOpenHead(view, offset, COOKIE_LENGTH);
    writeCookie(tcp, tcb.localKey, tcb.remoteKey, view, offset + written - COOKIE_LENGTH);
    return written;
  }
  //= rfc7413#4.1.3
  // If the SYN with data times out, the client should resend it without the option and data
  if (tcb.options.fastOpen !== true || tcb.backoff > 0) return 0;
  const known = tcp.fastOpenCache.get(tcb.remoteKey);
  const cookie = known === undefined || known.distrustedUntil > tcp.now ? null : known.cookie;
  const length = cookie === null ? 0 : cookie.length;
  if (used + 4 + length > optionRoom(tcb)) return 0;
  const written = wire.emitFastOpenHead(view, offset, length);
  for (let i = 0; cookie !== null && i < length; i++) view.setUint8(offset + written - length + i, cookie[i]);
  return written;
}

/** Bytes of the send ring that the SYN carries: none without a cookie. */
export function synData(tcp: Tcp, tcb: Tcb, optionsLength: number): number {
  if (tcb.state !== SYN_SENT || tcb.options.fastOpen !== true || tcb.backoff > 0 || tcb.sendRing.count === 0) return 0;
  const known = tcp.fastOpenCache.get(tcb.remoteKey);
  if (known === undefined || known.distrustedUntil > tcp.now) return 0;
  const fits = Math.min(known.mss, tcb.path.mtu - tcb.path.ipHeaderLength - wire.HEADER_LENGTH) - optionsLength;
  return Math.max(0, Math.min(tcb.sendRing.count, fits));
}

/** The SYN-ACK of our open came: its cookie is kept, and what it acknowledges of the SYN's data is taken off. */
export function fastOpenAnswered(tcp: Tcp, tcb: Tcb, seg: Segment): void {
  if (tcb.options.fastOpen !== true) return;
  if (seg.fastOpenLength >= 4) {
    tcp.fastOpenCache.put(tcb.remoteKey, seg.fastOpenCookie.slice(0, seg.fastOpenLength), tcb.peerMss);
  }
  const first = (tcb.iss + 1) | 0;
  const acked = (seg.ack - first) | 0;
  if (acked > 0) {
    tcb.sendRing.drop(Math.min(acked, tcb.sendRing.count));
    tcb.bytesSent += acked;
    tcb.bytesAcked += acked;
    tcp.statistics.fastOpens++;
    if (tcb.sendRing.count === 0) tcb.sendRing.free();
  } else if (tcb.sndNxt !== first) {
    // The server took the SYN and not its data, or the data was lost: once is enough.
    tcp.statistics.fastOpenRefused++;
  }
  if (tcb.backoff > 0) {
    const known = tcp.fastOpenCache.get(tcb.remoteKey);
    if (known !== undefined && seg.fastOpenLength < 0) known.distrustedUntil = tcp.now + DISTRUST_MS;
  }
  tcb.sndNxt = seg.ack;
}

/** The peer has proved that it is there, or the connection is gone: it counts against its listener's limit no more. */
export function fastOpenProved(tcb: Tcb): void {
  if (tcb.fastOpenPending !== null) tcb.fastOpenPending.fastOpenPending--;
  tcb.fastOpenPending = null;
}

/** A SYN for a listener that knows Fast Open. Takes the data if the cookie is right. */
export function fastOpenSyn(tcp: Tcp, tcb: Tcb, listener: Listener, seg: Segment, now: number): void {
  if (listener.options.fastOpen !== true || seg.fastOpenLength < 0) return;
  tcb.fastOpenWanted = true; // the answer carries a cookie, fresh or again
  if (seg.fastOpenLength !== COOKIE_LENGTH || seg.textLength === 0) return;
  const expected = new DataView(new ArrayBuffer(COOKIE_LENGTH));
  writeCookie(tcp, tcb.localKey, tcb.remoteKey, expected, 0);
  let same = 0;
  for (let i = 0; i < COOKIE_LENGTH; i++) same |= expected.getUint8(i) ^ seg.fastOpenCookie[i];
  if (same !== 0) return;
  //= rfc7413#5.1
  // The server MUST limit the number of total pending TFO connection requests: when exceeded, it disables TFO until the number
  // falls below the limit
  if (listener.fastOpenPending >= tcp.limits.fastOpenPendingMax) {
    tcp.statistics.fastOpenOverflow++;
    return;
  }
  listener.fastOpenPending++;
  tcb.fastOpenPending = listener;
  //= rfc7413#4.2.2
  // If the cookie is valid, the server ... passes the data to the application, and MAY send response data before the
  // handshake completes
  tcb.fastOpenWanted = false;
  tcb.fastOpened = true;
  // From here on the SYN counts as acknowledged: data may follow it, and only the SYN-ACK's own timer knows better.
  tcb.sndUna = tcb.sndNxt;
  tcp.statistics.fastOpens++;
  seg.seq = (seg.seq + 1) | 0;
  listener.established(tcb);
  acceptText(tcp, tcb, seg, now);
}
