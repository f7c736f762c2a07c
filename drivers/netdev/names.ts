/**
 * Names of devices: which are allowed, and which ones a path asks for.
 *
 * @module
 */

/** Longest name in bytes: `IFNAMSIZ` is 16 with the final zero. */
export const NAME_MAX = 15;

const NAME = /^(?!\.\.?$)[a-zA-Z0-9_.-]+$/;

/** A name that no device can have. */
export class DeviceNameError extends TypeError {
  /** "EINVAL", as the kernel answers it. */
  readonly code = "EINVAL";
  /** The class's name. */
  override readonly name: string = "DeviceNameError";
}

/** @throws {DeviceNameError} unless the name has 1 to 15 letters, digits, `_`, `.` or `-`, and isn't "." or ".." */
export function checkDeviceName(name: unknown): asserts name is string {
  if (typeof name !== "string") throw new DeviceNameError(`Invalid device name ${String(name)}: a text is needed`);
  if (!NAME.test(name)) {
    throw new DeviceNameError(
      `Invalid device name ${JSON.stringify(name)}: letters, digits, "_", "." and "-" are allowed, and it isn't "." or ".."`,
    );
  }
  if (name.length > NAME_MAX) {
    throw new DeviceNameError(
      `Invalid device name ${JSON.stringify(name)}: it has ${name.length} bytes, at most ${NAME_MAX} fit`,
    );
  }
}

const decoder = new TextDecoder();

/**
 * The name that a look-up goes by, from an ifreq's first 16 bytes or a text: cut at 15 bytes, at the first zero, and at
 * ':' (what follows is an alias's label).
 */
export function cutName(name: string | Uint8Array): string {
  let bytes = typeof name === "string" ? new TextEncoder().encode(name) : name;
  bytes = bytes.subarray(0, NAME_MAX);
  let end = 0;
  while (end < bytes.length && bytes[end] !== 0 && bytes[end] !== 0x3a) end++;
  return decoder.decode(bytes.slice(0, end));
}

const PATHS = [
  /^\/proc\/sys\/net\/ipv[46]\/(?:conf|neigh)\/([^/]+)(?:\/|$)/,
  /^\/sys\/class\/net\/([^/]+)(?:\/|$)/,
  /^\/sys\/devices\/virtual\/net\/([^/]+)(?:\/|$)/,
];

/** Names that programs look for and that aren't theirs to have: the kernel's own, and those of virtual interfaces with a base. */
const NEVER = /^(?:all|default|lo|(?:br|bridge|bond|vlan)\d+|br-.*|.*\..*)$/;

/** The device that a path under `/proc/sys/net`, `/sys/class/net` or `/sys/devices/virtual/net` speaks of, or null. */
export function nameInPath(path: string): string | null {
  for (const pattern of PATHS) {
    const found = pattern.exec(path);
    if (found !== null) return found[1];
  }
  return null;
}

/** True if a path may ask for a device of that name. Whoever registers it explicitly has it anyway. */
export function mayAutoCreate(name: string): boolean {
  return NAME.test(name) && name.length <= NAME_MAX && !NEVER.test(name);
}
