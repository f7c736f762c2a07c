/**
 * The sockets that a gateway carries its guests' flows on with: Deno's own, or whoever else makes some.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";
import type { RelayEnd } from "./tcp_relay.ts";

/** An address outside: never a name. */
export interface Destination {
  /** IPv4. */
  readonly hostname: string;
  /** 1 to 65,535; what a guest asked for. */
  readonly port: number;
}

/** A datagram socket that is connected to one destination. */
export interface DatagramSocket {
  /** Sends, at once or a little later; what can't be sent is lost. Resolves when the bytes are no longer needed. */
  send(bytes: Uint8Array<ArrayBuffer>): Promise<void> | void;
  /** Ends it: no more calls of its events. A second call does nothing. */
  close(): void;
}

/** What a {@link DatagramSocket} tells, never from inside a call. */
export interface DatagramEvents {
  /** A datagram of the destination has come; the bytes are the receiver's. */
  message(bytes: Uint8Array<ArrayBuffer>): void;
  /** The socket doesn't work, or the destination has refused (`ConnectionRefused`). */
  failed(error: Error): void;
}

/**
 * Makes the sockets outside. Of your own, it can lead the guests through a proxy, or nowhere:
 *
 * ```ts
 * import { type GatewaySockets, HostSockets } from "@tapioca/tapioca";
 *
 * // All web pages are the one of a test's own server.
 * const host = new HostSockets();
 * export const sockets: GatewaySockets = {
 *   connect: (to, signal) => host.connect(to.port === 80 ? { hostname: "127.0.0.1", port: 8000 } : to, signal),
 *   datagrams: (to, events) => host.datagrams(to, events),
 * };
 * ```
 */
export interface GatewaySockets {
  /**
   * Opens a connection without Nagle's algorithm.
   *
   * @param signal aborted when nobody waits any longer
   * @throws `ConnectionRefused` and `ConnectionReset`, which the guest gets as a reset; EMFILE, after which it asks again; others
   */
  connect(to: Destination, signal: AbortSignal): Promise<RelayEnd>;
  /** Opens a datagram socket. @throws {Deno.errors.NotCapable} which the guest gets as "prohibited"; others */
  datagrams(to: Destination, events: DatagramEvents): DatagramSocket;
  /** Opens a port that leads in; port 0 for a free one. Default: one of Deno's. @throws what listening throws */
  listen?(at: Destination): ConnectionSource;
}

/** Connections outside that want in. */
export interface ConnectionSource {
  /** Where it listens. */
  readonly addr: Destination;
  /** The next one. Rejects when it is closed, and for a while when something is short (EMFILE). */
  accept(): Promise<RelayEnd>;
  /** Listens no longer. */
  close(): void;
}

/** Closes a socket of Node, which throws when it is closed already. */
export function closeQuietly(socket: Socket): void {
  try {
    socket.close();
  } catch { /* an error has closed it before */ }
}

function requirePermission(host: string): void {
  if (Deno.permissions.querySync({ name: "net", host }).state === "granted") return;
  throw new Deno.errors.NotCapable(`Requires net access to "${host}", run again with the --allow-net flag`);
}

class DenoDatagrams implements DatagramSocket {
  readonly #socket: Socket = createSocket("udp4");
  /** Came before the socket was connected. */
  #early: (() => void)[] | null = [];
  #closed = false;

  constructor(to: Destination, events: DatagramEvents) {
    // Node's socket binds itself, and what that throws nobody can catch.
    requirePermission("0.0.0.0");
    requirePermission(`${to.hostname}:${to.port}`);
    const socket = this.#socket;
    socket.on("message", (bytes: Uint8Array<ArrayBuffer>, from: { address: string; port: number }) => {
      // Deno's connected sockets hear everybody.
      if (!this.#closed && from.address === to.hostname && from.port === to.port) events.message(bytes);
    });
    socket.on("error", (error: Error) => {
      if (!this.#closed) events.failed(error);
    });
    try {
      socket.connect(to.port, to.hostname, () => {
        const early = this.#early ?? [];
        this.#early = null;
        for (const send of early) send();
      });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  send(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return new Promise((resolve) => {
      const send = () => {
        if (this.#closed) return resolve();
        // A refusal comes as an "error".
        this.#socket.send(bytes, () => resolve());
      };
      if (this.#early === null) send();
      else this.#early.push(send);
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeQuietly(this.#socket);
    for (const send of this.#early ?? []) send();
    this.#early = null;
  }
}

/** Sockets of Deno: they need `--allow-net` and nothing else. */
export const denoSockets: Required<GatewaySockets> = {
  listen(at: Destination): ConnectionSource {
    const listener = Deno.listen({ hostname: at.hostname, port: at.port });
    return {
      addr: listener.addr,
      async accept() {
        const conn = await listener.accept();
        conn.setNoDelay(true);
        return conn;
      },
      close: () => listener.close(),
    };
  },
  async connect(to: Destination, signal: AbortSignal): Promise<RelayEnd> {
    const conn = await Deno.connect({ hostname: to.hostname, port: to.port, signal });
    conn.setNoDelay(true);
    return conn;
  },
  datagrams: (to: Destination, events: DatagramEvents): DatagramSocket => new DenoDatagrams(to, events),
};
