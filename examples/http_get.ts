/**
 * Fetches a page through a TCP/IP stack of its own: `deno run -A examples/http_get.ts http://10.0.0.1:8000/`.
 *
 * HTTP/1.1 spoken by hand over `stack.connect`, to show what the connection is: a `Deno.TcpConn`.
 *
 * @module
 */
import { NetStack, TapDevice } from "../mod.ts";

if (Deno.args.length !== 1 || URL.parse(Deno.args[0])?.protocol !== "http:") {
  console.error("usage: http_get.ts http://HOST[:PORT]/PATH");
  Deno.exit(2);
}
const url = new URL(Deno.args[0]);

const device = TapDevice.open({ host: { address: "10.0.0.1/24" } });
await using stack = new NetStack(device, { address: "10.0.0.2/24", gateway: "10.0.0.1" });
using conn = await stack.connect({ hostname: url.hostname, port: Number(url.port || 80), signal: AbortSignal.timeout(10_000) });

const request = `GET ${url.pathname}${url.search} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n\r\n`;
await conn.write(new TextEncoder().encode(request));
// The answer as it comes, head and body; the other end closes when it is complete.
await conn.readable.pipeTo(Deno.stdout.writable, { preventClose: true });
