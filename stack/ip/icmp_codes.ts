/**
 * What an ICMP error means to a program: codes as Linux has them (icmp_err_convert), and which are hard.
 *
 * @module
 */
import { ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, ENOPROTOOPT, EPROTO } from "../codes.ts";
import { ICMP_PARAMETER_PROBLEM, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE } from "../wire/icmp.ts";

//= rfc1122#4.2.3.9
// Destination Unreachable -- codes 0, 1, 5: these Unreachable messages indicate soft error conditions … codes 2-4: these are
// hard error conditions
const UNREACHABLE: readonly number[] = [
  ENETUNREACH, // 0 net
  EHOSTUNREACH, // 1 host
  ENOPROTOOPT, // 2 protocol
  ECONNREFUSED, // 3 port
  EMSGSIZE, // 4 fragmentation needed
  EHOSTUNREACH, // 5 source route failed
  ENETUNREACH, // 6 net unknown
  EHOSTDOWN, // 7 host unknown
  EHOSTUNREACH, // 8 source host isolated
  ENETUNREACH, // 9 net prohibited
  EHOSTUNREACH, // 10 host prohibited
  ENETUNREACH, // 11 net for this type of service
  EHOSTUNREACH, // 12 host for this type of service
  EHOSTUNREACH, // 13 communication prohibited
  EHOSTUNREACH, // 14 precedence violation
  EHOSTUNREACH, // 15 precedence cut-off
];

/** By type: one bit a code, set if the error is hard. Code 4 is soft: path MTU discovery deals with it. */
export const HARD: Uint32Array = new Uint32Array(256);
HARD[ICMP_UNREACHABLE] = (1 << 2) | (1 << 3) | (1 << 6) | (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10) | (1 << 13) | (1 << 14) |
  (1 << 15);
HARD[ICMP_PARAMETER_PROBLEM] = 0xffffffff;

/** The negative code of `stack/codes.ts` for an ICMP type and code; 0 for one that means nothing to anybody. */
export function errorOf(type: number, code: number): number {
  if (type === ICMP_UNREACHABLE) return code < UNREACHABLE.length ? UNREACHABLE[code] : 0;
  if (type === ICMP_TIME_EXCEEDED) return code <= 1 ? EHOSTUNREACH : 0;
  return type === ICMP_PARAMETER_PROBLEM ? EPROTO : 0;
}
