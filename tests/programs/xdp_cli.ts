/** `examples/xdp_forwarder.ts` as its tests call it. */
import { assertEquals } from "@std/assert";
import type { ForwarderReport } from "../../mod.ts";
import type { TestBpffs } from "../testing/bpf.ts";
import { run, type RunResult } from "../testing/namespace.ts";
import { Service } from "../testing/service.ts";

const PROGRAM = "examples/xdp_forwarder.ts";

/** The program with a folder and a socket of a test's own. */
export class Cli implements AsyncDisposable {
  readonly #folder = Deno.makeTempDirSync({ prefix: "tapioca_xdp_" });
  readonly socket = `${this.#folder}/socket`;
  service: Service | null = null;

  constructor(readonly folder: string) {}

  get paths(): string[] {
    return ["--folder", this.folder, "--socket", this.socket];
  }

  /** The program with words before it (a namespace's, for example). */
  runIn(prefix: readonly string[], ...args: string[]): Promise<RunResult> {
    const [command, ...words] = [...prefix, Deno.execPath(), "run", "-A", PROGRAM, ...args, ...this.paths];
    return run(command, words);
  }

  run(...args: string[]): Promise<RunResult> {
    return this.runIn([], ...args);
  }

  /** A command that must work: what it prints. */
  async must(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...args);
    assertEquals([code, stderr], [0, ""], args.join(" "));
    return stdout;
  }

  /** A command that must fail: what it complains of. */
  async fails(code: number, ...args: string[]): Promise<string> {
    const result = await this.run(...args);
    assertEquals([result.code, result.stdout], [code, ""], `${args.join(" ")}: ${result.stderr}`);
    return result.stderr;
  }

  async up(place: "kernel" | "user", ...args: string[]): Promise<string> {
    if (place === "kernel") return await this.must("up", ...args);
    this.service = await Service.start(["up", ...args, ...this.paths], { program: PROGRAM });
    return this.service.ready;
  }

  async report(): Promise<ForwarderReport> {
    return JSON.parse(await this.must("stats", "--json"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service?.[Symbol.asyncDispose]();
    Deno.removeSync(this.#folder, { recursive: true });
  }
}

/** What is in a bpffs, without what the kernel itself puts into each. */
export function pins(bpffs: TestBpffs): string[] {
  return [...Deno.readDirSync(bpffs.path)].map(({ name }) => name).filter((name) => !name.endsWith(".debug"));
}

export async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
