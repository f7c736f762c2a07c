/**
 * A network of one's own: how to start a program where it may make TAP devices and nothing on this machine changes.
 *
 * @module
 */

/** How to get in: the words before the program's own, or why there is no way and what to do about it. */
export type Enclosure = { prefix: string[]; name: string } | { prefix: null; reason: string };

const TUN = "/dev/net/tun";

/** True if `prefix program…` ends with 0. A program that isn't there counts as a no. */
function succeeds(prefix: string[], program: string[]): boolean {
  const [command, ...args] = [...prefix, ...program];
  try {
    return new Deno.Command(command, { args, stdin: "null", stdout: "null", stderr: "null" }).outputSync().success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) return false;
    throw error;
  }
}

/** Finds the gentlest way into a new network namespace in which a TAP device can be made. */
export function findEnclosure(): Enclosure {
  const ways = [
    { prefix: ["unshare", "-n"], name: "a network namespace (unshare -n)" },
    { prefix: ["unshare", "-Urn"], name: "a user and network namespace (unshare -Urn)" },
  ];
  if (Deno.uid() !== 0) ways.shift();
  const open = ways.filter((way) => succeeds(way.prefix, ["true"]));
  if (open.length === 0) {
    return { prefix: null, reason: "network namespaces are refused here (run as root, or allow unprivileged user namespaces)" };
  }
  // Opening the device node needs its permission bits only; making a device also needs the namespace's CAP_NET_ADMIN.
  const usable = open.find((way) => succeeds(way.prefix, ["sh", "-c", `: <>${TUN}`]));
  if (usable !== undefined) return usable;
  return {
    prefix: null,
    reason: `${TUN} cannot be opened (as root: mkdir -p /dev/net; mknod ${TUN} c 10 200; chmod 666 ${TUN})`,
  };
}
