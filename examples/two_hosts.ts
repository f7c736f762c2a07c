/**
 * Two hosts joined by an in-memory cable: no kernel, no privilege, no set-up. `deno run examples/two_hosts.ts`
 *
 * @module
 */
import { cable, NetStack, serve } from "../mod.ts";

const [left, right] = cable();
await using alice = new NetStack(left, { address: "10.0.0.1/24" });
await using bob = new NetStack(right, { address: "10.0.0.2/24" });

const reply = await alice.ping("10.0.0.2");
console.log(`ping: ${reply.size} bytes from ${reply.address}`);

const server = serve(bob.listen({ port: 80 }), () => new Response("Hello from bob\n"));
using conn = await alice.connect({ hostname: "10.0.0.2", port: 80 });
await conn.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: bob\r\nConnection: close\r\n\r\n"));
const answer = await new Response(conn.readable).text();
console.log(`http: ${answer.split("\r\n")[0]}: ${answer.split("\r\n\r\n")[1].trim()}`);

await server.shutdown();
