/** How `examples/simple_services.ts` starts, ends, and bears what happens to its device. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { lacksKernel, run } from "../testing/namespace.ts";
import { Service } from "../testing/service.ts";

const NAME = "tlife";
const ADDRESS = "10.1.4.2";
const ARGS = ["--name", NAME, "--address", `${ADDRESS}/24`];
const HOST = ["--host-address", "10.1.4.1/24"];

function links(): Promise<string> {
  return run("ip", ["-o", "link"]).then(({ stdout }) => stdout);
}

async function answers(): Promise<boolean> {
  return (await run("ping", ["-q", "-c", "3", "-i", "0.2", "-W", "1", ADDRESS])).stdout.includes("3 received");
}

Deno.test({
  name: "wrong arguments: one line that says what is wrong, exit code 2, and no device was made",
  ignore: lacksKernel(["ip"], "iproute2"),
  async fn() {
    const wrong = [
      ["--nonsense"],
      ["extra"],
      ["--mtu", "67"],
      ["--mtu", "abc"],
      ["--mtu", "70000"],
      ["--name", "a-name-over-15-bytes"],
      ["--name", "a/b"],
      ["--address", "10.0.0.300/24"],
      ["--address", "10.0.0.2/33"],
      ["--address", "224.0.0.1/24"],
      ["--gateway", "nowhere"],
      ["--host-address", "10.0.0/24"],
      ["--address"],
    ];
    for (const args of wrong) {
      const { code, stdout, stderr } = await run(Deno.execPath(), [
        "run",
        "-A",
        "examples/simple_services.ts",
        "--name",
        NAME,
        ...args,
      ]);
      assertEquals([args, code, stdout], [args, 2, ""], stderr);
      assertMatch(stderr, /^simple_services: .+/, `${args}`);
      assert(!stderr.includes("    at "), `${args}: a stack trace is not for users: ${stderr}`);
    }
    assert(!(await links()).includes(NAME));
  },
});

Deno.test({
  name: "SIGINT and SIGTERM: exit 0, nothing said on stderr, the device is gone",
  ignore: lacksKernel(["ip", "ping"], "iproute2 iputils-ping"),
  async fn() {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      await using service = await Service.start([...ARGS, ...HOST]);
      assert((await links()).includes(NAME));
      using conn = await Deno.connect({ hostname: ADDRESS, port: 19 });
      await conn.read(new Uint8Array(100));
      assertEquals(await service.stop(signal), { code: 0, stderr: "" });
      assert(!(await links()).includes(NAME));
    }
  },
});

Deno.test({
  name: "D6.3 a persistent device made by ip tuntap: used as it is, up or not, its host side not touched, and left there",
  ignore: lacksKernel(["ip", "ping"], "iproute2 iputils-ping"),
  async fn() {
    for (const vnet of [[], ["vnet_hdr"]]) {
      await run("ip", ["tuntap", "add", "dev", NAME, "mode", "tap", ...vnet]);
      await using service = await Service.start(ARGS);
      assert((await links()).includes("state DOWN"), "without --host-address the host side is not touched");
      await run("ip", ["address", "add", "10.1.4.1/24", "dev", NAME]);
      await run("ip", ["link", "set", NAME, "up"]);
      assert(await answers(), "it answers once somebody else has brought the device up");
      assertEquals((await service.stop()).code, 0);
      assert((await links()).includes(NAME));
      await using again = await Service.start(ARGS);
      assert(await answers());
      assertEquals((await again.stop()).code, 0);
      await run("ip", ["link", "delete", NAME]);
    }
  },
});

Deno.test({
  name: "D6.4 the device goes down and comes back: the service goes on",
  ignore: lacksKernel(["ip", "ping"], "iproute2 iputils-ping"),
  async fn() {
    await using service = await Service.start([...ARGS, ...HOST]);
    using conn = await Deno.connect({ hostname: ADDRESS, port: 7 });
    for (let round = 0; round < 3; round++) {
      await run("ip", ["link", "set", NAME, "down"]);
      assert(!await answers());
      await run("ip", ["link", "set", NAME, "up"]);
      assert(await answers());
    }
    await conn.write(new TextEncoder().encode("still here"));
    const buffer = new Uint8Array(100);
    assertEquals(await conn.read(buffer), 10, "a connection outlives a device that was down");
    assertEquals((await service.stop()).code, 0);
  },
});

Deno.test({
  name: "the device is deleted under it: a clear line, a code that isn't 0, and the process ends by itself",
  ignore: lacksKernel(["ip"], "iproute2"),
  async fn() {
    for (const busy of [false, true]) {
      await using service = await Service.start([...ARGS, ...HOST]);
      const conn = busy ? await Deno.connect({ hostname: ADDRESS, port: 19 }) : null;
      await run("ip", ["link", "delete", NAME]);
      const { code, stderr } = await service.ended(20_000);
      conn?.close();
      assertEquals(code, 1, stderr);
      assertMatch(stderr, /^simple_services: .*tlife.*\n$/);
    }
  },
});

Deno.test({
  name: "without the right to make a device: what to do, exit 1",
  ignore: lacksKernel(["setpriv"], "util-linux"),
  async fn() {
    const service = [Deno.execPath(), "run", "-A", "examples/simple_services.ts", ...ARGS, ...HOST];
    const { code, stderr } = await run("setpriv", ["--bounding-set=-net_admin", "--inh-caps=-net_admin", ...service]);
    assertEquals(code, 1, stderr);
    assertMatch(stderr, /^simple_services: .*(EPERM|EACCES).*unshare -Urn/s);
  },
});
