/**
 * What the patched functions of one installation share.
 *
 * @module
 */
import type { NetStack } from "../stack/host/net_stack.ts";
import type { Rule } from "./rule.ts";

/** How often programs have met the stack since {@link useStack}: a copy. */
export interface RuntimeStatistics {
  /** Connections opened over the stack by everything else. */
  connects: number;
  /** Ports opened on the stack, for connections or datagrams. */
  listens: number;
  /** Calls that stayed with the host. */
  host: number;
  /** Connections opened over the stack by `fetch` and `WebSocket`, through the proxy. */
  proxied: number;
  /** Connections to the proxy that were turned away: too many, not from this process, or no SOCKS. */
  proxyRefused: number;
}

/** One installation. */
export interface Hook {
  readonly stack: NetStack;
  readonly rule: Rule;
  readonly statistics: RuntimeStatistics;
  /** False once it is undone: then everything is the host's, for those who have kept a patched function. */
  active: boolean;
}

/** Decides where a call goes, and counts it. */
export function takes(hook: Hook, use: "connect" | "listen", transport: "tcp" | "udp", hostname: string, port: unknown): boolean {
  if (!hook.active) return false;
  if (!hook.rule.takes({ use, transport, hostname, port: Number(port) || 0 })) {
    hook.statistics.host++;
    return false;
  }
  if (use === "connect") hook.statistics.connects++;
  else hook.statistics.listens++;
  return true;
}
