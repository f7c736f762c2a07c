/**
 * Which addresses are the stack's, and which stay with the host.
 *
 * @module
 */
import { formatKey, isLoopback, tryParseAddress } from "../stack/wire/address.ts";
import { ENETUNREACH } from "../stack/codes.ts";
import { errorFrom } from "../stack/host/errors.ts";

/** What a program asks the network for, as {@link UseStackOptions.match} sees it. */
export interface RuntimeTarget {
  /** "connect" with somebody else, or "listen" for others: on a port, or for datagrams. */
  use: "connect" | "listen";
  /** The protocol. */
  transport: "tcp" | "udp";
  /** The address or name as the program gave it, without brackets. */
  hostname: string;
  /** The port; 0 for a free one. */
  port: number;
}

/** Decides for one stack. */
export interface Rule {
  /** True if the stack is to do it. */
  takes(target: RuntimeTarget): boolean;
}

/** What a program meant, without the brackets of a URL and the IPv6 form of an IPv4 address. */
export function plainHost(hostname: string): string {
  const bare = hostname.startsWith("[") && hostname.endsWith("]") ? hostname.slice(1, -1) : hostname;
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare)?.[1] ?? bare;
}

/** Addresses and names that mean the machine itself: 127.0.0.0/8, `::1`, "localhost" and what ends in ".localhost" (RFC 6761). */
export function isLoopbackHost(hostname: string): boolean {
  const plain = plainHost(hostname).toLowerCase().replace(/\.$/, "");
  if (plain === "localhost" || plain.endsWith(".localhost") || plain === "::1") return true;
  const key = tryParseAddress(plain);
  return key !== null && isLoopback(key);
}

/** The rule of the options: everything but loop-back, or what the user says. */
export function ruleFrom(match: ((target: RuntimeTarget) => boolean) | undefined, loopback: boolean): Rule {
  const takes = match ?? (({ hostname }: RuntimeTarget) => loopback || !isLoopbackHost(hostname));
  return { takes: (target) => takes({ ...target, hostname: plainHost(target.hostname) }) };
}

/**
 * The address or name as the stack takes it.
 *
 * @throws {Deno.errors.NetworkUnreachable} for an IPv6 address: the stack has no way there, and the host's must not be used instead
 */
export function stackHost(hostname: string): string {
  const plain = plainHost(hostname);
  if (plain === "::1" || plain.toLowerCase().endsWith(".localhost")) return "127.0.0.1";
  if (plain.includes(":")) throw errorFrom(ENETUNREACH, `${plain}: the stack speaks IPv4`);
  return plain;
}

/** The address to listen on, as the stack takes it: "::" is all of its addresses. */
export function stackListenHost(hostname: string): string {
  const plain = plainHost(hostname);
  return plain === "::" || plain === "" ? formatKey(0) : stackHost(plain);
}
