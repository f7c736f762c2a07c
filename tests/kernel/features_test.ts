/** Linux's TCP with its features switched off and on one by one, as client and as server, bulk both ways. */
import { assert, assertEquals } from "@std/assert";
import type { TcpInfo } from "../../stack/tcp/types.ts";
import { lacksKernel, lacksSysctl, run } from "../testing/namespace.ts";
import { exchange, KERNEL, kernelCongestionControl, MiB, Oracle, sysctl, transfer } from "../testing/oracle.ts";

/** Newer kernels speak AccECN (RFC 9768), and know more values of tcp_ecn for it. */
function hasAccurateEcn(): boolean {
  try {
    using _ = sysctl({ tcp_ecn: 5 });
    return true;
  } catch {
    return false;
  }
}

const OPENERS = ["ours", "kernel"] as const;

/** What a connection says of what both ends have agreed on. */
function agreed({ timestamps, sack, windowScale, ecn }: TcpInfo) {
  return { timestamps, sack, windowScale: windowScale[0] > 0, ecn };
}

const ALL = { timestamps: true, sack: true, windowScale: true, ecn: false };

const SWITCHES: { name: string; settings: Record<string, number>; changes: Partial<typeof ALL> }[] = [
  { name: "all on", settings: {}, changes: {} },
  { name: "timestamps off", settings: { tcp_timestamps: 0 }, changes: { timestamps: false } },
  { name: "SACK off", settings: { tcp_sack: 0 }, changes: { sack: false } },
  { name: "D-SACK off", settings: { tcp_dsack: 0 }, changes: {} },
  { name: "window scaling off", settings: { tcp_window_scaling: 0 }, changes: { windowScale: false } },
  {
    name: "all three off",
    settings: { tcp_timestamps: 0, tcp_sack: 0, tcp_window_scaling: 0 },
    changes: { timestamps: false, sack: false, windowScale: false },
  },
  { name: "RACK off", settings: { tcp_recovery: 0 }, changes: {} },
  {
    name: "Nagle's and delayed acknowledgments' oddities on",
    settings: { tcp_autocorking: 0, tcp_early_retrans: 0 },
    changes: {},
  },
];

for (const { name, settings, changes } of SWITCHES) {
  Deno.test({
    name: `Linux with ${name}: as client and as server, agreed in the SYN, bulk both ways at once`,
    ignore: lacksSysctl(),
    async fn() {
      using _ = sysctl(settings);
      await using oracle = new Oracle();
      for (const opener of OPENERS) {
        const [ours, kernels] = await oracle.connect(opener);
        assertEquals(agreed(ours.info), { ...ALL, ...changes }, opener);
        await exchange(ours, kernels, 8 * MiB);
        assertEquals(ours.info.timeouts, 0);
        ours.close();
        kernels.close();
      }
    },
  });
}

Deno.test({
  name: "ours with each option off: Linux agrees, bulk both ways at once",
  ignore: lacksKernel(),
  async fn() {
    for (const off of ["timestamps", "sack", "windowScale"] as const) {
      await using oracle = new Oracle({ tcp: { [off]: false } });
      for (const opener of OPENERS) {
        const [ours, kernels] = await oracle.connect(opener);
        assertEquals(agreed(ours.info), { ...ALL, [off]: false }, opener);
        await exchange(ours, kernels, 2 * MiB);
        ours.close();
        kernels.close();
      }
    }
  },
});

Deno.test({
  name: "ECN: who asks for it and who grants it, both ways, as Linux's tcp_ecn 0, 1 and 2 have it; asked for AccECN, ECN",
  ignore: lacksSysctl(),
  async fn() {
    //= rfc3168#6.1.1 type=test
    // a host MUST NOT set ECT on ... unless both have agreed: the SYN asks with ECE and CWR, the SYN-ACK grants with ECE
    const newest = hasAccurateEcn() ? [3, 4, 5] : [];
    for (const mode of [0, 1, 2, ...newest]) {
      for (const ecn of [true, false, "accept"] as const) {
        using _ = sysctl({ tcp_ecn: mode });
        await using oracle = new Oracle({ tcp: { ecn } });
        for (const opener of OPENERS) {
          const asks = opener === "ours" ? ecn === true : mode === 1 || mode >= 3;
          const grants = opener === "ours" ? mode !== 0 : ecn !== false;
          const [ours, kernels] = await oracle.connect(opener);
          assertEquals([mode, ecn, opener, ours.info.ecn], [mode, ecn, opener, asks && grants]);
          await exchange(ours, kernels, MiB);
          ours.close();
          kernels.close();
        }
      }
    }
  },
});

Deno.test({
  name: "Linux with CUBIC and with Reno, ours with both: bulk both ways",
  ignore: lacksKernel(["ip", "ss"], "iproute2"),
  async fn() {
    await using oracle = new Oracle();
    for (const name of ["cubic", "reno"] as const) {
      await kernelCongestionControl(oracle, name);
      for (const congestionControl of ["cubic", "reno"] as const) {
        const [ours, kernels] = await oracle.connect("ours", { congestionControl });
        assertEquals(ours.info.congestionControl, congestionControl);
        const { stdout } = await run("ss", ["-tinOH", "state", "established", "src", KERNEL]);
        assert(stdout.includes(` ${name} `), stdout);
        await exchange(ours, kernels, 8 * MiB);
        ours.close();
        kernels.close();
      }
    }
  },
});

// 68 is the smallest that Linux allows on a TAP; below 1280 it has no IPv6 there, which nobody here needs.
for (const mtu of [68, 296, 576, 1280, 1500, 9000, 65_521, 65_535]) {
  Deno.test({
    name: `MTU ${mtu}${mtu > 65_521 ? " (a TUN)" : ""}, with and without offload: each way alone, and both at once`,
    ignore: lacksKernel(),
    async fn() {
      // 16 to 28 bytes in each packet: as many packets as 64 KiB segments make of 1 GiB.
      const size = mtu < 200 ? MiB >> 3 : mtu < 1000 ? 2 * MiB : 16 * MiB;
      for (const offload of [true, false]) {
        await using oracle = new Oracle({ mtu, offload, tun: mtu > 65_521 });
        for (const opener of OPENERS) {
          const [out, outPeer] = await oracle.connect(opener);
          const { sendMss } = out.info;
          assert(sendMss <= mtu - 40 && sendMss >= Math.min(mtu - 52, 8), `${sendMss}`);
          await transfer(out, outPeer, size);
          await transfer(outPeer, out, size);
          out.close();
          outPeer.close();
          const [both, bothPeer] = await oracle.connect(opener);
          await exchange(both, bothPeer, size >> 1);
          assertEquals(oracle.stack.statistics.stack.faults, 0);
          both.close();
          bothPeer.close();
        }
      }
    },
  });
}
