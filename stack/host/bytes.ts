/**
 * What a caller gives to be read into or written: bytes, or an error in Deno's words before anything is read or lost.
 *
 * @module
 */

const tagOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)!.get!;

/** True for a `Uint8Array`, and for one of another realm (`node:vm`). */
export function isBytes(given: unknown): given is Uint8Array {
  return given instanceof Uint8Array || tagOf.call(given) === "Uint8Array";
}

/** What a call that takes a `Uint8Array` gives for anything else. */
export function notBytes(): Promise<never> {
  return Promise.reject(new TypeError("expected typed ArrayBufferView"));
}

/** Any buffer or view as bytes, for a stream. Throws a TypeError for what is neither. */
export function bytesOf(chunk: unknown): Uint8Array {
  if (isBytes(chunk)) return chunk;
  if (ArrayBuffer.isView(chunk)) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (chunk instanceof ArrayBuffer || chunk instanceof SharedArrayBuffer) return new Uint8Array(chunk);
  throw new TypeError("Expected ArrayBuffer or ArrayBufferView for write chunk");
}

/** For a call that has waited, with a buffer that has no bytes any more. */
export function transferred(): TypeError {
  return new TypeError("the buffer was transferred while the call waited for its turn: nothing was read or written");
}
