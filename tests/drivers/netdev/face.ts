/**
 * What these tests use of the devices, in one place.
 *
 * @module
 */
export { NETDEV_TX_BUSY, NetDevice } from "../../../drivers/netdev/net_device.ts";
export { NetFrame, NetFrameQueue } from "../../../drivers/netdev/frame.ts";
export { NetInterface } from "../../../drivers/netdev/interface.ts";
export { IoctlData, LocalMemory } from "../../../drivers/netdev/memory.ts";
export { Registration } from "../../../drivers/netdev/registration.ts";
export { lookup, NetDevices } from "../../../drivers/netdev/registry.ts";
export { devices, DeviceTable, ENOIOCTLCMD } from "../../../drivers/netdev/table.ts";
export { DeviceNameError } from "../../../drivers/netdev/names.ts";
export type { DeviceFailure } from "../../../drivers/netdev/operations.ts";
export { IfReq } from "../../../ffi/ifreq.ts";
