/**
 * Choice of the local port: RFC 6056.
 *
 * @module
 */
import type { Secret } from "./secret.ts";

/** Linux's ip_local_port_range. */
const PORT_MIN = 32768;
const PORT_MAX = 60999;
const COUNT = PORT_MAX - PORT_MIN + 1;
/** Counters of algorithm 4: peers share them, so that one peer's connections tell little about another's. */
const TABLE = 256;

export class PortAllocator {
  readonly #next = new Uint32Array(TABLE);

  constructor(readonly secret: Secret, readonly random32: () => number) {
    for (let i = 0; i < TABLE; i++) this.#next[i] = random32() % COUNT;
  }

  //= rfc6056#3.3.4
  // Algorithm 4: Double-Hash Port Selection Algorithm: offset = F(local_IP, remote_IP, remote_port, secret_key1); index =
  // G(local_IP, remote_IP, remote_port, secret_key2); port = min_ephemeral + (offset + table[index]) % num_ephemeral
  forPeer(localKey: number, remoteKey: number, remotePort: number, free: (port: number) => boolean): number {
    const offset = this.secret.hash(localKey, remoteKey, remotePort, 3) >>> 0;
    const index = this.secret.hash(localKey, remoteKey, remotePort, 4) & (TABLE - 1);
    for (let tries = 0; tries < COUNT; tries++) {
      const port = PORT_MIN + (offset + this.#next[index]++) % COUNT;
      if (free(port)) return port;
    }
    return -1;
  }

  /** A free port for a listener, from a random place on; -1 when there is none. */
  any(free: (port: number) => boolean): number {
    const start = this.random32() % COUNT;
    for (let i = 0; i < COUNT; i++) {
      const port = PORT_MIN + (start + i) % COUNT;
      if (free(port)) return port;
    }
    return -1;
  }
}
