/**
 * Programs of ours as a test sees them: started, waited for until they answer, and always ended.
 *
 * @module
 */
import { ROOT } from "./namespace.ts";

/** How long a program may take until it says `ready`; the machine may be busy. */
const START_LIMIT_MS = 60_000;

export interface ServiceOptions {
  /** Words before `deno`, for example a namespace's prefix. */
  prefix?: string[];
  program?: string;
  /** Words for `deno run`. */
  flags?: string[];
}

/** `examples/simple_services.ts` (or another program that prints `ready …`) in a process of its own. */
export class Service implements AsyncDisposable {
  readonly pid: number;
  /** The line that it printed when it was ready. */
  ready = "";
  #child: Deno.ChildProcess;
  #stderr = "";
  #drained: Promise<void>;
  #ended = false;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.pid = child.pid;
    this.#drained = this.#drain(child.stderr);
  }

  static async start(args: string[], options: ServiceOptions = {}): Promise<Service> {
    const { prefix = [], program = "examples/simple_services.ts", flags = [] } = options;
    const [command, ...words] = [...prefix, Deno.execPath(), "run", "-A", ...flags, program, ...args];
    const child = new Deno.Command(command, { args: words, cwd: ROOT, stdin: "null", stdout: "piped", stderr: "piped" }).spawn();
    const service = new Service(child);
    const timer = setTimeout(() => child.kill("SIGKILL"), START_LIMIT_MS);
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    while (!service.ready.includes("\n")) {
      const { value, done } = await reader.read();
      if (done) break;
      service.ready += value;
    }
    clearTimeout(timer);
    await reader.cancel();
    if (service.ready.startsWith("ready ")) return service;
    const { code, stderr } = await service.ended();
    throw new Error(`${program} ended with ${code} before it was ready: ${stderr}`);
  }

  /** Waits until it ends by itself. */
  async ended(timeoutMs = 30_000): Promise<{ code: number; stderr: string }> {
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), timeoutMs);
    const status = await this.#child.status;
    clearTimeout(timer);
    this.#ended = true;
    await this.#drained;
    return { code: status.code, stderr: this.#stderr };
  }

  /** Asks it to end, and waits until it has. */
  stop(signal: Deno.Signal = "SIGTERM"): Promise<{ code: number; stderr: string }> {
    this.#child.kill(signal);
    return this.ended();
  }

  async #drain(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) this.#stderr += text;
  }

  /** What the program counts: it prints its statistics when it gets SIGUSR2. */
  async statistics(): Promise<Record<string, Record<string, number>>> {
    const before = this.#stderr.length;
    this.#child.kill("SIGUSR2");
    while (this.#stderr.indexOf("\n", before) < 0) await new Promise((resolve) => setTimeout(resolve, 10));
    return JSON.parse(this.#stderr.slice(before));
  }

  /** Resident memory in bytes. */
  get memory(): number {
    const line = Deno.readTextFileSync(`/proc/${this.pid}/status`).match(/VmRSS:\s+(\d+)/);
    return line === null ? 0 : Number(line[1]) * 1024;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.#child.kill("SIGKILL");
    await this.ended();
  }
}

/** What `promise` gives, or a failure that says so: a transfer that stalls must fail its test, not hang the run. */
export async function within<T>(seconds: number, what: string, promise: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`${what} was not done in ${seconds} s`)), seconds * 1000);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
