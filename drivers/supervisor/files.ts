/**
 * The files in which programs read about interfaces: `/proc/net/dev`, `/sys/class/net/X/…`.
 *
 * Answered: the reading of these files by their own names, in the forms below, also relative to a folder that was opened or
 * entered. What the program gets is the content of that moment, in memory of its own: a program that keeps the file open
 * and reads it from the start again sees the old figures, where the kernel's file would have new ones.
 *
 * Left to the kernel, because they can't be answered soundly: names that reach the file by a link of somebody's making;
 * `/proc/NUMBER/net/dev` (numbers of another namespace may mean another process); `openat2`, whose flags the filter can't
 * see; `stat`, `access` and folder listings, so that a device without an interface of the kernel's has files that can be
 * read but not found; netlink, whose socket would have to be a different one in all that a program can ask of it.
 *
 * @module
 */
import { readProcessText } from "../../ffi/process_memory.ts";
import type { IoctlDevice, IoctlDevices, IoctlDeviceStatistics } from "./device.ts";
import { SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFMTU, SIOCGIFTXQLEN } from "./requests.ts";

const AT_FDCWD = -100;
const PATH_MAX = 4096;
const IFF_RUNNING = 0x40;
const decoder = new TextDecoder();

/** Files of `/sys/class/net/X/statistics`, and the counters that they show. */
const COUNTERS: Record<string, keyof IoctlDeviceStatistics> = {
  collisions: "collisions",
  multicast: "multicast",
  rx_bytes: "rxBytes",
  rx_compressed: "rxCompressed",
  rx_crc_errors: "rxCrcErrors",
  rx_dropped: "rxDropped",
  rx_errors: "rxErrors",
  rx_fifo_errors: "rxFifoErrors",
  rx_frame_errors: "rxFrameErrors",
  rx_length_errors: "rxLengthErrors",
  rx_missed_errors: "rxMissedErrors",
  rx_nohandler: "rxNohandler",
  rx_over_errors: "rxOverErrors",
  rx_packets: "rxPackets",
  tx_aborted_errors: "txAbortedErrors",
  tx_bytes: "txBytes",
  tx_carrier_errors: "txCarrierErrors",
  tx_compressed: "txCompressed",
  tx_dropped: "txDropped",
  tx_errors: "txErrors",
  tx_fifo_errors: "txFifoErrors",
  tx_heartbeat_errors: "txHeartbeatErrors",
  tx_packets: "txPackets",
  tx_window_errors: "txWindowErrors",
};

/** Files that a request tells: the request, and the text of its ifreq. */
const ATTRIBUTES: Record<string, readonly [number, (view: DataView<ArrayBuffer>) => string]> = {
  mtu: [SIOCGIFMTU, (view) => String(view.getInt32(16, true))],
  ifindex: [SIOCGIFINDEX, (view) => String(view.getInt32(16, true))],
  tx_queue_len: [SIOCGIFTXQLEN, (view) => String(view.getInt32(16, true))],
  flags: [SIOCGIFFLAGS, (view) => `0x${(view.getUint16(16, true) & ~IFF_RUNNING).toString(16)}`],
  operstate: [SIOCGIFFLAGS, (view) => (view.getUint16(16, true) & IFF_RUNNING) !== 0 ? "up" : "down"],
  carrier: [SIOCGIFFLAGS, (view) => (view.getUint16(16, true) & IFF_RUNNING) !== 0 ? "1" : "0"],
  type: [SIOCGIFHWADDR, (view) => String(view.getUint16(16, true))],
  address: [SIOCGIFHWADDR, (view) => Array.from({ length: 6 }, (_, i) => hex(view.getUint8(18 + i))).join(":")],
};

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

/** What is asked of a device: nothing of ours, a table of all, one counter, one attribute. */
export type Wanted =
  | { readonly kind: "table" }
  | { readonly kind: "counter"; readonly device: IoctlDevice; readonly counter: keyof IoctlDeviceStatistics }
  | { readonly kind: "attribute"; readonly device: IoctlDevice; readonly name: string; readonly attribute: string };

const INTERFACE = /^\/sys\/(?:class|devices\/virtual)\/net\/([^/]+)\/(?:(statistics)\/)?([a-z0-9_]+)$/;
const TABLE = /^\/proc\/(?:self\/|thread-self\/)?net\/dev$/;

/** Cuts out `.`, `..` and double slashes. The parents of our folders are no links, but for those that the patterns know. */
export function normalPath(path: string): string {
  const out: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") out.pop();
    else if (part !== "" && part !== ".") out.push(part);
  }
  return `/${out.join("/")}`;
}

/** What an absolute path asks of which device. */
export function wantedOf(path: string, devices: IoctlDevices): Wanted | null {
  if (TABLE.test(path)) return { kind: "table" };
  const match = INTERFACE.exec(path);
  if (match === null) return null;
  const [, name, statistics, file] = match;
  const device = devices.get(name);
  if (device === undefined) return null;
  if (statistics === undefined) return file in ATTRIBUTES ? { kind: "attribute", device, name, attribute: file } : null;
  const counter = COUNTERS[file];
  return counter === undefined || device.ioctlStatistics === undefined ? null : { kind: "counter", device, counter };
}

/**
 * What a program that opens a file wants of our devices, or null if the kernel shall answer.
 *
 * @param folder the descriptor that a relative path begins at, or AT_FDCWD
 * @param address where its path stands
 */
export function wantedFile(tid: number, folder: number, address: number, devices: IoctlDevices): Wanted | null {
  const bytes = readProcessText(tid, address, PATH_MAX);
  if (typeof bytes === "number" || bytes.length === 0) return null;
  // Nearly every file that is opened is another: none of ours has a point in its last part, or is longer.
  const last = bytes.lastIndexOf(0x2f) + 1;
  if (bytes.length - last > 20 || bytes.indexOf(0x2e, last) >= 0) return null;
  let path = decoder.decode(bytes);
  const name = path.slice(last);
  if (name !== "dev" && !Object.hasOwn(COUNTERS, name) && !Object.hasOwn(ATTRIBUTES, name)) return null;
  try {
    if (Deno.readLinkSync(`/proc/${tid}/root`) !== "/") return null;
    if (path[0] !== "/") {
      const start = Deno.readLinkSync(`/proc/${tid}/${folder === AT_FDCWD ? "cwd" : `fd/${folder}`}`);
      path = `${start.replace(/^\/proc\/\d+(\/task\/\d+)?\/net$/, "/proc/net")}/${path}`;
    }
  } catch {
    return null; // a bad descriptor, or a program that we may not look into
  }
  return wantedOf(normalPath(path), devices);
}

/** A line of `/proc/net/dev`, as `dev_seq_printf_stats` in the kernel's net/core/net-procfs.c prints it. */
export function tableLine(name: string, s: IoctlDeviceStatistics): string {
  const sum = (...values: (number | bigint | undefined)[]) => values.reduce<bigint>((a, b) => a + BigInt(b ?? 0), 0n);
  const cells: [bigint, number][] = [
    [sum(s.rxBytes), 7],
    [sum(s.rxPackets), 7],
    [sum(s.rxErrors), 4],
    [sum(s.rxDropped, s.rxMissedErrors), 4],
    [sum(s.rxFifoErrors), 4],
    [sum(s.rxLengthErrors, s.rxOverErrors, s.rxCrcErrors, s.rxFrameErrors), 5],
    [sum(s.rxCompressed), 10],
    [sum(s.multicast), 9],
    [sum(s.txBytes), 8],
    [sum(s.txPackets), 7],
    [sum(s.txErrors), 4],
    [sum(s.txDropped), 4],
    [sum(s.txFifoErrors), 4],
    [sum(s.collisions), 5],
    [sum(s.txCarrierErrors, s.txAbortedErrors, s.txWindowErrors, s.txHeartbeatErrors), 7],
    [sum(s.txCompressed), 10],
  ];
  return `${name.padStart(6)}: ${cells.map(([value, width]) => String(value).padStart(width)).join(" ")}`;
}

/** The kernel's table with our devices' own lines: in the place of the kernel's, and below it for those that it doesn't know. */
export function tableWith(kernel: string, devices: IoctlDevices): string {
  const ours = new Map<string, string>();
  for (const [name, device] of devices) {
    if (device.ioctlStatistics !== undefined) ours.set(name, tableLine(name, device.ioctlStatistics()));
  }
  const lines = kernel.replace(/\n$/, "").split("\n").map((line) => {
    const name = line.slice(0, line.indexOf(":")).trim();
    const own = ours.get(name);
    if (own !== undefined) ours.delete(name);
    return own ?? line;
  });
  return `${[...lines, ...ours.values()].join("\n")}\n`;
}

/** The file's content now. @throws what the device throws; null when it has no answer, and the kernel's shall be had */
export function contentOf(wanted: Wanted, tid: number, devices: IoctlDevices): string | null | Promise<string | null> {
  if (wanted.kind === "table") return tableWith(Deno.readTextFileSync(`/proc/${tid}/net/dev`), devices);
  if (wanted.kind === "counter") return `${wanted.device.ioctlStatistics?.()[wanted.counter] ?? 0}\n`;
  const [request, text] = ATTRIBUTES[wanted.attribute];
  const ifreq = new Uint8Array(40);
  new TextEncoder().encodeInto(wanted.name, ifreq.subarray(0, 15));
  const view = new DataView(ifreq.buffer);
  const done = (code: number) => code < 0 ? null : `${text(view)}\n`;
  const code = wanted.device.ioctl(request, ifreq, null);
  return typeof code === "number" ? done(code) : code.then(done);
}
