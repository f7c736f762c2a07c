/**
 * What a supervised program writes: read from its thread's stream, and at its end to the last byte, so that the thread can go.
 *
 * @module
 */

type Bytes = Uint8Array<ArrayBuffer>;

/** Kept at most for somebody who reads later; a pipe holds 64 KiB, and what has ended can have left no more. */
const KEPT_MAX = 1 << 20;

/** One output of a program. */
export class Output {
  /** For the user. */
  readonly stream: ReadableStream<Bytes>;
  readonly #reader: ReadableStreamDefaultReader<Bytes>;
  readonly #ended: () => void;
  readonly #kept: Bytes[] = [];
  #keptBytes = 0;
  #over = false;
  #error: unknown = null;
  /** The reading under way. */
  #reading: Promise<void> | null = null;

  /** @param ended called once, when all has been read or nobody wants it */
  constructor(source: ReadableStream<Bytes>, ended: () => void) {
    this.#reader = source.getReader();
    this.#ended = ended;
    this.stream = new ReadableStream<Bytes>({
      pull: (controller) => this.#pull(controller),
      cancel: async (reason) => {
        this.#over = true;
        await this.#reader.cancel(reason);
        ended();
      },
    }, { highWaterMark: 0 });
  }

  async #pull(controller: ReadableStreamDefaultController<Bytes>): Promise<void> {
    while (this.#kept.length === 0 && !this.#over) await this.#read();
    const chunk = this.#kept.shift();
    if (chunk !== undefined) {
      this.#keptBytes -= chunk.length;
      controller.enqueue(chunk);
    } else if (this.#error !== null) controller.error(this.#error);
    else controller.close();
  }

  #read(): Promise<void> {
    return this.#reading ??= this.#reader.read().then(({ value, done }) => {
      if (done) this.#end(null);
      else {
        this.#kept.push(value);
        this.#keptBytes += value.length;
      }
    }, (error) => this.#end(error)).finally(() => this.#reading = null);
  }

  #end(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.#ended();
  }

  /** The program has ended: reads what is left, whether somebody wants it or not. What its children still write stops at a limit. */
  async finish(): Promise<void> {
    while (!this.#over && this.#keptBytes < KEPT_MAX) await this.#read();
  }
}
