/**
 * Turns segmentation and checksum offload of a network device off, as `ethtool -K DEVICE tso off gso off gro off tx off` does,
 * for machines without ethtool: `offload_off.ts DEVICE`.
 *
 * @module
 */
import { openLibc } from "../testing/loopback.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SIOCETHTOOL = 0x8946;
/** ETHTOOL_SGRO, _SGSO, _STSO, _STXCSUM of linux/ethtool.h: segmentation before the checksums that it needs. */
const COMMANDS = [0x2c, 0x24, 0x1f, 0x17];

function main(device: string): number {
  const libc = openLibc();
  const fd = libc.symbols.socket(AF_INET, SOCK_DGRAM, 0);
  // struct ethtool_value: the command, and its value (0 is off).
  const value = new Uint32Array(2);
  const request = new Uint8Array(40);
  request.set(new TextEncoder().encode(device));
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(value));
  new DataView(request.buffer).setBigUint64(16, BigInt(address), true);
  let failed = 0;
  for (const command of COMMANDS) {
    value[0] = command;
    if (libc.symbols.ioctl(fd, SIOCETHTOOL, request) !== 0) failed++;
  }
  libc.symbols.close(fd);
  libc.close();
  if (failed > 0) console.error(`offload_off: ${device}: the kernel refused ${failed} of ${COMMANDS.length}`);
  return failed === 0 ? 0 : 1;
}

Deno.exit(main(Deno.args[0] ?? ""));
