/**
 * Device classes and readers that several tests use.
 *
 * @module
 */
import { type DeviceFailure, IfReq, LocalMemory, type NetFrame, type NetInterface } from "./face.ts";
import { NetDevice } from "./face.ts";
import { ioctl } from "../../../drivers/netdev/ioctl.ts";
import type { DeviceTable } from "../../../drivers/netdev/table.ts";

/** Sends every frame back, with source and destination exchanged. */
export class Mirror extends NetDevice {
  frames = 0;
  override startXmit(frame: NetFrame, handle: NetInterface): void {
    this.frames++;
    const { bytes } = frame;
    for (let i = 0; i < 6; i++) [bytes[i], bytes[i + 6]] = [bytes[i + 6], bytes[i]];
    handle.netifRx(frame);
  }
}

/** Keeps what went wrong. */
export class Failures extends Array<DeviceFailure> {
  static override get [Symbol.species](): ArrayConstructor {
    return Array;
  }
  get take(): (failure: DeviceFailure) => void {
    return (failure) => void this.push(failure);
  }
}

/** An ioctl on a device of the process: its result and the ifreq as the caller sees it then. */
export async function request(
  table: DeviceTable,
  name: string,
  cmd: number,
  prepare: (ifreq: IfReq) => void = () => {},
  memory: LocalMemory | null = null,
): Promise<{ code: number; ifreq: IfReq }> {
  const ifreq = new IfReq("");
  new TextEncoder().encodeInto(name, ifreq.bytes.subarray(0, 16));
  if (memory !== null) ifreq.data = memory.address;
  prepare(ifreq);
  const code = await ioctl(cmd, ifreq.bytes, memory, table);
  return { code, ifreq };
}

/** Waits until something holds, for at most five seconds. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`It did not come about in 5 s: ${what}`);
}
