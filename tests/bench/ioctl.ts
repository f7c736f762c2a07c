/**
 * What supervision costs: `deno run -A tests/bench/ioctl.ts [--json]`. A C program asks a device 100,000 times, the kernel
 * as often, and makes calls that aren't watched; once by itself, once supervised, once with files answered too.
 *
 * @module
 */
import { superviseIoctls } from "../../drivers/supervisor/supervise.ts";
import { compile, compiler } from "../drivers/supervisor/programs.ts";

const COUNT = "100000";

interface Figures {
  answered: number;
  deviceNs: number;
  kernelNs: number;
  plainNs: number;
  openNs: number;
}

if (compiler === null) {
  console.error("ioctl.ts: apt-get install gcc libc6-dev");
  Deno.exit(2);
}
using program = compile(await Deno.readTextFile(new URL("ioctl.c", import.meta.url)));

async function supervised(files: boolean): Promise<Figures> {
  const device = { name: "demo0", index: 77_000, ioctl: () => 42 };
  const options = { files, stdout: "piped", stderr: "piped" } as const;
  await using process = await superviseIoctls([program.path, COUNT], [device], options);
  return JSON.parse(new TextDecoder().decode((await process.output()).stdout));
}

const { stdout } = await new Deno.Command(program.path, { args: [COUNT] }).output();
const rows: Record<string, Figures> = {
  "by itself": JSON.parse(new TextDecoder().decode(stdout)),
  supervised: await supervised(false),
  "with files": await supervised(true),
};
if (Deno.args.includes("--json")) console.log(JSON.stringify(rows));
else {
  for (const [name, { answered, deviceNs, kernelNs, plainNs, openNs }] of Object.entries(rows)) {
    const device = answered === 0 ? "-" : `${Math.round(1e9 / deviceNs).toLocaleString("en")}/s by the device`;
    console.log(
      `${name.padEnd(11)} ${device.padStart(26)}, ${
        Math.round(1e9 / kernelNs).toLocaleString("en").padStart(10)
      }/s by the kernel, ` +
        `getppid ${plainNs} ns, open and close ${openNs} ns`,
    );
  }
}
