/**
 * Ending a stack's connections in an orderly way.
 *
 * @module
 */
import { ESTABLISHED, SYN_RECEIVED, SYN_SENT, TIME_WAIT } from "../tcp/types.ts";
import type { TcpLayer } from "../tcp/types.ts";
import type { Pump } from "./pump.ts";

/** How long `await using` waits for connections to end in an orderly way, in milliseconds. */
export const LINGER_MS = 5_000;
const POLL_MS = 5;

/** Closes every connection, and waits until the peers have everything, at most `limitMs`. */
export async function linger(pump: Pump, limitMs: number): Promise<void> {
  pump.now();
  for (const socket of [...pump.tcp.sockets()]) {
    if (socket.state === SYN_SENT || socket.state === SYN_RECEIVED) socket.abort();
    else if (socket.state >= ESTABLISHED) socket.close();
  }
  pump.schedule();
  const until = pump.clock.now() + limitMs;
  while (!pump.closed && unfinished(pump.tcp) && pump.clock.now() < until) await pause(pump, POLL_MS);
}

function unfinished(tcp: TcpLayer): boolean {
  for (const { state } of tcp.sockets()) if (state !== TIME_WAIT) return true;
  return false;
}

function pause(pump: Pump, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const waiting = {
      fail: () => {
        stop();
        resolve();
      },
    };
    const stop = pump.setTimer(ms, () => {
      pump.failables.delete(waiting);
      resolve();
    });
    pump.failables.add(waiting);
  });
}
