/**
 * Two hosts, the interfaces of a forwarder, and a router behind it: a stack of ours with an address in two VLANs, whose numbers are
 * those of the interfaces.
 *
 * ```text
 *  left 10.7.0.1 eth0 -- xleft  | forwarder | xtrunk ==== xuplink | a stack: VLAN of xleft 10.7.0.254, of xright 10.9.0.254
 * right 10.9.0.1 eth0 -- xright |
 * ```
 */
import { libc } from "../../ffi/libc.ts";
import { wakersIdle } from "../../ffi/poll.ts";
import { createLink, deleteLink, getLink, linkExists } from "../../ffi/rtnl_link.ts";
import { NetStack, PacketSocketDevice } from "../../mod.ts";
import { ip } from "../drivers/xdp/world.ts";
import { setFeatures } from "../testing/ethtool.ts";
import { kernel, Namespace } from "../testing/namespace.ts";

// Stays open for the process: the sanitizer would blame the first test.
if (kernel) libc();

export const PHYSICAL = ["xleft", "xright"];
export const ROUTER = "xtrunk";
export const ALL = [...PHYSICAL, ROUTER];

/** The interfaces' far ends, and the router. */
export class Wires implements AsyncDisposable {
  #stack: NetStack | null = null;

  private constructor(readonly left: Namespace, readonly right: Namespace) {}

  static async create(): Promise<Wires> {
    const [left, right] = await Promise.all([Namespace.create(), Namespace.create()]);
    const wires = new Wires(left, right);
    createLink({ name: ROUTER, kind: "veth", up: true, mac: "02:01:00:00:00:01", peer: { name: "xuplink", up: true } });
    // What is redirected natively into a veth is lost unless its peer has GRO.
    setFeatures("xuplink", { gro: true });
    for (const [name, host, net] of [["xleft", left, "10.7.0"], ["xright", right, "10.9.0"]] as const) {
      createLink({ name, kind: "veth", up: true, mac: "02:00:00:00:00:10", peer: { name: "eth0", namespace: host, up: true } });
      // XDP knows nothing of checksums and segments that are left to a card.
      setFeatures("eth0", { gro: true, gso: false, tso: false, tx: false }, host);
      await ip(host, "address", "add", `${net}.1/24`, "dev", "eth0");
      await ip(host, "route", "add", "default", "via", `${net}.254`);
    }
    const uplink = () => PacketSocketDevice.open({ name: "xuplink", offload: false, promiscuous: true });
    const [vlan, other] = PHYSICAL.map((name) => getLink(name).index);
    wires.#stack = new NetStack(uplink(), { address: "10.7.0.254/24", vlan, forwarding: true });
    wires.#stack.addDevice(uplink(), { address: "10.9.0.254/24", vlan: other });
    return wires;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack?.[Symbol.asyncDispose]();
    for (const name of ALL) if (linkExists(name)) deleteLink(name);
    await wakersIdle();
    await Promise.all([this.left, this.right].map((namespace) => namespace[Symbol.asyncDispose]()));
  }
}
