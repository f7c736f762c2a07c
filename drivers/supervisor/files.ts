/**
 * The files in which programs read about interfaces: `/proc/net/dev`, `/sys/class/net/X/…`.
 *
 * Answered: the reading of these files by their own names, in the forms below, also relative to a folder that was opened or
 * entered. What the program gets is the content of that moment, in memory of its own: a program that keeps the file open
 * and reads it from the start again sees the old figures, where the kernel's file would have new ones.
 *
 * What is mounted over such a file, or over a folder on the way to it, is not seen.
 *
 * Left to the kernel, because they can't be answered soundly: names that reach the file by a link of somebody's making;
 * `/proc/NUMBER/net/dev` (numbers of another namespace may mean another process); `openat2`, whose flags the filter can't
 * see; `stat`, `access` and folder listings, so that a device without an interface of the kernel's has files that can be
 * read but not found; netlink, whose socket would have to be a different one in all that a program can ask of it.
 *
 * @module
 */
import { readProcessText } from "../../ffi/process_memory.ts";
import { IfReq, SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFMTU, SIOCGIFTXQLEN } from "../../ffi/ifreq.ts";
import { procNetDev, STATISTICS, sysfsStatistic } from "../netdev/statistics.ts";
import type { DeviceTable, IoctlDevice } from "../netdev/table.ts";

const AT_FDCWD = -100;
const PATH_MAX = 4096;
const IFF_RUNNING = 0x40;
const decoder = new TextDecoder();

/** Files of `/sys/class/net/X/statistics`. */
const COUNTERS: ReadonlySet<string> = new Set(STATISTICS.map((name) => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)));

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

/** What is asked of a device: a table of all, one counter, one attribute. */
export type Wanted =
  | { readonly kind: "table" }
  | { readonly kind: "counter" | "attribute"; readonly device: IoctlDevice; readonly file: string };

const INTERFACE = /^\/sys\/(?:class|devices\/virtual)\/net\/([^/]+)\/(?:(statistics)\/)?([a-z0-9_]+)$/;
const TABLE = /^\/proc\/(?:self\/|thread-self\/)?net\/dev$/;

/**
 * Cuts out `.`, `..` and double slashes. A `..` is followed within `/proc` and `/sys` only: elsewhere what it leaves may be a
 * link, and the path another file's. That one is "/", which is nobody's.
 */
export function normalPath(path: string): string {
  const out: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") {
      if (out[0] !== "proc" && out[0] !== "sys") return "/";
      out.pop();
    } else if (part !== "" && part !== ".") out.push(part);
  }
  return `/${out.join("/")}`;
}

/** What an absolute path asks of which device. */
export function wantedOf(path: string, devices: DeviceTable): Wanted | null {
  if (TABLE.test(path)) return { kind: "table" };
  const match = INTERFACE.exec(path);
  if (match === null) return null;
  const [, name, statistics, file] = match;
  const device = devices.lookup(name);
  if (device === null || device.name !== name) return null;
  if (statistics === undefined) return Object.hasOwn(ATTRIBUTES, file) ? { kind: "attribute", device, file } : null;
  return COUNTERS.has(file) && device.statistics64 !== undefined ? { kind: "counter", device, file } : null;
}

/**
 * What a program that opens a file wants of our devices, or null if the kernel shall answer.
 *
 * @param folder the descriptor that a relative path begins at, or AT_FDCWD
 * @param address where its path stands
 */
export function wantedFile(tid: number, folder: number, address: number, devices: DeviceTable): Wanted | null {
  const bytes = readProcessText(tid, address, PATH_MAX);
  if (typeof bytes === "number" || bytes.length === 0) return null;
  // Nearly every file that is opened is another: none of ours has a point in its last part, or is longer.
  const last = bytes.lastIndexOf(0x2f) + 1;
  if (bytes.length - last > 20 || bytes.indexOf(0x2e, last) >= 0) return null;
  let path = decoder.decode(bytes);
  const name = path.slice(last);
  if (name !== "dev" && !COUNTERS.has(name) && !Object.hasOwn(ATTRIBUTES, name)) return null;
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

/** The file's content now, or null when the device has no answer, and the kernel's shall be had. @throws what the device throws */
export function contentOf(wanted: Wanted, tid: number, devices: DeviceTable): string | null | Promise<string | null> {
  if (wanted.kind === "table") return procNetDev(devices, Deno.readTextFileSync(`/proc/${tid}/net/dev`));
  const { device, file } = wanted;
  if (wanted.kind === "counter") return device.statistics64 === undefined ? null : sysfsStatistic(file, device.statistics64());
  const [request, text] = ATTRIBUTES[file];
  const ifreq = new IfReq(device.name);
  // Nonsense is no answer either.
  const done = (code: number) => code >= 0 ? `${text(ifreq.view)}\n` : null;
  const code = device.ioctl(request, ifreq.bytes, null);
  return typeof code === "number" ? done(code) : Promise.resolve(code).then(done);
}
