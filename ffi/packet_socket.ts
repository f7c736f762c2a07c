/**
 * Packet sockets: every frame of an interface, through a ring of slots that the kernel shares (TPACKET_V2).
 *
 * ```text
 *  a slot:  tpacket2_hdr (32), sockaddr_ll (20)  |  reserve  |  virtio_net_hdr (10)  |  frame
 *           0                                    52                                  tp_mac
 *
 *  tpacket2_hdr:  status u32 | len u32 | snaplen u32 | mac u16 | net u16 | sec u32 | nsec u32 | vlan_tci u16 | vlan_tpid u16
 *                 0            4         8             12        14        16        20         24             26
 * ```
 *
 * @module
 */
import { errnoError } from "./errno.ts";
import { IfReq } from "./ifreq.ts";
import { libc } from "./libc.ts";
import { Mapping } from "./shared_memory.ts";
import { Socket, SOL_SOCKET } from "./socket.ts";

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0x800 | 0x80000;
const ETH_P_ALL = 3;
const SO_SNDBUF = 7;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_DROP_MEMBERSHIP = 2;
const PACKET_MR_PROMISC = 1;
const PACKET_RX_RING = 5;
const PACKET_STATISTICS = 6;
const PACKET_VERSION = 10;
const PACKET_RESERVE = 12;
const PACKET_VNET_HDR = 15;
const PACKET_QDISC_BYPASS = 20;
const PACKET_IGNORE_OUTGOING = 23;
const TPACKET_V2 = 1;
const PAGE = 4096;
const SIOCGIFNAME = 0x8910;

/** Offsets in a slot's header, which begins with its status. */
export const SLOT_LENGTH = 4;
export const SLOT_CAPTURED = 8;
export const SLOT_MAC = 12;
export const SLOT_VLAN_TCI = 24;
export const SLOT_VLAN_TPID = 26;

/** The checksum was verified. */
export const TP_STATUS_CSUM_VALID = 0x80;
/** Bits of a slot's status. 0: the slot is the kernel's. */
export const TP_STATUS_USER = 1;
/** The checksum is still to be filled in: the frame never crossed a wire. */
export const TP_STATUS_CSUMNOTREADY = 8;
/** The tag was taken off, its TCI is in the header; and so is its type. */
export const TP_STATUS_VLAN_VALID = 0x10;
export const TP_STATUS_VLAN_TPID_VALID = 0x40;

/** What to do about a refusal. */
export const RAW_HINT = "Run as root, with CAP_NET_RAW, or under `unshare -Urn`";

/** A socket that sees the frames of one interface; nonblocking. It stays in the namespace where it was opened. */
export class PacketSocket extends Socket {
  readonly #ifindex: number;

  private constructor(fd: number, ifindex: number) {
    super(fd);
    this.#ifindex = ifindex;
  }

  /**
   * Opens a socket that sees nothing yet: {@link bind} begins.
   *
   * @throws `PermissionDenied` (EPERM)
   */
  static open(ifindex: number): PacketSocket {
    const lib = libc();
    // Without a protocol, so that no frame of another interface gets in before `bind`.
    const fd = lib.socket(AF_PACKET, SOCK_RAW_NONBLOCK_CLOEXEC, 0);
    if (fd < 0) throw errnoError("open", "a packet socket", lib.errno[0], RAW_HINT);
    return new PacketSocket(fd, ifindex);
  }

  /** Begins to see frames of the interface, in both directions unless {@link ignoreOutgoing}. 0 or a negative errno. */
  bind(): number {
    const address = new DataView(new ArrayBuffer(20));
    address.setUint16(0, AF_PACKET, true);
    address.setUint16(2, ETH_P_ALL);
    address.setInt32(4, this.#ifindex, true);
    const lib = libc();
    return lib.bind(this.fd, new Uint8Array(address.buffer), 20) === 0 ? 0 : -lib.errno[0];
  }

  #set(option: number, ...values: number[]): number {
    return this.setOption(SOL_PACKET, option, new Uint8Array(Int32Array.from(values).buffer));
  }

  /** Frames that the host itself sends by this interface are none of ours (Linux 4.20). */
  ignoreOutgoing(): number {
    return this.#set(PACKET_IGNORE_OUTGOING, 1);
  }

  /** A virtio_net_hdr of 10 bytes stands before every frame, both ways. Before {@link ring}. */
  setVirtioHeader(on: boolean): number {
    return this.#set(PACKET_VNET_HDR, on ? 1 : 0);
  }

  /** Frames that are sent go to the driver at once, past the interface's queueing discipline. */
  setQdiscBypass(on: boolean): number {
    return this.#set(PACKET_QDISC_BYPASS, on ? 1 : 0);
  }

  /** Bytes that may wait on their way out before writes answer EAGAIN; the kernel doubles it. */
  setSendBuffer(bytes: number): number {
    return this.setOption(SOL_SOCKET, SO_SNDBUF, new Uint8Array(Int32Array.of(bytes).buffer));
  }

  /** The interface takes what isn't meant for it, until the socket is closed or says otherwise. */
  setPromiscuous(on: boolean): number {
    // packet_mreq: ifindex, type and length of address (16 bits each), 8 bytes of address
    return this.#set(on ? PACKET_ADD_MEMBERSHIP : PACKET_DROP_MEMBERSHIP, this.#ifindex, PACKET_MR_PROMISC, 0, 0);
  }

  /**
   * Asks for a ring of received frames and maps it. Before {@link bind}.
   *
   * @param slotSize bytes of a slot, the half of a page or whole pages
   * @param reserve bytes that stay free between a slot's header and its frame
   * @returns the mapping, slot after slot, or a negative errno (ENOMEM, EINVAL)
   */
  ring(slots: number, slotSize: number, reserve: number): Mapping | number {
    let code = this.#set(PACKET_VERSION, TPACKET_V2);
    if (code === 0) code = this.#set(PACKET_RESERVE, reserve);
    // tpacket_req: size of a block, blocks, size of a slot, slots. A slot never crosses the end of a block.
    const block = slotSize < PAGE ? PAGE : slotSize;
    if (code === 0) code = this.#set(PACKET_RX_RING, block, slots * slotSize / block, slotSize, slots);
    return code < 0 ? code : Mapping.mapDevice(this.fd, slots * slotSize, 0);
  }

  /** Frames seen and frames lost for want of a slot since the last call, into two numbers. 0 or a negative errno. */
  statistics(into: Int32Array<ArrayBuffer>): number {
    return this.getOption(SOL_PACKET, PACKET_STATISTICS, into);
  }

  /** True if the interface is still there, in whichever namespace. */
  interfaceExists(): boolean {
    const ifreq = new IfReq("");
    ifreq.value = this.#ifindex;
    return this.ioctl(SIOCGIFNAME, ifreq.bytes) >= 0;
  }
}
