/**
 * For tests of BPF: is it there, and a bpffs that goes away again.
 *
 * @module
 */
import { probeBpf } from "../../ffi/bpf_program.ts";
import { kernel, lacksKernel, reportSkip, run } from "./namespace.ts";

let refused: string | null = null;

/** For `ignore`: no kernel of our own, a program that isn't there, or BPF refused. */
export function lacksBpf(programs: string[] = [], packages?: string): boolean {
  if (!kernel || lacksKernel(programs, packages)) return true;
  if (refused === null) {
    refused = probeBpf().reason;
    if (refused !== "") reportSkip(`tests that load BPF programs: to run them, be root (${refused})`);
  }
  return refused !== "";
}

/** A bpffs of our own, unmounted at the end with everything pinned in it. */
export class TestBpffs implements AsyncDisposable {
  private constructor(readonly path: string) {}

  static async mount(): Promise<TestBpffs> {
    const path = Deno.makeTempDirSync({ prefix: "tapioca_bpffs_" });
    const { code, stderr } = await run("mount", ["-t", "bpf", "bpf", path]);
    if (code !== 0) {
      Deno.removeSync(path);
      throw new Error(`mount: ${stderr}`);
    }
    return new TestBpffs(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run("umount", [this.path]);
    Deno.removeSync(this.path);
  }
}
