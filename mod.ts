/**
 * A TCP/IP host inside a Deno process: addresses of its own on a real Linux TAP device (or on a cable in memory), with
 * connections, listeners and datagram sockets that behave like Deno's own.
 *
 * ```ts
 * import { cable, NetStack } from "@tapioca/tapioca";
 *
 * const [left, right] = cable();
 * await using server = new NetStack(left, { address: "10.0.0.1/24" });
 * await using client = new NetStack(right, { address: "10.0.0.2/24" });
 *
 * using listener = server.listen({ port: 7 });
 * listener.accept().then((conn) => conn.readable.pipeTo(conn.writable));
 *
 * using conn = await client.connect({ hostname: "10.0.0.1", port: 7 });
 * await conn.write(new TextEncoder().encode("hello"));
 * const buffer = new Uint8Array(64);
 * const count = await conn.read(buffer) ?? 0;
 * console.log(new TextDecoder().decode(buffer.subarray(0, count))); // hello
 * ```
 *
 * @module
 */
export { NetStack } from "./stack/host/net_stack.ts";
export type {
  ConnectDatagramOptions,
  ConnectOptions,
  DatagramOptions,
  DeviceOptions,
  ListenOptions,
  NetStackOptions,
  RouteOptions,
} from "./stack/host/options.ts";
export { TcpConn } from "./stack/host/tcp_conn.ts";
export { TcpListener } from "./stack/host/tcp_listener.ts";
export { type Datagram, UdpConn } from "./stack/host/udp_conn.ts";
export { BareStack, type BareStackOptions } from "./stack/bare/stack.ts";
export { BareTcpSocket } from "./stack/bare/tcp_socket.ts";
export { BareUdpSocket } from "./stack/bare/udp_socket.ts";
export type { TcpOptionName, UdpOptionName } from "./stack/bare/options.ts";
export type { PingError, PingOptions, PingReply } from "./stack/host/ping.ts";
export type { RecordsByType, RecordType, ResolveOptions } from "./stack/host/resolver.ts";
export { type CodedError, DeviceGoneError } from "./stack/host/errors.ts";
export { type Clock, ManualClock, systemClock, type TimerHandle } from "./stack/host/clock.ts";
export type { AddressInfo, ConnectionInfo, NeighborInfo, RouteInfo, StackStatistics } from "./stack/host/statistics.ts";
export type { PumpCounters } from "./stack/host/pump.ts";
export { httpAgent, type NodeAddress, nodeSocket, type NodeSocketOptions, type NodeStream } from "./stack/host/node.ts";
export { serve, type ServeHandler, type ServeInfo, type ServeOptions, type StackHttpServer } from "./stack/host/serve.ts";
export { type RuntimeHook, useStack, type UseStackOptions } from "./runtime/use_stack.ts";
export type { RuntimeStatistics } from "./runtime/hook.ts";
export type { RuntimeTarget } from "./runtime/rule.ts";
export type { TcpInfo, TcpOptions, TcpStatistics } from "./stack/tcp/types.ts";
export type { CongestionControl, CongestionState } from "./stack/tcp/congestion.ts";
export type { UdpOptions, UdpStatistics } from "./stack/udp/types.ts";
export type { NeighborEntry } from "./stack/ip/types.ts";
export {
  type Device,
  type DeviceCapabilities,
  FrameMemory,
  type FrameSink,
  RX_CHECKSUM_PARTIAL,
  RX_CHECKSUM_VALID,
  TX_HEADROOM,
  TxFrame,
} from "./stack/device.ts";
export * as codes from "./stack/codes.ts";
export { cable, type CableEnd, type CableOptions } from "./drivers/cable.ts";
export type { BurstLoss, LinkConditions, QueueConditions } from "./drivers/conditions.ts";
export type { DirectionStatistics } from "./drivers/pipe.ts";
export { type FaultConditions, type FaultOptions, faults, type FaultyDevice } from "./drivers/faults.ts";
export {
  type HostNodeOptions,
  Network,
  type NetworkNode,
  type NetworkOptions,
  type NetworkPort,
  type RouterOptions,
} from "./drivers/network.ts";
export type { NetworkLink, NetworkLinkOptions, NetworkLinkStatistics } from "./drivers/link.ts";
export type { NetworkSwitch, SwitchOptions, SwitchStatistics } from "./drivers/switch.ts";
export type { AttachedDevice } from "./drivers/attached.ts";
export { NetworkDeadlockError, type RunOptions } from "./drivers/network_time.ts";
export { PacketDevice, type PacketDeviceOptions } from "./drivers/packets.ts";
export { type PcapOptions, type PcapSink, pcapTap } from "./drivers/pcap.ts";
export { type CapturedPacket, decodeCapture } from "./drivers/pcap_format.ts";
export { readTcpTraces, type TcpTrace, type TraceSegment } from "./drivers/tcp_trace.ts";
export { drawLadder, drawTimeSequence, type LadderOptions, type TimeSequenceOptions } from "./drivers/tcp_drawing.ts";
export { type HostOptions, type HostRoute, TapDevice, type TapOptions, type TunTapOptions } from "./drivers/tap.ts";
export type { TunTapDevice } from "./drivers/tuntap.ts";
export { PacketSocketDevice, type PacketSocketOptions } from "./drivers/packet_socket.ts";
export { AfXdpDevice, type AfXdpOptions, Umem, type UmemOptions } from "./drivers/af_xdp.ts";
export { PcapPlayer, type PcapPlayerOptions } from "./drivers/pcap_player.ts";
export {
  type ForwarderMaps,
  type ForwarderOptions,
  type ForwarderStatistics,
  type InterfaceOptions,
  type InterfaceRole,
  isRouterMac,
  type VlanMode,
  XdpForwarder,
} from "./drivers/xdp/forwarder.ts";
export {
  type AttachMode,
  KERNEL_FORWARDER_FOLDER,
  KernelForwarder,
  type KernelForwarderOptions,
} from "./drivers/xdp/kernel_forwarder.ts";
export {
  type ActionCounts,
  type ActionName,
  type ForwarderReport,
  type InterfaceReport,
  reportForwarder,
} from "./drivers/xdp/report.ts";
export { addInterfaces, interfaceKind, openInterface, removeInterfaces } from "./drivers/xdp/open_interface.ts";
export { followLinks } from "./drivers/xdp/follow_links.ts";
export { MUX_COUNTERS, type MuxCounter } from "./drivers/xdp/programs/vlan_mux.ts";
export type { MapKind, MapMemory, MapSpec, ProgramContext, XdpFunction } from "./drivers/xdp/program.ts";
export { ArrayMap, HashMap, LruMap, readCounter, XdpMap } from "./drivers/xdp/maps.ts";
export { LpmMap } from "./drivers/xdp/lpm_map.ts";
export {
  defineProgram,
  type Entry,
  type KeyPart,
  type ProgramBuilder,
  ProgramError,
  type Value,
  type Variable,
  type Window,
  XDP_ABORTED,
  XDP_DROP,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
  type XdpProgram,
} from "./drivers/xdp/program.ts";
export { FILTER_COUNTERS, type FilterCounter, type FilterOptions, filterProgram } from "./drivers/xdp/programs/filter.ts";
export { filterPort, filterPrefix, type FilterRule, filterRule, readFilterRule } from "./drivers/xdp/programs/filter_rules.ts";
export { physicalProgram, routerProgram, type RouterProgramOptions } from "./drivers/xdp/programs/vlan_mux.ts";
export type {
  BinaryOperator,
  Block,
  Comparison,
  Condition,
  Input,
  LocalKind,
  Operand,
  Part,
  ProgramBody,
  Size,
  Statement,
} from "./drivers/xdp/ir.ts";
export type {
  BpfLink,
  BpfLinkInfo,
  BpfMap,
  BpfMapInfo,
  BpfProgram,
  BpfProgramInfo,
  TestRunResult,
} from "./drivers/linux_types.ts";
export { createMap as createKernelMap, LoadedProgram } from "./drivers/xdp/bpf/load.ts";
export { type EngineOptions, type PortOptions, type TraceEvent, XdpEngine } from "./drivers/xdp/engine.ts";
export { CountedProgram, PortCounters, XdpPort } from "./drivers/xdp/port.ts";
export {
  adjustHead,
  adjustTail,
  type PortProgram,
  redirect,
  redirectMap,
  type RedirectTargets,
  tailCall,
  XdpContext,
} from "./drivers/xdp/context.ts";
export {
  ParseCursor,
  parseEthernet,
  parseIcmp,
  parseIcmpCommon,
  parseIcmpv6,
  parseIpv4,
  parseIpv6,
  parseTcp,
  parseUdp,
  swapIpv4,
  swapIpv6,
  swapMac,
  vlanPop,
  vlanPush,
} from "./drivers/xdp/helpers.ts";
export { createMap, DevMap, DevMapHash, type InterfaceMap, InterfaceTable, ProgMap } from "./drivers/xdp/interface_maps.ts";
export { WorkerStack } from "./workers/worker_stack.ts";
export type { WorkerStackOptions, WorkerStatistics } from "./workers/options.ts";
export type { ModuleDeviceOptions, WorkerDeviceOptions, WorkerNetOptions } from "./workers/messages.ts";
export type { SlotStatistics } from "./workers/slots.ts";
export { TunDevice } from "./drivers/tun.ts";
export { QemuStreamDevice } from "./drivers/qemu_stream.ts";
export type { QemuAddress, QemuStreamOptions } from "./drivers/qemu_stream.ts";
export { type DatagramEnd, QemuDatagramDevice, type QemuDatagramOptions } from "./drivers/qemu_datagram.ts";
export { VhostUserDevice, type VhostUserOptions } from "./drivers/virtio/vhost_back_end.ts";
export { RingDevice } from "./drivers/virtio/ring_device.ts";
export { type VhostPortOptions, VhostUserPort } from "./drivers/virtio/vhost_front_end.ts";
export { type Region, SharedMemory } from "./drivers/virtio/memory.ts";
export { VirtioNetDevice } from "./drivers/virtio/net_device.ts";
export { MmioDevice } from "./drivers/virtio/mmio_device.ts";
export { PciDevice, type PciFunction } from "./drivers/virtio/pci_device.ts";
export type { QueuePart, QueueRegisters } from "./drivers/virtio/queue_registers.ts";
export type { RegisterFile } from "./drivers/virtio/register_file.ts";
export type { InterruptTarget } from "./drivers/virtio/interrupts.ts";
export type { ControlClient } from "./drivers/virtio/control_client.ts";
export type { DmaRange } from "./drivers/virtio/dma_area.ts";
export type { RingCounters } from "./drivers/virtio/ring_counters.ts";
export type { DeviceQueue } from "./drivers/virtio/queue.ts";
export type { Chain } from "./drivers/virtio/chain.ts";
export { NetDriver } from "./drivers/virtio/net_driver.ts";
export type { NetDriverOptions } from "./drivers/virtio/net_driver_options.ts";
export { MmioTransport } from "./drivers/virtio/mmio_transport.ts";
export { pciTransport, type PciTransportOptions } from "./drivers/virtio/pci_transport.ts";
export { type QueueAddresses, VirtioError, type VirtioErrorCode, type VirtioTransport } from "./drivers/virtio/transport.ts";
export { type FeatureName, featureNames, FEATURES } from "./drivers/virtio/features.ts";
export { Net } from "./virtio_net/net.ts";
export { type FrameDevice, Nic, type NicOptions } from "./virtio_net/nic.ts";
export { AF_INET, type Endpoint, Interface, SOCK_DGRAM, SOCK_STREAM } from "./virtio_net/interface.ts";
export { Config, Header } from "./virtio_net/layouts.ts";
export { Gateway, type GatewayOptions, type GatewayStatistics } from "./gateway/gateway.ts";
export type { PortForward } from "./gateway/forward.ts";
export type { ConnectionSource, DatagramEvents, DatagramSocket, Destination, GatewaySockets } from "./gateway/sockets.ts";
export type { RelayEnd } from "./gateway/tcp_relay.ts";
export {
  HostConn,
  type HostDatagramEvents,
  HostDatagrams,
  type HostDestination,
  HostListener,
  HostSockets,
} from "./drivers/host_sockets.ts";
export { type DhcpLease, type DhcpOptions, DhcpServer } from "./gateway/dhcp_server.ts";
export {
  intercept,
  type InterceptedConnection,
  type InterceptedDatagrams,
  type InterceptHandlers,
  type Interception,
  type InterceptStatistics,
  type UNREACHABLE,
} from "./stack/host/intercept.ts";
export type { Descriptor, NamespaceReference, TunDescriptor } from "./drivers/linux_types.ts";
export {
  Bridge,
  type BridgeInfo,
  type EthtoolDrvinfo,
  type ForwardingEntry,
  IfReq,
  InterfaceIoctls,
  layout,
} from "./drivers/linux_ioctl.ts";
export type { Fields, FieldType, Structure, StructureValues, ValuesOf } from "./drivers/linux_ioctl.ts";
export { NetFrame } from "./drivers/netdev/frame.ts";
export { NetInterface } from "./drivers/netdev/interface.ts";
export { ioctl as deviceIoctl } from "./drivers/netdev/ioctl.ts";
export { IoctlData, type IoctlMemory, LocalMemory } from "./drivers/netdev/memory.ts";
export { DeviceNameError } from "./drivers/netdev/names.ts";
export { type Answer, NETDEV_TX_BUSY, NetDevice, type NetDeviceClass } from "./drivers/netdev/net_device.ts";
export type { DeviceFailure, FailureReport, Operation, OperationName, Operations } from "./drivers/netdev/operations.ts";
export { type RegisterOptions, Registration } from "./drivers/netdev/registration.ts";
export { NetDevices, type NetDevicesOptions } from "./drivers/netdev/registry.ts";
export { type Counted, procNetDev, type Statistics64, type StatisticsName } from "./drivers/netdev/statistics.ts";
export { devices as deviceTable, DeviceTable, type IoctlDevice } from "./drivers/netdev/table.ts";
export { LoopbackDevice, RESET_STATS } from "./drivers/loopback/loopback.ts";
export { NetkitDevice } from "./drivers/netkit/device.ts";
export { type Join, joinDevices } from "./drivers/netkit/join.ts";
export { createKernelNetkit } from "./drivers/netkit/kernel.ts";
export { type FrameMarks, NetkitMeta } from "./drivers/netkit/meta.ts";
export {
  attachNetkit,
  type AttachOptions,
  createNetkit,
  detachNetkit,
  linkNetkit,
  type Netkit,
  NetkitLink,
  type NetkitTarget,
  queryNetkit,
} from "./drivers/netkit/netkit.ts";
export {
  BPF_NETKIT_PEER,
  BPF_NETKIT_PRIMARY,
  NETKIT_DEVICE_PAIR,
  NETKIT_DEVICE_SINGLE,
  NETKIT_DROP,
  NETKIT_L2,
  NETKIT_L3,
  NETKIT_NEXT,
  NETKIT_PASS,
  NETKIT_REDIRECT,
  NETKIT_SCRUB_DEFAULT,
  NETKIT_SCRUB_NONE,
  type NetkitChange,
  type NetkitOptions,
  type NetkitPeerOptions,
} from "./drivers/netkit/options.ts";
export type { NetkitProgram, Position, ProgramLink } from "./drivers/netkit/programs.ts";
export { NetkitQueue } from "./drivers/netkit/queue.ts";
export { superviseIoctls, type SuperviseOptions } from "./drivers/supervisor/supervise.ts";
export { SupervisedProcess } from "./drivers/supervisor/supervised_process.ts";
export type { IoctlFailure, SupervisorStatistics } from "./drivers/supervisor/answering.ts";
