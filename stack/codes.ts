/**
 * Result codes of everything inside `stack/`: 0 or a count when it went well, a negative Linux errno when not.
 * The host shell turns them into the errors that a Deno user knows; nothing below it throws.
 *
 * @module
 */

export const OK: number = 0;
/** Interrupted. */
export const EINTR: number = -4;
/** The device is down or broken. */
export const EIO: number = -5;
/** Closed already. */
export const EBADF: number = -9;
/** Not now: nothing there, or no room. */
export const EAGAIN: number = -11;
/** Not allowed. */
export const EACCES: number = -13;
/** The device is gone for good. */
export const ENODEV: number = -19;
/** An argument is wrong. */
export const EINVAL: number = -22;
/** This direction is shut. */
export const EPIPE: number = -32;
/** The peer breaks the protocol. */
export const EPROTO: number = -71;
/** Too long. */
export const EMSGSIZE: number = -90;
/** No such option. */
export const ENOPROTOOPT: number = -92;
/** No such protocol. */
export const EPROTONOSUPPORT: number = -93;
/** The address or port is taken. */
export const EADDRINUSE: number = -98;
/** Not an address of ours. */
export const EADDRNOTAVAIL: number = -99;
/** The device is down. */
export const ENETDOWN: number = -100;
/** No route there. */
export const ENETUNREACH: number = -101;
/** Ended from this side. */
export const ECONNABORTED: number = -103;
/** The peer has reset the connection. */
export const ECONNRESET: number = -104;
/** A table or queue is full. */
export const ENOBUFS: number = -105;
/** Connected already. */
export const EISCONN: number = -106;
/** Not connected. */
export const ENOTCONN: number = -107;
/** No answer in time. */
export const ETIMEDOUT: number = -110;
/** Nobody listens there. */
export const ECONNREFUSED: number = -111;
/** The host is down. */
export const EHOSTDOWN: number = -112;
/** The next hop doesn't answer, or a router says so. */
export const EHOSTUNREACH: number = -113;
/** Under way already. */
export const EALREADY: number = -114;
/** Begun, not finished. */
export const EINPROGRESS: number = -115;
