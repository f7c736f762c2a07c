/**
 * Options of a stack in workers, checked before anything is started.
 *
 * @module
 */
import { randomMac } from "../drivers/tap.ts";
import type { Device } from "../stack/device.ts";
import { checkDeviceOptions, checkObject, checkStackOptions } from "../stack/host/options.ts";
import type { StackStatistics } from "../stack/host/statistics.ts";
import type { TcpOptions } from "../stack/tcp/types.ts";
import type { WorkerDeviceOptions, WorkerNetOptions } from "./messages.ts";
import type { SlotStatistics } from "./slots.ts";

/** Queues of one device, and so workers of one stack. */
export const QUEUES_MAX = 16;

/** Options of {@link WorkerStack.open}. */
export interface WorkerStackOptions extends WorkerNetOptions {
  /** What the worker opens: `{ kind: "tap", … }` with the options of `TapDevice.open`, `"tun"`, or a module of one's own. */
  device: WorkerDeviceOptions;
  /** Queues of the device, each with a worker and a stack: 1 to 16. Default 1. */
  queues?: number;
}

/** What one worker counts. */
export interface WorkerStatistics extends StackStatistics {
  /** Sockets and shared memory of this worker. */
  worker: SlotStatistics;
}

/** What goes to the workers. */
export interface CheckedWorkerOptions {
  net: WorkerNetOptions;
  /** By worker. */
  devices: WorkerDeviceOptions[];
  queues: number;
}

/** TCP options that can be sent: a congestion control of one's own is a function, and stays here. */
export function checkSendable(options: TcpOptions | undefined): void {
  if (typeof options?.congestionControl === "function") {
    throw new TypeError("A congestion control of one's own cannot be sent to a worker: use NetStack, or one by name");
  }
}

/** @throws {TypeError | RangeError} for an option that is wrong */
export function checkWorkerOptions(options: WorkerStackOptions): CheckedWorkerOptions {
  checkObject(options);
  const { device, queues = 1, ...net } = options;
  if (typeof device !== "object" || device === null || !["tap", "tun", "module"].includes(device.kind)) {
    throw new TypeError('A stack in a worker needs a device like { kind: "tap", name: "tap0" }');
  }
  if (!(Number.isInteger(queues) && queues >= 1 && queues <= QUEUES_MAX)) {
    throw new RangeError(`queues must be 1 to ${QUEUES_MAX}: ${queues}`);
  }
  if ("clock" in net || "onConflict" in net) throw new TypeError("clock and onConflict cannot be sent to a worker");
  checkSendable(net.tcp);
  checkStackOptions(net);
  // The device isn't there yet: what can be said without it.
  checkDeviceOptions({ name: "worker", mtu: 65_535, receive: () => 0 } as unknown as Device, net);
  return { net, devices: deviceOptions(device, queues), queues };
}

/** Every queue of one device has its name and its MAC address. The host's side is set up when all are open. */
function deviceOptions(device: WorkerDeviceOptions, queues: number): WorkerDeviceOptions[] {
  if (device.kind === "module") return Array.from({ length: queues }, () => device);
  const { host, ...own } = device;
  const mtu = own.mtu ?? host?.mtu;
  const all = { ...own, ...(mtu === undefined ? {} : { mtu }), ...(queues > 1 ? { multiQueue: true } : {}) };
  if (all.kind === "tap" && all.mac === undefined && queues > 1) all.mac = randomMac();
  return Array.from({ length: queues }, (_, index) => index === 0 ? all : { ...all, exclusive: false, persist: undefined });
}
