/**
 * Interfaces that are renamed, or get another MTU, under a forwarder in user space.
 *
 * @module
 */
import { LinkMonitor } from "../../ffi/rtnl_monitor.ts";
import type { XdpForwarder } from "./forwarder.ts";

/**
 * Tells a forwarder's ports of the names and MTUs that their interfaces get, as a forwarder in the kernel has them by itself: for
 * interfaces added by `openInterface`, whose numbers are the kernel's, in this thread's network namespace. Until it is disposed
 * of; it keeps the process alive.
 *
 * ```ts ignore
 * using forwarder = new XdpForwarder();
 * using _following = followLinks(forwarder);
 * openInterface(forwarder, "eth1");
 * ```
 */
export function followLinks(forwarder: XdpForwarder): Disposable {
  return new LinkMonitor((link, deleted) => {
    if (!deleted) forwarder.engine.port(link.index)?.follow(link.name, link.mtu);
  });
}
