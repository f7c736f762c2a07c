/**
 * The one adapter from the result codes inside `stack/` to the errors that a Deno user knows.
 *
 * @module
 */
import * as codes from "../codes.ts";

/** An error with the system's name of it, as Deno's own carry it. */
export interface CodedError extends Error {
  /** For example `"ECONNREFUSED"`. */
  code?: string;
}

/** The device under a stack has gone for good: the TAP was deleted, the cable removed, the driver failed. */
export class DeviceGoneError extends Error {
  /** Always `"ENODEV"`. */
  readonly code: "ENODEV" = "ENODEV";

  /**
   * Says which device is gone.
   *
   * @param deviceName name of the device, for people
   * @param options `cause`: what the driver threw, if it did
   */
  constructor(deviceName: string, options?: ErrorOptions) {
    super(`No such device (os error 19): "${deviceName}" is gone, and with it every connection over it`, options);
    this.name = "DeviceGoneError";
  }
}

type ErrorClass = new (message: string) => Error;

interface Known {
  readonly name: string;
  readonly text: string;
  readonly make: ErrorClass;
}

/** By positive errno. Where Deno has no class of its own it throws a plain Error with a code, and so do we. */
const KNOWN = new Map<number, Known>([
  [codes.EINTR, { name: "EINTR", text: "Interrupted system call", make: Deno.errors.Interrupted }],
  [codes.EIO, { name: "EIO", text: "Input/output error", make: Error }],
  [codes.EBADF, { name: "EBADF", text: "Bad file descriptor", make: Deno.errors.BadResource }],
  [codes.EAGAIN, { name: "EAGAIN", text: "Resource temporarily unavailable", make: Deno.errors.WouldBlock }],
  [codes.EACCES, { name: "EACCES", text: "Permission denied", make: Deno.errors.PermissionDenied }],
  [codes.ENODEV, { name: "ENODEV", text: "No such device", make: Error }],
  [codes.EINVAL, { name: "EINVAL", text: "Invalid argument", make: TypeError }],
  [codes.EPIPE, { name: "EPIPE", text: "Broken pipe", make: Deno.errors.BrokenPipe }],
  [codes.EPROTO, { name: "EPROTO", text: "Protocol error", make: Error }],
  [codes.EMSGSIZE, { name: "EMSGSIZE", text: "Message too long", make: Error }],
  [codes.ENOPROTOOPT, { name: "ENOPROTOOPT", text: "Protocol not available", make: Error }],
  [codes.EPROTONOSUPPORT, { name: "EPROTONOSUPPORT", text: "Protocol not supported", make: Deno.errors.NotSupported }],
  [codes.EADDRINUSE, { name: "EADDRINUSE", text: "Address already in use", make: Deno.errors.AddrInUse }],
  [codes.EADDRNOTAVAIL, {
    name: "EADDRNOTAVAIL",
    text: "Cannot assign requested address",
    make: Deno.errors.AddrNotAvailable,
  }],
  [codes.ENETDOWN, { name: "ENETDOWN", text: "Network is down", make: Error }],
  [codes.ENETUNREACH, { name: "ENETUNREACH", text: "Network is unreachable", make: Deno.errors.NetworkUnreachable }],
  [codes.ECONNABORTED, {
    name: "ECONNABORTED",
    text: "Software caused connection abort",
    make: Deno.errors.ConnectionAborted,
  }],
  [codes.ECONNRESET, { name: "ECONNRESET", text: "Connection reset by peer", make: Deno.errors.ConnectionReset }],
  [codes.ENOBUFS, { name: "ENOBUFS", text: "No buffer space available", make: Error }],
  [codes.EISCONN, { name: "EISCONN", text: "Transport endpoint is already connected", make: Error }],
  [codes.ENOTCONN, { name: "ENOTCONN", text: "Transport endpoint is not connected", make: Deno.errors.NotConnected }],
  [codes.ETIMEDOUT, { name: "ETIMEDOUT", text: "Connection timed out", make: Deno.errors.TimedOut }],
  [codes.ECONNREFUSED, { name: "ECONNREFUSED", text: "Connection refused", make: Deno.errors.ConnectionRefused }],
  [codes.EHOSTDOWN, { name: "EHOSTDOWN", text: "Host is down", make: Error }],
  [codes.EHOSTUNREACH, { name: "EHOSTUNREACH", text: "No route to host", make: Error }],
  [codes.EALREADY, { name: "EALREADY", text: "Operation already in progress", make: Error }],
  [codes.EINPROGRESS, { name: "EINPROGRESS", text: "Operation now in progress", make: Error }],
]);

/** The system's name of a negative code: `"ECONNREFUSED"`; `"E123"` for one that we don't know. */
export function codeName(code: number): string {
  return KNOWN.get(code)?.name ?? `E${-code}`;
}

/**
 * The error for a negative code, of the class and with the wording that Deno has for it, and with `.code`.
 *
 * @param code negative code of `stack/codes.ts`
 * @param tried what was tried, for people: `connect 10.0.0.1:80`
 */
export function errorFrom(code: number, tried?: string): CodedError {
  const known = KNOWN.get(code);
  const base = `${known?.text ?? "Unknown error"} (os error ${-code})`;
  const error: CodedError = new (known?.make ?? Error)(tried === undefined ? base : `${base}: ${tried}`);
  error.code = codeName(code);
  return error;
}

/** What Deno says about a closed resource. */
export function badResource(message = "Bad resource ID"): Error {
  return new Deno.errors.BadResource(message);
}

/** What Deno says to whoever waited on a socket that was closed. */
export function interrupted(): CodedError {
  const error: CodedError = new Deno.errors.Interrupted("operation canceled");
  error.code = "EINTR";
  return error;
}

/** The reason of an aborted signal: what the caller gave, or a DOMException "AbortError". */
export function abortReason(signal: AbortSignal): unknown {
  return signal.reason ?? new DOMException("The signal has been aborted", "AbortError");
}
