/**
 * What the simple services say: the pattern of RFC 864, and a web page.
 *
 * @module
 */

/** Bytes of one chargen line: 72 characters, carriage return, line feed. */
export const LINE = 74;
/** Most bytes that `/bytes/N` gives: a mistyped number must not run for days. */
const BYTES_MAX = 2 ** 40;
const CHUNK = 256 * 1024;

/** RFC 864's "popular pattern": 72 of the 95 printing characters, each line begins one further. At least `size` bytes. */
export function chargenPattern(size: number): Uint8Array<ArrayBuffer> {
  // 95 lines are one whole turn of the ring, so that the pattern may be repeated end to end.
  const turn = 95 * LINE;
  const pattern = new Uint8Array(Math.ceil(size / turn) * turn);
  for (let i = 0; i < pattern.length; i++) {
    const line = Math.floor(i / LINE);
    const column = i % LINE;
    pattern[i] = column === 72 ? 13 : column === 73 ? 10 : 32 + (line + column) % 95;
  }
  return pattern;
}

/** `total` bytes, `0 1 2 … 255 0 …`, made as fast as they are read. */
function countingBytes(total: number): ReadableStream<Uint8Array> {
  const chunk = Uint8Array.from({ length: CHUNK }, (_, i) => i & 255);
  let left = total;
  return new ReadableStream({
    pull(controller) {
      const length = Math.min(left, CHUNK);
      left -= length;
      if (length > 0) controller.enqueue(length === CHUNK ? chunk : chunk.subarray(0, length));
      if (left === 0) controller.close();
    },
  }, { highWaterMark: 1 });
}

const PAGE = `<!doctype html>
<html lang="en">
<title>tapioca</title>
<h1>It works</h1>
<p>This page was sent by a TCP/IP stack written in TypeScript, in a Deno process of its own, over a TAP device.</p>
<p><a href="/bytes/1000000">A million bytes</a></p>
</html>
`;

/** `/` a page, `/bytes/N` N bytes, everything else 404. */
export function httpServices(request: Request): Response {
  const { pathname } = new URL(request.url);
  if (pathname === "/") return new Response(PAGE, { headers: { "content-type": "text/html; charset=utf-8" } });
  const count = Number(pathname.match(/^\/bytes\/(\d+)$/)?.[1] ?? NaN);
  if (!(count <= BYTES_MAX)) return new Response("Not found: try / or /bytes/N\n", { status: 404 });
  const headers = { "content-type": "application/octet-stream", "content-length": String(count) };
  return new Response(count === 0 ? null : countingBytes(count), { headers });
}
