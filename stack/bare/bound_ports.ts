/**
 * Ports that bound sockets hold before they listen or connect.
 *
 * @module
 */
import { EADDRINUSE, ENOBUFS } from "../codes.ts";
import { ANY } from "../ip/types.ts";
import type { Tcp } from "../tcp/tcp.ts";

/** Linux's ip_local_port_range. */
const PORT_MIN = 32_768;
const PORT_COUNT = 60_999 - PORT_MIN + 1;
/** Sockets that may be bound at once; beyond it `bind` gives `ENOBUFS`. */
const BOUND_MAX = 65_536;

interface Bound {
  key: number;
  reuse: boolean;
}

/** The bound ports of one stack. */
export class BoundPorts {
  readonly #tcp: Tcp;
  readonly #byPort = new Map<number, Bound[]>();
  #size = 0;

  constructor(tcp: Tcp) {
    this.#tcp = tcp;
  }

  #free(key: number, port: number, reuse: boolean): boolean {
    const meets = (other: number) => other === key || other === ANY || key === ANY;
    if (this.#byPort.get(port)?.some((bound) => meets(bound.key) && !(reuse && bound.reuse)) === true) return false;
    const listener = this.#tcp.listeners.find(key, port);
    return listener === null || !meets(listener.localKey);
  }

  /** Reserves a port, any free one for 0. The port, `EADDRINUSE` or `ENOBUFS`. */
  reserve(key: number, port: number, reuse: boolean): number {
    if (this.#size >= BOUND_MAX) return ENOBUFS;
    let chosen = port;
    if (port === 0) {
      const start = this.#tcp.ip.random32();
      let tries = 0;
      do chosen = PORT_MIN + (start + tries) % PORT_COUNT; while (!this.#free(key, chosen, false) && ++tries < PORT_COUNT);
    }
    if (!this.#free(key, chosen, reuse)) return EADDRINUSE;
    const list = this.#byPort.get(chosen);
    if (list === undefined) this.#byPort.set(chosen, [{ key, reuse }]);
    else list.push({ key, reuse });
    this.#size++;
    return chosen;
  }

  release(key: number, port: number): void {
    const list = this.#byPort.get(port);
    const at = list === undefined ? -1 : list.findIndex((bound) => bound.key === key);
    if (list === undefined || at < 0) return;
    list.splice(at, 1);
    this.#size--;
    if (list.length === 0) this.#byPort.delete(port);
  }
}
