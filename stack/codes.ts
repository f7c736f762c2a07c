/**
 * Result codes of everything inside `stack/`: 0 or a count when it went well, a negative Linux errno when not.
 * The host shell turns them into the errors that a Deno user knows; nothing below it throws.
 *
 * @module
 */

export const OK = 0;
export const EINTR = -4;
export const EIO = -5;
export const EBADF = -9;
export const EAGAIN = -11;
export const EACCES = -13;
export const ENODEV = -19;
export const EINVAL = -22;
export const EPIPE = -32;
export const EPROTO = -71;
export const EMSGSIZE = -90;
export const ENOPROTOOPT = -92;
export const EPROTONOSUPPORT = -93;
export const EADDRINUSE = -98;
export const EADDRNOTAVAIL = -99;
export const ENETDOWN = -100;
export const ENETUNREACH = -101;
export const ECONNABORTED = -103;
export const ECONNRESET = -104;
export const ENOBUFS = -105;
export const EISCONN = -106;
export const ENOTCONN = -107;
export const ETIMEDOUT = -110;
export const ECONNREFUSED = -111;
export const EHOSTDOWN = -112;
export const EHOSTUNREACH = -113;
export const EALREADY = -114;
export const EINPROGRESS = -115;
