/**
 * Pings a host from an address of its own: `deno run -A examples/ping.ts HOST [--count 4]`.
 *
 * Needs the rights to make a TAP device; for a try without them:
 *
 *     unshare -Urn deno run -A examples/ping.ts 10.0.0.1
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { NetStack, TapDevice } from "../mod.ts";

const options = parseArgs(Deno.args, { string: ["count"], default: { count: "4" } });
const host = options._.length === 1 ? String(options._[0]) : "";
const count = Number(options.count);
if (host === "" || !(Number.isInteger(count) && count > 0)) {
  console.error("usage: ping.ts HOST [--count 4]");
  Deno.exit(2);
}

const device = TapDevice.open({ host: { address: "10.0.0.1/24" } });
await using stack = new NetStack(device, { address: "10.0.0.2/24", gateway: "10.0.0.1" });

let lost = 0;
for (let sequence = 1; sequence <= count; sequence++) {
  try {
    const reply = await stack.ping(host, { sequence, timeoutMs: 1000 });
    console.log(
      `${reply.size} bytes from ${reply.address}: sequence ${sequence}, ttl ${reply.ttl}, ${reply.roundTripMs.toFixed(3)} ms`,
    );
  } catch (error) {
    lost++;
    console.log(`sequence ${sequence}: ${(error as Error).message}`);
  }
}
console.log(`${count} sent, ${count - lost} received`);
Deno.exitCode = lost === count ? 1 : 0;
