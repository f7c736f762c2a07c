/**
 * What the README promises to somebody without root: the demo over a real TAP, in namespaces of his own.
 *
 * Root runs this as user nobody, with copies of what root's home hides: Deno itself, its cache, the project.
 */
import { assertEquals } from "@std/assert";
import { lacksPrograms, lacksRoot, run } from "../testing/namespace.ts";
import { copyForNobody, wordsOfNobody } from "../testing/nobody.ts";

/** A device node as most distributions have it, for everybody, seen by the test's own processes only. */
const WITH_NODE = 'mount --bind "$0" /dev/net/tun 2>/dev/null; exec "$@"';

Deno.test({
  name: "an ordinary user runs the demo on a real TAP, in user and network namespaces",
  ignore: lacksRoot() || lacksPrograms(["setpriv", "unshare"], "util-linux"),
  async fn() {
    const folder = await Deno.makeTempDir({ prefix: "tapioca_nobody_" });
    try {
      await copyForNobody(folder);
      const asNobody = wordsOfNobody(folder, [`${folder}/deno`, "run", "-A", `${folder}/project/examples/demo.ts`, "--json"]);
      const words = ["-m", "sh", "-c", WITH_NODE, `${folder}/tun`, ...asNobody];
      const { code, stdout, stderr } = await run("unshare", words, { timeoutMs: 120_000 });
      assertEquals(code, 0, stderr + stdout);
      const report = JSON.parse(stdout);
      const refused = stderr.includes("in-memory cable");
      assertEquals(report.ok, true, stdout);
      assertEquals(report.realDevice, !refused, "over the cable only where the device is refused, and then it says so");
      if (refused) console.log(`No real device for an ordinary user here: ${stderr.trim()}`);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
