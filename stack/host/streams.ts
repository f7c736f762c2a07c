/**
 * Web streams over a connection.
 *
 * @module
 */
import { EAGAIN } from "../codes.ts";
import { bytesOf } from "./bytes.ts";
import { badResource } from "./errors.ts";

/** Bytes of the buffer that a reader without its own gets per chunk. */
const CHUNK_BYTES = 65_536;

/** What a stream reads from. */
export interface ByteSource {
  isClosed(): boolean;
  /** Bytes read, null at the end, `EAGAIN` when there is nothing now. Throws the connection's error. */
  tryRead(into: Uint8Array): number | null;
  read(into: Uint8Array): Promise<number | null>;
  /** Closes the connection; a second call does nothing. */
  release(): void;
}

/** What a stream writes to. */
export interface ByteTarget {
  isClosed(): boolean;
  write(bytes: Uint8Array): Promise<number>;
  /** Closes the connection; a second call does nothing. */
  release(): void;
}

function consumed(): Error {
  return badResource("The stream's underlying resource was closed or consumed");
}

/** A byte stream whose chunks are filled in the reader's own buffer. */
export function readableOf(source: ByteSource): ReadableStream<Uint8Array<ArrayBuffer>> {
  const finish = (controller: ReadableByteStreamController, count: number | null) => {
    const request = controller.byobRequest!;
    if (count !== null) return request.respond(count);
    source.release();
    controller.close();
    request.respond(0);
  };
  const fail = (controller: ReadableByteStreamController, error: unknown) => {
    source.release();
    controller.error(error);
  };
  const bytes: UnderlyingByteSource = {
    type: "bytes",
    autoAllocateChunkSize: CHUNK_BYTES,
    pull(controller: ReadableByteStreamController): Promise<void> | void {
      // Both kinds of reader come with a request, since chunks are allocated automatically.
      const view = controller.byobRequest!.view as Uint8Array<ArrayBuffer>;
      const into = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      try {
        if (source.isClosed()) throw consumed();
        const count = source.tryRead(into);
        if (count !== EAGAIN) return finish(controller, count);
      } catch (error) {
        return fail(controller, error);
      }
      return source.read(into).then((count) => finish(controller, count), (error) => fail(controller, error));
    },
    cancel(): void {
      source.release();
    },
  };
  return new ReadableStream(bytes, { highWaterMark: 0 });
}

/** A stream whose chunks, any buffers or views, are done when the send buffer has taken them. */
export function writableOf(target: ByteTarget): WritableStream<Uint8Array<ArrayBufferLike>> {
  return new WritableStream<Uint8Array<ArrayBufferLike>>({
    async write(chunk: Uint8Array, controller: WritableStreamDefaultController): Promise<void> {
      try {
        const bytes = bytesOf(chunk);
        if (target.isClosed()) throw consumed();
        const length = bytes.byteLength;
        for (let at = 0; at < length;) at += await target.write(at === 0 ? bytes : bytes.subarray(at));
      } catch (error) {
        controller.error(error);
        target.release();
        throw error;
      }
    },
    close(): void {
      target.release();
    },
    abort(): void {
      target.release();
    },
  });
}
