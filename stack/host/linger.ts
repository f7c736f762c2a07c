/**
 * Ending a stack's connections in an orderly way.
 *
 * @module
 */
import { ESTABLISHED, FIN_WAIT_2, SYN_RECEIVED, SYN_SENT, TIME_WAIT } from "../tcp/types.ts";
import type { TcpLayer } from "../tcp/types.ts";
import type { Pump } from "./pump.ts";

/** How long `await using` waits for connections to end in an orderly way, in milliseconds. */
export const LINGER_MS = 5_000;
const POLL_MS = 5;

/** How long it waits for the ends of peers that have acknowledged everything: a peer that never closes must not hold us. */
const PEER_END_MS = 250;

/**
 * Closes every connection, and waits until the peers have everything, at most `limitMs`. Connections that still owe the
 * peer something then are reset; the others are left, because a reset would make the peer forget what it hasn't read.
 */
export async function linger(pump: Pump, limitMs: number): Promise<void> {
  pump.now();
  for (const socket of [...pump.tcp.sockets()]) {
    if (socket.state === SYN_SENT || socket.state === SYN_RECEIVED) socket.abort();
    else if (socket.state >= ESTABLISHED) socket.close();
  }
  pump.schedule();
  const begin = pump.clock.now();
  for (let waited = 0; !pump.closed && waited < limitMs; waited = pump.clock.now() - begin) {
    if (!unfinished(pump.tcp, waited < PEER_END_MS)) return;
    await pause(pump, POLL_MS);
  }
  pump.now();
  for (const socket of [...pump.tcp.sockets()]) if (!acknowledged(socket.state)) socket.abort();
}

function acknowledged(state: number): boolean {
  return state === FIN_WAIT_2 || state === TIME_WAIT;
}

function unfinished(tcp: TcpLayer, andPeers: boolean): boolean {
  for (const { state } of tcp.sockets()) {
    if (andPeers ? state !== TIME_WAIT : !acknowledged(state)) return true;
  }
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
