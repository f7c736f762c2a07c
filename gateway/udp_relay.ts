/**
 * Datagrams carried between a guest's flow and a socket of this machine.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";
import type { UdpConn } from "../stack/host/udp_conn.ts";

/** One flow: ends itself when nothing has passed for a while. */
export class UdpRelay {
  readonly #inside: UdpConn;
  readonly #outside: Socket;
  readonly #idleMs: number;
  readonly #ended: () => void;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #closed = false;
  #ready = false;
  /** Came before the socket outside was connected. */
  #early: Uint8Array[] = [];
  /** When something passed last: milliseconds of `performance.now()`. */
  lastAt: number = performance.now();

  /**
   * @param refused the other side says that nobody is there
   * @param ended called once, when it is over
   */
  constructor(
    inside: UdpConn,
    to: { hostname: string; port: number },
    idleMs: number,
    count: (forth: boolean, bytes: number) => void,
    refused: () => void,
    ended: () => void,
  ) {
    this.#inside = inside;
    this.#idleMs = idleMs;
    this.#ended = ended;
    const outside = this.#outside = createSocket("udp4");
    outside.on("message", (bytes: Uint8Array, from: { address: string; port: number }) => {
      // Deno's connected sockets hear everybody.
      if (from.address !== to.hostname || from.port !== to.port) return;
      this.#touch();
      count(false, bytes.length);
      inside.send(bytes).catch(() => {});
    });
    outside.on("error", () => {
      refused();
      this.close();
    });
    outside.connect(to.port, to.hostname, () => {
      this.#ready = true;
      for (const bytes of this.#early.splice(0)) this.#send(bytes);
    });
    this.#receive(count);
    this.#arm();
  }

  async #receive(count: (forth: boolean, bytes: number) => void): Promise<void> {
    try {
      for await (const [bytes] of this.#inside) {
        this.#touch();
        count(true, bytes.length);
        if (this.#ready) this.#send(bytes);
        else if (this.#early.length < 64) this.#early.push(bytes);
      }
    } catch { /* the guest has refused, or the stack has ended */ }
    this.close();
  }

  #send(bytes: Uint8Array): void {
    if (this.#closed) return;
    // What can't be sent is lost, as datagrams may be; a refusal comes as an "error".
    this.#outside.send(bytes, () => {});
  }

  #touch(): void {
    this.lastAt = performance.now();
  }

  #arm(): void {
    this.#timer = setTimeout(() => {
      if (performance.now() - this.lastAt >= this.#idleMs) this.close();
      else this.#arm();
    }, this.#idleMs);
  }

  /** Ends the flow. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#inside[Symbol.dispose]();
    this.#outside.close();
    this.#ended();
  }
}
