/**
 * Datagrams carried between a guest's flow and a socket of this machine.
 *
 * @module
 */
import type { UdpConn } from "../stack/host/udp_conn.ts";
import type { DatagramSocket, Destination, GatewaySockets } from "./sockets.ts";

/** Datagrams that may be on their way in one direction of a flow, and their bytes: what comes then is lost. */
const IN_FLIGHT_MAX = 64;
const IN_FLIGHT_BYTES = 256 * 1024;

/** What is on its way in one direction: a socket that is full keeps what it is given, and must not be given without end. */
export class InFlight {
  #count = 0;
  #bytes = 0;

  /** True if so many bytes more may go; then {@link sent} must follow. */
  take(bytes: number): boolean {
    if (this.#count >= IN_FLIGHT_MAX || this.#bytes + bytes > IN_FLIGHT_BYTES) return false;
    this.#count++;
    this.#bytes += bytes;
    return true;
  }

  /** They have gone, or are lost. */
  sent(bytes: number): void {
    this.#count--;
    this.#bytes -= bytes;
  }
}

/** What a {@link UdpRelay} tells. */
export interface UdpRelayEvents {
  /** Bytes carried, from the guest (true) or to it. */
  count(forth: boolean, bytes: number): void;
  /** A datagram was lost, because too many were on their way. */
  dropped(): void;
  /** The socket outside doesn't work, or the destination has refused. */
  failed(error: Error): void;
  /** Called once, when it is over. */
  ended(): void;
}

/** One flow: ends itself when nothing has passed for a while. */
export class UdpRelay {
  readonly #inside: UdpConn;
  readonly #outside: DatagramSocket;
  readonly #idleMs: number;
  readonly #events: UdpRelayEvents;
  readonly #forth = new InFlight();
  readonly #back = new InFlight();
  #timer: ReturnType<typeof setTimeout> | null = null;
  #closed = false;
  /** When something passed last: milliseconds of `performance.now()`. */
  lastAt: number = performance.now();

  /** @throws what opening the socket outside throws; the guest's socket is closed then */
  constructor(inside: UdpConn, to: Destination, sockets: GatewaySockets, idleMs: number, events: UdpRelayEvents) {
    this.#inside = inside;
    this.#idleMs = idleMs;
    this.#events = events;
    try {
      this.#outside = sockets.datagrams(to, {
        message: (bytes) => {
          if (this.#closed) return;
          this.#touch();
          this.#bring(bytes);
        },
        failed: (error) => {
          if (this.#closed) return;
          events.failed(error);
          this.close();
        },
      });
    } catch (error) {
      inside[Symbol.dispose]();
      throw error;
    }
    this.#receive();
    this.#arm();
  }

  async #bring(bytes: Uint8Array): Promise<void> {
    const { length } = bytes;
    if (!this.#back.take(length)) return this.#events.dropped();
    this.#events.count(false, length);
    try {
      await this.#inside.send(bytes);
    } catch { /* the guest has refused, or isn't there */ }
    this.#back.sent(length);
  }

  async #receive(): Promise<void> {
    try {
      for await (const [bytes] of this.#inside) {
        this.#touch();
        if (!this.#forth.take(bytes.length)) {
          this.#events.dropped();
          continue;
        }
        this.#events.count(true, bytes.length);
        this.#send(bytes as Uint8Array<ArrayBuffer>);
      }
    } catch { /* the guest has refused, or the stack has ended */ }
    this.close();
  }

  #send(bytes: Uint8Array<ArrayBuffer>): void {
    // What can't be sent is lost, as datagrams may be; a refusal comes by `failed`.
    const sending = this.#outside.send(bytes);
    if (sending === undefined) this.#forth.sent(bytes.length);
    else sending.then(() => this.#forth.sent(bytes.length));
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
    this.#events.ended();
  }
}
