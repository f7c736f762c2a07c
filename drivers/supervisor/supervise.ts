/**
 * Runs programs so that their ioctls on devices of ours are answered here.
 *
 * @module
 */
import { Descriptor } from "../../ffi/descriptor.ts";
import { type NamespaceReference, openNamespace } from "../../ffi/namespace.ts";
import { checkObject, checkSwitch } from "../../stack/checks.ts";
import { systemCalls } from "../../ffi/seccomp.ts";
import { Answering, type IoctlFailure, noStatistics } from "./answering.ts";
import { DeviceTable, type IoctlDevice } from "../netdev/table.ts";
import type { FromThread, ToThread } from "./messages.ts";
import { Pulse } from "./pulse.ts";
import { SupervisedProcess } from "./supervised_process.ts";

const TIMEOUT_MS = 5000;

/** How a program is supervised: what `Deno.Command` takes beside the arguments, and a few things of our own. */
export interface SuperviseOptions extends Omit<Deno.CommandOptions, "args" | "signal" | "windowsRawArguments" | "detached"> {
  /** How long a device may take to answer, in milliseconds; then its caller gets ETIMEDOUT. 5000 by default. */
  timeoutMs?: number;
  /**
   * Whether the reading of `/proc/net/dev` and of files under `/sys/class/net/X` shows the devices' own figures. True by
   * default; every opening of a file for reading then costs the program some ten microseconds more.
   */
  files?: boolean;
  /** The network namespace to start in: a path, a name, a process, or a descriptor. By default it is the caller's. */
  namespace?: NamespaceReference;
  /** Told when a device throws, answers nonsense, or doesn't answer in time. By default a line on standard error. */
  onFailure?: (failure: IoctlFailure) => void;
}

function printFailure({ name, request, error }: IoctlFailure): void {
  console.error(`Device ${name} failed to answer request 0x${request.toString(16)}:`, error);
}

/** What the thread told, as the error that `Deno.Command` throws. */
function errorFrom({ name, message, code }: Extract<FromThread, { type: "failed" }>): Error {
  const classes: Record<string, new (message: string) => Error> = { ...Deno.errors, TypeError, RangeError };
  return Object.assign(new (classes[name] ?? Error)(message), code === undefined ? {} : { code });
}

interface Checked {
  readonly timeoutMs: number;
  readonly files: boolean;
  readonly namespace: NamespaceReference | undefined;
  readonly onFailure: (failure: IoctlFailure) => void;
  readonly options: Deno.CommandOptions;
}

function check(args: string[], given: SuperviseOptions): Checked {
  const { timeoutMs = TIMEOUT_MS, files = true, namespace, onFailure = printFailure, ...options } = given;
  if (!(timeoutMs >= 1 && timeoutMs <= 2 ** 31 - 1)) throw new RangeError(`timeoutMs must be 1 to 2147483647: ${timeoutMs}`);
  checkSwitch("files", files);
  if (typeof onFailure !== "function") throw new TypeError("onFailure must be a function");
  const cwd = options.cwd instanceof URL ? decodeURIComponent(options.cwd.pathname) : options.cwd;
  return { timeoutMs, files, namespace, onFailure, options: { ...options, cwd, args } };
}

function tableOf(devices: Iterable<IoctlDevice>): DeviceTable {
  const table = new DeviceTable();
  for (const device of devices) table.add(device);
  return table;
}

/** The thread, and the answering: from the first message on they live and end together. */
class Supervisor {
  readonly #devices: DeviceTable;
  readonly #checked: Checked;
  readonly #pulse = new Pulse();
  readonly #worker = new Worker(new URL("thread.ts", import.meta.url), { type: "module", name: "tapioca supervisor" });
  readonly #started = Promise.withResolvers<SupervisedProcess>();
  readonly #status = Promise.withResolvers<Deno.CommandStatus>();
  readonly #ended = Promise.withResolvers<void>();
  #answering: Answering | null = null;
  #released = false;
  /** Devices that the thread knows of. */
  #known = new Set<string>();

  constructor(devices: DeviceTable, checked: Checked) {
    this.#devices = devices;
    this.#checked = checked;
    this.#status.promise.catch(() => {});
    this.#worker.onmessage = ({ data }: MessageEvent<FromThread>) => this.#message(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(new Error(`Cannot supervise: its thread has ended: ${event.message}`));
    };
  }

  start(program: string, namespace: number | null): Promise<SupervisedProcess> {
    const { options, files, timeoutMs } = this.#checked;
    const pulse = this.#pulse.memory;
    this.#post({ type: "start", program, options, names: this.#names(), opens: files, pulse, timeoutMs, namespace });
    return this.#started.promise;
  }

  #names(): string[] {
    const names = Array.from(this.#devices, ({ name }) => name);
    this.#known = new Set(names);
    return names;
  }

  #post(message: ToThread): void {
    if (!this.#released) this.#worker.postMessage(message);
  }

  #message(message: FromThread): void {
    if (message.type === "listening") {
      const { timeoutMs, onFailure } = this.#checked;
      this.#answering = new Answering(message.fd, this.#devices, this.#pulse, timeoutMs, onFailure, (name) => {
        if (!this.#known.has(name)) this.#post({ type: "names", names: this.#names() });
      });
      this.#answering.ended.then(() => this.#ended.resolve());
    } else if (message.type === "status") this.#status.resolve(message.status);
    else if (message.type === "failed") this.#fail(errorFrom(message));
    else {
      this.#started.resolve(
        new SupervisedProcess(message, this.#status.promise, {
          statistics: this.#answering?.statistics ?? noStatistics(),
          ended: this.#ended.promise,
          close: () => this.#stopAnswering(),
          release: () => this.release(),
        }),
      );
    }
  }

  #fail(error: Error): void {
    this.#started.reject(error);
    this.#status.reject(error);
    this.close();
  }

  /** Ends the thread; programs that live on are answered without it. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#pulse.leaveAlone();
    this.#worker.terminate();
  }

  /** The program may live on, and write, and end: its thread stays until then. */
  #stopAnswering(): void {
    this.#answering?.close();
    this.#ended.resolve();
  }

  close(): void {
    this.#stopAnswering();
    this.release();
  }
}

/**
 * Runs a program, unchanged, so that its ioctls on our devices are answered by them, and those of all that it starts: C,
 * Python, a shell script with its children. Requests are known by the interface's name that stands in them, on any socket;
 * everything else goes on to the kernel. Nothing is applied twice, and a signal doesn't come between a request and its
 * answer; a program that handles signals without SA_RESTART may see EINTR before its request was taken, and asks again.
 *
 * Bad pointers give EFAULT, a device that throws EIO, one that doesn't answer ETIMEDOUT, one that was removed ENODEV. When
 * this process ends, what it supervised gets ENOSYS. It needs Linux 5.19 on x86-64 or arm64; an ordinary user's programs
 * lose set-user-id rights (`no_new_privs`). 32-bit programs are left to the kernel. It is no security boundary.
 *
 * ```ts ignore
 * const demo0 = { name: "demo0", index: 70000, ioctl: (request: number) => request === 0x89f0 ? 42 : -95 };
 * await using process = await superviseIoctls(["python3", "program.py"], [demo0], { stdout: "piped", stderr: "piped" });
 * const { code, stdout } = await process.output();
 * ```
 *
 * @param command the program, or it and its arguments
 * @param devices a table, which can change meanwhile and serve several supervisors; or the devices of a new one
 * @throws {TypeError | RangeError} for an option that is wrong; `NotFound` without the program; `NotSupported` (ENOSYS) where
 * the kernel can't; `Busy` (EBUSY) in a program that is itself supervised
 */
export async function superviseIoctls(
  command: string | readonly [string, ...string[]],
  devices: DeviceTable | Iterable<IoctlDevice>,
  options: SuperviseOptions = {},
): Promise<SupervisedProcess> {
  const [program, ...args] = typeof command === "string" ? [command] : Array.isArray(command) ? command : [];
  const text = args.find((arg) => typeof arg !== "string");
  if (text !== undefined) throw new TypeError(`Cannot supervise: arguments must be texts: ${text}`);
  if (typeof program !== "string" || program === "") throw new TypeError("Cannot supervise: a program is needed");
  checkObject(options);
  const checked = check(args, options);
  if (typeof devices?.[Symbol.iterator] !== "function") {
    throw new TypeError("Cannot supervise: a table or a list of devices is needed");
  }
  systemCalls(); // refuses the machine before anything is started
  const table = devices instanceof DeviceTable ? devices : tableOf(devices);
  const { namespace } = checked;
  const opened = namespace === undefined || namespace instanceof Descriptor ? null : openNamespace(namespace);
  try {
    const fd = namespace instanceof Descriptor ? namespace.fd : opened?.fd ?? null;
    return await new Supervisor(table, checked).start(program, fd);
  } finally {
    opened?.close();
  }
}
