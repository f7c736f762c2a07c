/** Programs that a test supervises, and a device that answers them. */
import { assertEquals } from "@std/assert";
import { IoctlData, type IoctlMemory } from "../../../drivers/netdev/memory.ts";
import type { Statistics64 } from "../../../drivers/netdev/statistics.ts";
import type { IoctlDevice } from "../../../drivers/netdev/table.ts";
import { superviseIoctls, type SuperviseOptions } from "../../../drivers/supervisor/supervise.ts";
import type { SupervisedProcess } from "../../../drivers/supervisor/supervised_process.ts";
import { IfReq } from "../../../ffi/ifreq.ts";
import { libc } from "../../../ffi/libc.ts";
import { wakersIdle } from "../../../ffi/poll.ts";
import { findProgram } from "../../testing/namespace.ts";
import { within } from "../../testing/service.ts";

// Opened before the first test: it stays open.
libc();

/** What a Python program under test begins with: `ask(request, name, union)` gives the result and the union. */
export const PRELUDE = `
import ctypes, errno, fcntl, os, signal, socket, struct, sys, threading, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def ask(request, name, union=b""):
    b = bytearray(struct.pack("16s24s", name.encode(), union))
    r = fcntl.ioctl(s, request, b)
    return r, bytes(b[16:])
def fails(request, name, union=b""):
    try: return ask(request, name, union)[0]
    except OSError as e: return errno.errorcode[e.errno]
`;

export type Handler = (request: number, ifreq: IfReq, data: IoctlData) => number | Promise<number>;

/** A device whose answers are a function of the test. */
export class TestDevice implements IoctlDevice {
  calls = 0;
  constructor(
    readonly name: string,
    readonly handler: Handler,
    readonly index = 77_000,
    readonly statistics64?: () => Statistics64,
  ) {}

  ioctl(request: number, bytes: Uint8Array, memory: IoctlMemory | null): number | Promise<number> {
    this.calls++;
    const ifreq = new IfReq(bytes);
    const code = this.handler(request, ifreq, new IoctlData(memory, ifreq.data));
    const finish = (code: number) => {
      if (code >= 0) bytes.set(ifreq.bytes);
      return code;
    };
    return typeof code === "object" ? code.then(finish) : finish(code);
  }
}

/** Runs a program of Python's to its end: what it printed. It must not fail. */
export async function python(code: string, devices: Parameters<typeof superviseIoctls>[1], options: SuperviseOptions = {}) {
  await using process = await start(["python3", "-c", PRELUDE + code], devices, options);
  return await text(process);
}

/** Starts a program with its output piped. */
export function start(
  [program, ...args]: readonly [string, ...string[]],
  devices: Parameters<typeof superviseIoctls>[1],
  options: SuperviseOptions = {},
): Promise<SupervisedProcess> {
  const onFailure = () => {};
  return superviseIoctls([findProgram(program) ?? program, ...args], devices, {
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    onFailure,
    ...options,
  });
}

/** What a program prints until its end, which must be a good one. */
export async function text(process: SupervisedProcess): Promise<string> {
  const { code, stdout, stderr } = await within(60, "the end of a supervised program", process.output());
  const decoder = new TextDecoder();
  assertEquals(code, 0, decoder.decode(stderr) + decoder.decode(stdout));
  return decoder.decode(stdout);
}

/** A compiler of C, or null. */
export const compiler: string | null = ["gcc", "cc", "clang"].map(findProgram).find((path) => path !== null) ?? null;

/** Compiles a program to a file that goes with `using`. */
export function compile(source: string): { path: string } & Disposable {
  const folder = Deno.makeTempDirSync({ prefix: "tapioca_c_" });
  Deno.writeTextFileSync(`${folder}/program.c`, source);
  const { success, stderr } = new Deno.Command(compiler!, {
    args: ["-O1", "-pthread", "-o", `${folder}/program`, `${folder}/program.c`],
  }).outputSync();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return { path: `${folder}/program`, [Symbol.dispose]: () => Deno.removeSync(folder, { recursive: true }) };
}

/** A test that leaves no wait behind it. */
export function supervised(name: string, ignore: boolean, fn: () => Promise<void>): void {
  Deno.test({
    name,
    ignore,
    async fn() {
      await fn();
      await wakersIdle();
    },
  });
}
