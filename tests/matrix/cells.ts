/**
 * The cells of the seeded matrix: one transfer each over a simulated link, from connect to the end, checked by SHA-256.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { ManualClock, type NetStack, Network, type TcpConn, type TcpOptions } from "../../mod.ts";

/** Shares of packets lost, each way. */
export const LOSSES = [0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3] as const;
/** Largest receive windows in bytes. */
export const WINDOWS = [16_384, 32_768, 262_144, 4_194_304] as const;
/** Round-trip times in milliseconds. */
export const RTTS = [1, 10, 100, 300] as const;
/** What else the link does, each way. */
export const CONDITIONS = {
  plain: {},
  reordered: { reorder: 0.02 },
  duplicated: { duplicate: 0.02 },
  corrupted: { corrupt: 0.01 },
  all: { reorder: 0.02, duplicate: 0.02, corrupt: 0.01 },
} as const;
export const BYTES = 10 * 1024 * 1024;

export type Condition = keyof typeof CONDITIONS;

/** Senders that differ from the default, for the comparison at 32 KiB and 100 ms. */
export const SENDERS: Record<string, TcpOptions> = {
  default: {},
  "for lossy paths": { rtoMinMs: 40, thinLinearTimeouts: true },
  "fixed window": {
    congestionControl: () => ({
      name: "fixed",
      onAck: (state) => void (state.cwnd = ALL),
      onLoss: () => ALL,
      onTimeout: () => ALL,
    }),
  },
};
const ALL = 1 << 29;

export interface Cell {
  condition: Condition;
  /** Index into {@link LOSSES}; so the others. */
  loss: number;
  window: number;
  rtt: number;
  /** One of {@link SENDERS}; without: the default. */
  sender?: string;
  /** Of the losses; without: the cell's place in the list. */
  seed?: number;
}

/** Transfers a cell beside smoltcp: of one alone, a figure at heavy loss is a tenth more or less by chance. */
export const SEEDS = 8;

/** Every cell, in the order of the table. */
export function allCells(): Cell[] {
  const cells: Cell[] = [];
  for (const condition of Object.keys(CONDITIONS) as Condition[]) {
    for (let window = 0; window < WINDOWS.length; window++) {
      for (let rtt = 0; rtt < RTTS.length; rtt++) {
        for (let loss = 0; loss < LOSSES.length; loss++) cells.push({ condition, loss, window, rtt });
      }
    }
  }
  return cells;
}

/** The cells beside smoltcp, {@link SEEDS} of each, by sender and loss. */
export function compared(): Cell[] {
  return Object.keys(SENDERS).flatMap((sender) =>
    LOSSES.flatMap((_, loss) =>
      Array.from({ length: SEEDS }, (_, i) => ({ condition: "plain" as const, loss, window: 1, rtt: 2, sender, seed: 1001 + i }))
    )
  );
}

/** A place in the list of all cells, which seeds the cell too. */
export function indexOf(cell: Cell): number {
  const condition = Object.keys(CONDITIONS).indexOf(cell.condition);
  return ((condition * WINDOWS.length + cell.window) * RTTS.length + cell.rtt) * LOSSES.length + cell.loss;
}

/** Connects, again when three lost ARP requests in a row make the other host unreachable. */
async function connect(from: NetStack): Promise<TcpConn> {
  for (;;) {
    try {
      return await from.connect({ hostname: "10.0.0.2", port: 7 });
    } catch (error) {
      if (!(error instanceof Error) || (error as { code?: string }).code !== "EHOSTUNREACH") throw error;
    }
  }
}

/** Bytes that look like nothing, the same every time. */
function noise(length: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(length / 4);
  for (let i = 0, x = 1; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
  return new Uint8Array(words.buffer);
}

const chunk = noise(65_536);

/** One cell: bytes a second of the network's time, rounded; throws when what arrived is not what was sent. */
export async function runCell(cell: Cell, bytes: number = BYTES): Promise<number> {
  using net = new Network({ clock: new ManualClock(), seed: cell.seed ?? 1 + indexOf(cell) });
  // Only patience is not Linux's default: at 30 % each way fifteen retransmissions in a row may well be lost.
  const tcp = { userTimeoutMs: 24 * 3_600_000 };
  const alice = net.host("alice", { address: "10.0.0.1/24", tcp: { ...tcp, ...SENDERS[cell.sender ?? "default"] } });
  const bob = net.host("bob", { address: "10.0.0.2/24", tcp: { ...tcp, receiveBufferMax: WINDOWS[cell.window] } });
  net.link(alice, bob, { ...CONDITIONS[cell.condition], delay: RTTS[cell.rtt] / 2, loss: LOSSES[cell.loss] });
  return await net.run(async () => {
    const listener = bob.listen({ port: 7 });
    const sender = await connect(alice);
    const began = net.now;
    const sent = createHash("sha256");
    const sending = (async () => {
      for (let done = 0; done < bytes;) {
        const count = await sender.write(
          chunk.subarray(done % chunk.length, Math.min(chunk.length, done % chunk.length + bytes - done)),
        );
        sent.update(chunk.subarray(done % chunk.length, done % chunk.length + count));
        done += count;
      }
      await sender.closeWrite();
    })();
    const received = createHash("sha256");
    const into = new Uint8Array(65_536);
    let length = 0;
    // The last ACK of the handshake may be lost: only what is sent behind it brings the other end's connection about.
    const receiver = await listener.accept();
    for (let count; (count = await receiver.read(into)) !== null; length += count) received.update(into.subarray(0, count));
    const rate = Math.round(length / ((net.now - began) / 1000));
    await sending;
    const digests = [sent.digest("hex"), received.digest("hex")];
    if (length !== bytes || digests[0] !== digests[1]) {
      throw new Error(`cell ${JSON.stringify(cell)}: ${length} of ${bytes} bytes, SHA-256 ${digests.join(" and ")}`);
    }
    return rate;
  });
}

const scope = self as unknown as { onmessage?: (event: MessageEvent<Cell>) => void; postMessage?(value: unknown): void };
if ("WorkerGlobalScope" in globalThis) {
  scope.onmessage = async ({ data }) => {
    try {
      scope.postMessage!({ rate: await runCell(data) });
    } catch (error) {
      scope.postMessage!({ error: String(error) });
    }
  };
}
