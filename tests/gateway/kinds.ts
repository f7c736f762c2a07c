/** The same test over each kind of sockets that a gateway can carry its flows on with. */
import { HostSockets } from "../../drivers/host_sockets.ts";
import { wakersIdle } from "../../drivers/wake_event.ts";
import type { GatewaySockets } from "../../mod.ts";

const linux = Deno.build.os === "linux";
// Opens the library before the first test looks for leaks.
if (linux) new HostSockets();

/** Two tests: by Deno's sockets, and by libc's. */
export function eachKind(name: string, test: (sockets: GatewaySockets | undefined, libc: boolean) => Promise<void>): void {
  Deno.test(`${name}, by Deno's sockets`, () => test(undefined, false));
  Deno.test({
    name: `${name}, by libc's sockets`,
    ignore: !linux,
    fn: async () => {
      await test(new HostSockets(), true);
      await wakersIdle();
    },
  });
}
