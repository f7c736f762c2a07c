/**
 * Being told when links come, change and go (the multicast group of rtnetlink), for descriptors that don't tell by themselves
 * when their interface is gone.
 *
 * @module
 */
import { Descriptor } from "./descriptor.ts";
import { EINTR, errnoError } from "./errno.ts";
import { libc } from "./libc.ts";

const AF_NETLINK = 16;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0x800 | 0x80000;
const NETLINK_ROUTE = 0;
const RTMGRP_LINK = 1;
/** Messages read at once; after an overflow the kernel goes on with the next. */
const READS_MAX = 1000;

/** Readable whenever a link of the namespace where it was opened has changed. */
export class LinkEvents extends Descriptor {
  readonly #buffer = new Uint8Array(8192);

  /** @throws the error of the call */
  static open(): LinkEvents {
    const lib = libc();
    const fd = lib.socket(AF_NETLINK, SOCK_RAW_NONBLOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) throw errnoError("open", "a netlink socket", lib.errno[0]);
    const address = new DataView(new ArrayBuffer(12));
    address.setUint16(0, AF_NETLINK, true);
    address.setUint32(8, RTMGRP_LINK, true);
    if (lib.bind(fd, new Uint8Array(address.buffer), 12) !== 0) {
      const code = lib.errno[0];
      lib.close(fd);
      throw errnoError("listen for", "changes of links", code);
    }
    return new LinkEvents(fd);
  }

  /** Forgets what was told: what has become of a link, its owner asks the link. */
  drain(): void {
    for (let i = 0; i < READS_MAX; i++) {
      const n = this.read(this.#buffer);
      // ENOBUFS: more happened than could be told, which tells enough.
      if (n < 0 && n !== -EINTR) return;
    }
  }
}
