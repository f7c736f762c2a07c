/**
 * The real kernel as TCP's oracle: a TAP between it and a stack of ours, the kernel's switches, transfers that are checked.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import type { Device } from "../../stack/device.ts";
import { TapDevice } from "../../drivers/tap.ts";
import { TunDevice } from "../../drivers/tun.ts";
import type { TunTapDevice } from "../../drivers/tuntap.ts";
import { libc } from "../../ffi/libc.ts";
import { wakersIdle } from "../../ffi/poll.ts";
import { NetStack } from "../../stack/host/net_stack.ts";
import type { TcpConn } from "../../stack/host/tcp_conn.ts";
import type { TcpOptions } from "../../stack/tcp/types.ts";
import { run } from "./namespace.ts";
import { within } from "./service.ts";

/** The kernel's address and ours, on the TAP. */
export const KERNEL = "10.9.0.1";
export const OURS = "10.9.0.2";
export const MiB = 1 << 20;

export interface OracleOptions {
  mtu?: number;
  offload?: boolean;
  tcp?: TcpOptions;
  /** Puts something between the TAP and the stack. */
  between?: (tap: TunTapDevice) => Device;
  /** A TUN instead of a TAP. */
  tun?: boolean;
}

// Before any test: the library stays open for the process, and the sanitizer would blame whoever opened it.
libc();

let serial = 0;

/** A stack of ours and the kernel, at the two ends of a new TAP. */
export class Oracle implements AsyncDisposable {
  readonly name: string = `torc${serial++}`;
  readonly tap: TunTapDevice;
  readonly stack: NetStack;

  constructor(options: OracleOptions = {}) {
    const { mtu, offload, tcp, between = (tap: TunTapDevice) => tap } = options;
    const settings = { name: this.name, mtu, offload, host: { address: `${KERNEL}/24`, mtu } };
    this.tap = options.tun === true ? TunDevice.open(settings) : TapDevice.open(settings);
    this.stack = new NetStack(between(this.tap), { address: `${OURS}/24`, tcp });
  }

  /** A connection between the two: [ours, the kernel's]. `opener` sends the SYN. */
  async connect(opener: "ours" | "kernel", options: TcpOptions = {}): Promise<[TcpConn, Deno.TcpConn]> {
    if (opener === "ours") {
      using listener = Deno.listen({ hostname: KERNEL, port: 0 });
      const accepted = listener.accept();
      const ours = await within(
        20,
        "connecting to the kernel",
        this.stack.connect({ hostname: KERNEL, port: listener.addr.port, ...options }),
      );
      return [ours, await accepted];
    }
    using listener = this.stack.listen({ port: 0, ...options });
    const accepted = listener.accept();
    const { port } = listener.addr as Deno.NetAddr;
    const kernels = await within(20, "connecting from the kernel", Deno.connect({ hostname: OURS, port }));
    return [await accepted, kernels];
  }

  /** The last wait is on another thread, and comes back a little later: the sanitizer would blame the test. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stack.close();
    await wakersIdle();
  }
}

/** The kernel's congestion control for all that goes over the oracle's device: cubic isn't everybody's to choose by sysctl. */
export async function kernelCongestionControl(oracle: Oracle, name: string): Promise<void> {
  const route = ["route", "replace", "10.9.0.0/24", "dev", oracle.name, "src", KERNEL, "congctl", name];
  const { code, stderr } = await run("ip", route);
  assertEquals([code, stderr], [0, ""]);
}

/** Sets `net.ipv4.…` of our namespace until it is disposed of. */
export function sysctl(settings: Record<string, string | number>): Disposable {
  const before = Object.keys(settings).map((name) => [name, Deno.readTextFileSync(pathOf(name))] as const);
  for (const [name, value] of Object.entries(settings)) Deno.writeTextFileSync(pathOf(name), String(value));
  return {
    [Symbol.dispose]() {
      for (const [name, value] of before) Deno.writeTextFileSync(pathOf(name), value);
    },
  };
}

function pathOf(name: string): string {
  return `/proc/sys/net/ipv4/${name}`;
}

const PIECE = 1 << 18;
/** Bytes that no shift by a segment makes equal. */
const block = new Uint8Array(2 * PIECE);
for (let at = 0; at < block.length; at += 65_536) crypto.getRandomValues(block.subarray(at, at + 65_536));

/** Writes `size` bytes, ends this direction, and gives their SHA-256. */
async function sendHashed(conn: Deno.Conn, size: number): Promise<string> {
  const hash = createHash("sha256");
  for (let at = 0; at < size;) {
    const from = (at * 7919) % PIECE; // another place each time: a piece out of order changes the sum
    const n = await conn.write(block.subarray(from, from + Math.min(PIECE, size - at)));
    hash.update(block.subarray(from, from + n));
    at += n;
  }
  await conn.closeWrite();
  return hash.digest("hex");
}

/** Reads to the end. */
async function receiveHashed(conn: Deno.Conn): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(2 * PIECE);
  let bytes = 0;
  for (let n = await conn.read(buffer); n !== null; n = await conn.read(buffer)) {
    hash.update(buffer.subarray(0, n));
    bytes += n;
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** Sends `size` bytes from one end to the other, to the end of the stream, and checks their SHA-256. */
export async function transfer(from: Deno.Conn, to: Deno.Conn, size: number, seconds = 60): Promise<void> {
  const both = Promise.all([sendHashed(from, size), receiveHashed(to)]);
  const [sha256, received] = await within(seconds, `a transfer of ${size} bytes`, both);
  assertEquals(received, { bytes: size, sha256 });
}

/** The same with a reader that doesn't read for a while, so that the window closes. */
export async function transferPaused(from: Deno.Conn, to: Deno.Conn, size: number, pauseMs: number): Promise<void> {
  const receive = async () => {
    await delay(pauseMs);
    return await receiveHashed(to);
  };
  const both = Promise.all([sendHashed(from, size), receive()]);
  const [sha256, received] = await within(60 + pauseMs / 1000, `a transfer of ${size} bytes with a pause`, both);
  assertEquals(received, { bytes: size, sha256 });
}

/** Both ways at once, to the end of both streams. */
export async function exchange(a: Deno.Conn, b: Deno.Conn, size: number, seconds = 60): Promise<void> {
  await Promise.all([transfer(a, b, size, seconds), transfer(b, a, size, seconds)]);
}
