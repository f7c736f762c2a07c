/**
 * A supervised program, with the face of `Deno.ChildProcess`.
 *
 * @module
 */
import type { SupervisorStatistics } from "./answering.ts";
import { Output } from "./output.ts";

/** What a process needs of its supervisor. */
export interface Supervision {
  /** What was done so far. */
  readonly statistics: SupervisorStatistics;
  /** Ends the answering. */
  close(): void;
  /** Ends the thread: the program has ended, and what it wrote was read. */
  release(): void;
  /** Resolves when nothing is answered any more. */
  readonly ended: Promise<void>;
}

/** What it was started with. */
export interface Started {
  readonly pid: number;
  readonly stdin: WritableStream<Uint8Array<ArrayBuffer>> | null;
  readonly stdout: ReadableStream<Uint8Array<ArrayBuffer>> | null;
  readonly stderr: ReadableStream<Uint8Array<ArrayBuffer>> | null;
}

/**
 * A program under supervision, with the face of `Deno.ChildProcess`. What it has started itself is answered after its own
 * end too, until {@link close}; `await using` sees to it.
 */
export class SupervisedProcess implements AsyncDisposable {
  /** Its number. */
  readonly pid: number;
  /** Resolves when it has ended. */
  readonly status: Promise<Deno.CommandStatus>;
  readonly #supervision: Supervision;
  readonly #started: Started;
  readonly #stdout: Output | null = null;
  readonly #stderr: Output | null = null;
  /** What must end before the thread may. */
  readonly #holders = new Set<string>(["status"]);
  #over = false;

  /**
   * Made by `superviseIoctls`.
   *
   * @internal
   */
  constructor(started: Started, status: Promise<Deno.CommandStatus>, supervision: Supervision) {
    this.#started = started;
    this.pid = started.pid;
    this.#supervision = supervision;
    this.status = status.then((result) => {
      this.#over = true;
      this.#release("status");
      for (const output of [this.#stdout, this.#stderr]) void output?.finish();
      return result;
    });
    // Whoever doesn't look at it must not meet an unhandled rejection.
    this.status.catch(() => {});
    this.#stdout = this.#output("stdout", started.stdout);
    this.#stderr = this.#output("stderr", started.stderr);
  }

  #output(name: string, stream: ReadableStream<Uint8Array<ArrayBuffer>> | null): Output | null {
    if (stream === null) return null;
    this.#holders.add(name);
    return new Output(stream, () => this.#release(name));
  }

  #release(holder: string): void {
    this.#holders.delete(holder);
    if (this.#holders.size === 0) this.#supervision.release();
  }

  /** Its standard input. @throws {TypeError} unless it is "piped" */
  get stdin(): WritableStream<Uint8Array<ArrayBuffer>> {
    if (this.#started.stdin === null) throw new TypeError("Cannot get 'stdin': 'stdin' is not piped");
    return this.#started.stdin;
  }

  /** Its standard output. @throws {TypeError} unless it is "piped" */
  get stdout(): ReadableStream<Uint8Array<ArrayBuffer>> {
    if (this.#stdout === null) throw new TypeError("Cannot get 'stdout': 'stdout' is not piped");
    return this.#stdout.stream;
  }

  /** Its standard error. @throws {TypeError} unless it is "piped" */
  get stderr(): ReadableStream<Uint8Array<ArrayBuffer>> {
    if (this.#stderr === null) throw new TypeError("Cannot get 'stderr': 'stderr' is not piped");
    return this.#stderr.stream;
  }

  /** What was answered so far, by itself and all that it started. */
  get statistics(): Readonly<SupervisorStatistics> {
    return { ...this.#supervision.statistics };
  }

  /** Resolves when nothing is answered any more: the last supervised program has ended, or {@link close} was called. */
  get closed(): Promise<void> {
    return this.#supervision.ended;
  }

  /** Waits for its end, and collects what it writes. @throws {TypeError} unless stdout and stderr are "piped" */
  async output(): Promise<Deno.CommandStatus & { stdout: Uint8Array<ArrayBuffer>; stderr: Uint8Array<ArrayBuffer> }> {
    const both = [this.stdout, this.stderr].map(async (stream) => new Uint8Array(await new Response(stream).arrayBuffer()));
    const [status, stdout, stderr] = await Promise.all([this.status, ...both]);
    return { ...status, stdout, stderr };
  }

  /** Sends it a signal. @throws {TypeError} when it has ended */
  kill(signal: Deno.Signal = "SIGTERM"): void {
    if (this.#over) throw new TypeError("Child process has already terminated");
    Deno.kill(this.pid, signal);
  }

  /**
   * Ends the supervision. The program goes on if it still runs, and gets ENOSYS for the requests that were watched (and the
   * files, if those were): kill it before, unless that is what you want. A second call does nothing.
   */
  close(): void {
    this.#supervision.close();
  }

  /** Kills the program, if it still runs, waits for its end, and then ends the supervision of what it has left behind. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#over) {
      try {
        this.kill("SIGKILL");
      } catch { /* it ends just now */ }
      await this.status.catch(() => {});
    }
    this.close();
    // What it wrote has been read, or isn't wanted.
    this.#supervision.release();
  }
}
