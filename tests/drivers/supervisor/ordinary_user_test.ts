/** An ordinary user supervises programs, without any privilege. Root runs this as user nobody. */
import { assertEquals } from "@std/assert";
import { lacksKernel, lacksPrograms, lacksRoot, run } from "../../testing/namespace.ts";
import { copyForNobody, wordsOfNobody } from "../../testing/nobody.ts";
import { compile, compiler } from "./programs.ts";

const SCRIPT = `
import { superviseIoctls } from "./project/drivers/supervisor/supervise.ts";
const device = { name: "demo0", index: 1000, ioctl: (request) => request === 0x89f0 ? 42 : -95 };
await using process = await superviseIoctls(["sh", "-c", "./program; ./program"], [device], { stdout: "piped", stderr: "piped" });
const { code, stdout, stderr } = await process.output();
console.log(code, new TextDecoder().decode(stdout).trim(), new TextDecoder().decode(stderr), process.statistics.unreadable);
`;

const ignore = lacksKernel() || lacksRoot() || lacksPrograms(["setpriv"], "util-linux") ||
  (compiler === null && lacksKernel(["gcc"], "gcc libc6-dev"));

Deno.test({
  name: "D4.7 as an ordinary user: a C program below a shell gets the device's answers",
  ignore,
  async fn() {
    using program = compile(`
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <net/if.h>
int main(void) {
  struct ifreq r = { .ifr_name = "demo0" }, lo = { .ifr_name = "lo" };
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  int answer = ioctl(s, 0x89f0, &r);
  ioctl(s, SIOCGIFMTU, &lo);
  printf("%d %d;", answer, lo.ifr_mtu);
  return 0;
}`);
    const folder = await Deno.makeTempDir({ prefix: "tapioca_nobody_" });
    try {
      await Deno.writeTextFile(`${folder}/script.ts`, SCRIPT);
      await Deno.copyFile(program.path, `${folder}/program`);
      await copyForNobody(folder);
      const [setpriv, ...words] = wordsOfNobody(folder, [`${folder}/deno`, "run", "-A", "--no-check", `${folder}/script.ts`]);
      const { code, stdout, stderr } = await run(setpriv, words);
      assertEquals([code, stdout.trim(), stderr], [0, "0 42 65536;42 65536;  0", ""]);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
