/**
 * What `ffi/` has for people who call ioctls, or write devices that answer them: what `mod.ts` shows of it, without reaching into `ffi/`.
 *
 * @module
 */
export { Bridge, type BridgeInfo, type ForwardingEntry } from "../ffi/bridge.ts";
export { type EthtoolDrvinfo, InterfaceIoctls } from "../ffi/ioctl_interface.ts";
export { IfReq } from "../ffi/ifreq.ts";
export * as layout from "../ffi/structure.ts";
export type { Fields, FieldType, Structure, StructureValues, ValuesOf } from "../ffi/structure.ts";
