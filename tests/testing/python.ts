/**
 * The kernel's sockets in the hand of a small Python program, for calls that Deno doesn't have.
 *
 * @module
 */
import { TextLineStream } from "./lines.ts";
import { findProgram, ROOT } from "./namespace.ts";
import { within } from "./service.ts";

const PRELUDE = `
import socket, struct, sys, time, errno
from socket import *
def say(*words): print(*words, flush=True)
def hear(): return sys.stdin.readline().strip()
def drain(s):
    data = b""
    while True:
        piece = s.recv(65536)
        if not piece: return data
        data += piece
`;

/** A running program: what it prints are lines for us, what we say are lines for its \`hear()\`. */
export class Python implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBufferLike>>;
  readonly #stderr: Promise<string>;
  #over = false;

  /** @param code runs with socket, struct, time and errno imported, and say, hear and drain defined */
  constructor(code: string) {
    const command = new Deno.Command(findProgram("python3") ?? "python3", {
      args: ["-c", PRELUDE + code],
      cwd: ROOT,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    });
    this.#child = command.spawn();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream()).getReader();
    this.#writer = this.#child.stdin.getWriter();
    this.#stderr = new Response(this.#child.stderr).text();
  }

  /** The next line that it prints. Fails with what it complains of when there is none. */
  async line(): Promise<string> {
    const { value, done } = await within(30, "a line from Python", this.#lines.read());
    if (done) throw new Error(`Python has ended: ${await this.#stderr}`);
    return value;
  }

  async say(text: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(`${text}\n`));
  }

  /** Waits until it ends by itself, without complaint. */
  async end(): Promise<void> {
    const { code } = await within(30, "the end of Python", this.#child.status);
    if (code !== 0) throw new Error(`Python ended with ${code}: ${await this.#stderr}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    await this.#writer.close().catch(() => {});
    try {
      this.#child.kill("SIGKILL");
    } catch { /* it has ended */ }
    await this.#lines.cancel();
    await this.#child.status;
    await this.#stderr;
  }
}
