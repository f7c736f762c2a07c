/**
 * Tests on the real kernel change interfaces, so they run only in a network namespace of their own, which the wrapper
 * that makes it tells by TAPIOCA_KERNEL=1:
 *
 *     unshare -Urn sh -c 'ip link set lo up; TAPIOCA_KERNEL=1 deno test -A tests/ffi tests/drivers'
 */
import { libc } from "../../ffi/libc.ts";
import { wakersIdle } from "../../ffi/poll.ts";
import { deleteLink, linkExists, listLinks } from "../../ffi/rtnl_link.ts";

// Before any test: the library stays open for the process, and the sanitizer would blame whoever opened it.
libc();

const enabled = Deno.env.get("TAPIOCA_KERNEL") === "1";
let told = enabled;

/** A test that needs a network namespace of its own. */
export function kernelTest(name: string, run: () => void | Promise<void>): void {
  if (!told) console.log("kernel tests skipped: run `deno task test`, or any test under `unshare -Urn` with TAPIOCA_KERNEL=1");
  told = true;
  Deno.test({
    name,
    ignore: !enabled,
    fn: async () => {
      try {
        await run();
      } finally {
        // One test that failed must not make the next ones fail.
        for (const link of listLinks()) if (link.kind !== "" && linkExists(link.name)) deleteLink(link.name);
        // The last wait is on another thread, and comes back a little later: the sanitizer would blame the test.
        await wakersIdle();
      }
    },
  });
}

/** Catches what `run` throws. */
export function thrown(run: () => unknown): Error & { code?: string } {
  try {
    run();
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
  throw new Error("Nothing was thrown");
}
