/**
 * DPDK's testpmd as a test sees it: a virtio driver, or a vhost-user back end, of other people's making.
 *
 * @module
 */
import { findProgram } from "./namespace.ts";
import { TextLineStream } from "./lines.ts";

/** Totals that testpmd prints when it stops. */
export interface TestpmdTotals {
  received: number;
  sent: number;
}

/** A testpmd that forwards until it is told to stop. Without huge pages: it needs root all the same. */
export class Testpmd implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  #output = "";
  readonly #drained: Promise<unknown>;
  #ended = false;

  /** @param vdev the device, as `--vdev` takes it; `words` go behind the `--` */
  constructor(vdev: string, words: string[]) {
    const own = ["--no-huge", "-m", "256", "--no-pci", `--file-prefix=tapioca${Deno.pid}_${crypto.randomUUID().slice(0, 8)}`];
    this.#child = new Deno.Command(findProgram("dpdk-testpmd")!, {
      args: [...own, "-l", "0-1", "--vdev", vdev, "--", "--auto-start", "--total-num-mbufs=8192", ...words],
      // It runs until its standard input ends, or a line comes.
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#drained = Promise.all([this.#drain(this.#child.stdout), this.#drain(this.#child.stderr)]);
  }

  async #drain(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const line of stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())) {
      this.#output += `${line}\n`;
    }
  }

  /** What it has printed so far. */
  get output(): string {
    return this.#output;
  }

  /** Ends it, and reads its totals. */
  async stop(): Promise<TestpmdTotals> {
    const writer = this.#child.stdin.getWriter();
    await writer.write(new TextEncoder().encode("\n"));
    await writer.close().catch(() => {});
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 20_000);
    await this.#child.status;
    clearTimeout(timer);
    this.#ended = true;
    await this.#drained;
    const total = (what: string) =>
      Number([...this.#output.matchAll(new RegExp(`${what}-packets: (\\d+)`, "g"))].at(-1)?.[1] ?? NaN);
    return { received: total("RX"), sent: total("TX") };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.#child.kill("SIGKILL");
    await this.#child.stdin.close().catch(() => {});
    await this.#child.status;
    await this.#drained;
  }
}
