/**
 * Types of `ffi/` that the public faces of the Linux drivers mention: what `mod.ts` needs of them, without reaching into `ffi/`.
 *
 * @module
 */
export type { Descriptor } from "../ffi/descriptor.ts";
export type { NamespaceReference } from "../ffi/namespace.ts";
export type { TunDescriptor } from "../ffi/tun.ts";
export type { BpfMap, BpfMapInfo } from "../ffi/bpf.ts";
export type { BpfLink, BpfLinkInfo, BpfProgram, BpfProgramInfo, TestRunResult } from "../ffi/bpf_program.ts";
