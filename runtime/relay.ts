/**
 * Bytes from one connection to another, for what takes no connection but the kernel's.
 *
 * @module
 */

/** Bytes carried at once. */
const RELAY_BYTES = 65_536;
/** Strangers that may come to the port of {@link kernelPair} before it gives up. */
const STRANGERS_MAX = 16;

/** What two kinds of connection have in common. */
export interface Connection extends Disposable {
  read(p: Uint8Array): Promise<number | null>;
  write(p: Uint8Array): Promise<number>;
  closeWrite(): Promise<void>;
  /** Ends it with a reset, where there is a way to. */
  abort?(): void;
}

/** Writes all of it. */
export async function writeAll(to: Connection, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await to.write(at === 0 ? bytes : bytes.subarray(at));
}

async function carry(from: Connection, to: Connection): Promise<void> {
  const buffer = new Uint8Array(RELAY_BYTES);
  for (;;) {
    const count = await from.read(buffer);
    if (count === null) return await to.closeWrite();
    await writeAll(to, buffer.subarray(0, count));
  }
}

/**
 * Carries bytes both ways until both sides have ended, or one fails; then closes both. Never rejects. What fails on one side fails
 * on the other: an end there would say that all has come.
 */
export async function relay(left: Connection, right: Connection): Promise<void> {
  const both = [left, right];
  // The other one may wait for ever.
  const fail = () => both.forEach((one) => one.abort === undefined ? one[Symbol.dispose]() : one.abort());
  const half = (from: Connection, to: Connection) => carry(from, to).catch(fail);
  await Promise.all([half(left, right), half(right, left)]);
  both.forEach((one) => one[Symbol.dispose]());
}

/** The host's own functions, as they were before the hook. */
export interface KernelNet {
  connect: typeof Deno.connect;
  listen: typeof Deno.listen;
}

/** Two ends of a connection of the kernel's, through 127.0.0.1: nobody else's, since both ends know the other's port. */
export async function kernelPair(net: KernelNet): Promise<[Deno.TcpConn, Deno.TcpConn]> {
  using listener = net.listen({ hostname: "127.0.0.1", port: 0 });
  const near = await net.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  try {
    for (let strangers = 0; strangers < STRANGERS_MAX; strangers++) {
      const far = await listener.accept();
      if (far.remoteAddr.port === near.localAddr.port) return [near, far];
      far.close();
    }
    throw new Deno.errors.ConnectionAborted("others keep connecting to the port of a pair");
  } catch (error) {
    near.close();
    throw error;
  }
}
