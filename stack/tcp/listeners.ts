/**
 * The listeners of one TCP, by port and local address.
 *
 * @module
 */
import { EADDRINUSE } from "../codes.ts";
import { ANY } from "../ip/types.ts";
import type { Listener } from "./listener.ts";
import type { PortAllocator } from "./ports.ts";

export class ListenerTable {
  size = 0;
  readonly #byPort = new Map<number, Listener[]>();

  /** The port to listen on, free at `localKey`: `port` itself, or any when it is 0. `EADDRINUSE` when there is none. */
  choose(localKey: number, port: number, ports: PortAllocator): number {
    const free = (p: number): boolean => {
      const list = this.#byPort.get(p);
      return list === undefined || !list.some((l) => l.localKey === localKey || l.localKey === ANY || localKey === ANY);
    };
    const chosen = port === 0 ? ports.any(free) : port;
    return chosen < 0 || !free(chosen) ? EADDRINUSE : chosen;
  }

  add(listener: Listener): void {
    const list = this.#byPort.get(listener.localPort);
    if (list === undefined) this.#byPort.set(listener.localPort, [listener]);
    else list.push(listener);
    this.size++;
  }

  remove(listener: Listener): void {
    const list = this.#byPort.get(listener.localPort);
    const index = list === undefined ? -1 : list.indexOf(listener);
    if (list === undefined || index < 0) return;
    list.splice(index, 1);
    if (list.length === 0) this.#byPort.delete(listener.localPort);
    this.size--;
  }

  /** Who listens on an address and port: the one bound to the address before the one bound to all. */
  find(localKey: number, port: number): Listener | null {
    const list = this.#byPort.get(port);
    if (list === undefined) return null;
    let any: Listener | null = null;
    for (const listener of list) {
      if (listener.localKey === localKey) return listener;
      if (listener.localKey === ANY) any = listener;
    }
    return any;
  }

  all(): Listener[] {
    return [...this.#byPort.values()].flat();
  }
}
