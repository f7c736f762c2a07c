/**
 * BPF programs: loading, running them over bytes, attaching them to an interface. Nothing here knows what a program does.
 *
 * @module
 */
import {
  BPF,
  BPF_PRIVILEGE_HINT,
  BpfAttributes,
  BpfError,
  bpfError,
  BpfMap,
  infoName,
  objectInfo,
  openPin,
  pinObject,
} from "./bpf.ts";
import { Descriptor } from "./descriptor.ts";
import { EBUSY, EINVAL, ENODEV, EOPNOTSUPP, EPERM, errnoError, errnoName, type SystemError } from "./errno.ts";
import { IfReq, interfaceSocket } from "./ifreq.ts";
import { addressOf, cString } from "./libc.ts";

/** The type of the programs that we load. */
export const BPF_PROG_TYPE_XDP = 6;
/** As the kernel: an instruction is 8 bytes. */
const INSTRUCTION_SIZE = 8;
const LOG_SIZE = 1 << 20;
const BPF_XDP = 37;
const SIOCGIFNAME = 0x8910;

/** Generic: any interface, after the kernel has made its own buffer. */
export const XDP_FLAGS_SKB_MODE = 2;
/** Native: the driver runs the program. */
export const XDP_FLAGS_DRV_MODE = 4;

/** What is to be loaded. */
export interface BpfProgramOptions {
  /** At most 15 bytes. */
  name: string;
  /** BPF_PROG_TYPE_…; default XDP. */
  type?: number;
  /** Instructions of 8 bytes each. */
  instructions: Uint8Array<ArrayBuffer>;
  /** Some helpers want "GPL"; default "MIT". */
  license?: string;
}

/** What the kernel says of a program. */
export interface BpfProgramInfo {
  /** BPF_PROG_TYPE_…. */
  readonly type: number;
  /** The kernel's number for this program, while it lives. */
  readonly id: number;
  /** At most 15 bytes. */
  readonly name: string;
  /** Bytes of machine code; 0 where BPF is interpreted. */
  readonly jitedBytes: number;
  /** Bytes of bytecode after the verifier's rewriting. */
  readonly translatedBytes: number;
}

function loadAttributes(options: BpfProgramOptions, log: Uint8Array<ArrayBuffer> | null): BpfAttributes {
  const { name, type = BPF_PROG_TYPE_XDP, instructions, license = "MIT" } = options;
  const attributes = new BpfAttributes().u32(0, type).u32(4, instructions.length / INSTRUCTION_SIZE);
  attributes.pointer(8, instructions).pointer(16, cString(license)).name(48, name);
  if (log !== null) attributes.u32(24, 1).u32(28, log.length).pointer(32, log);
  return attributes;
}

/** The end of a verifier's log that says what was wrong: its last lines before the statistics. */
export function verifierReason(log: string): string {
  const lines = log.split("\n").filter((line) => line !== "" && !/^(processed|verification time|stack depth)/.test(line));
  return lines.at(-1) ?? "it said nothing";
}

function loadError(options: BpfProgramOptions, code: number): Error {
  const log = new Uint8Array(LOG_SIZE);
  // Without a log first, and with one only when needed: a log costs a verification many times its time.
  const again = loadAttributes(options, log).call(BPF.PROG_LOAD);
  if (again >= 0) new Descriptor(again).close();
  const end = log.indexOf(0);
  const text = new TextDecoder().decode(log.subarray(0, end < 0 ? LOG_SIZE : end));
  // Nothing said, or nothing wrong the second time: it wasn't the verifier.
  if (text === "" || again >= 0) return bpfError("load", `BPF program "${options.name}"`, code);
  const where = text.split("\n").slice(-6).join("\n").trimEnd();
  const what = `Cannot load BPF program "${options.name}": the verifier refused it`;
  const reason = `${what}: ${verifierReason(text)} (${errnoName(code)})`;
  // What the verifier allows root only: variable offsets into a frame, differences of pointers.
  const hint = / for !root|pointer -= pointer prohibited/.test(text)
    ? ". It needs CAP_PERFMON beside CAP_BPF and CAP_NET_ADMIN"
    : "";
  return new BpfError(`${reason}${hint}. The end of its log:\n${where}`, "EVERIFIER", text, errnoName(code));
}

/** A program in the kernel, held by its descriptor: it lives on while a link or a pin holds it too. */
export class BpfProgram implements Disposable {
  readonly #descriptor: Descriptor;
  /** What the kernel says of it. */
  readonly info: BpfProgramInfo;

  /** Takes a descriptor over. @param fd a program's, now owned by this object */
  constructor(fd: number) {
    this.#descriptor = new Descriptor(fd);
    try {
      const info = objectInfo(fd, "a BPF program", 80);
      const [type, id] = [info.getUint32(0, true), info.getUint32(4, true)];
      const [jitedBytes, translatedBytes] = [info.getUint32(16, true), info.getUint32(20, true)];
      this.info = { type, id, name: infoName(info, 64), jitedBytes, translatedBytes };
    } catch (error) {
      this.#descriptor.close();
      throw error;
    }
  }

  /**
   * Loads a program.
   *
   * @throws `BpfError` (EVERIFIER, with the log), `PermissionDenied` (EPERM), `NotSupported` (ENOSYS)
   * @throws {RangeError} when the instructions aren't whole
   */
  static load(options: BpfProgramOptions): BpfProgram {
    const { length } = options.instructions;
    if (length === 0 || length % INSTRUCTION_SIZE !== 0) throw new RangeError(`${length} bytes aren't whole instructions`);
    const fd = loadAttributes(options, null).call(BPF.PROG_LOAD);
    if (fd < 0) throw loadError(options, fd);
    return new BpfProgram(fd);
  }

  /** Opens a pinned program. @throws as {@link openPin} */
  static open(path: string): BpfProgram {
    return new BpfProgram(openPin(path));
  }

  /** The descriptor's number, or -1 once closed. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** Makes the program hold a map that its instructions don't name: it then lives as long. @throws the error of the call */
  hold(map: BpfMap): void {
    const code = new BpfAttributes().u32(0, this.fd).u32(4, map.fd).call(BPF.PROG_BIND_MAP);
    if (code < 0) throw bpfError("bind", `BPF map "${map.info.name}" to a program`, code);
  }

  /** Gives the program a name in bpffs. @throws as {@link pinObject} */
  pin(path: string): void {
    pinObject(this.fd, path, `BPF program "${this.info.name}"`);
  }

  /** Closes the descriptor. */
  close(): void {
    this.#descriptor.close();
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** What a run of a program over bytes came to. */
export interface TestRunResult {
  /** What the program returned. */
  readonly result: number;
  /** The bytes as the program left them; valid until the next run. */
  readonly output: Uint8Array<ArrayBuffer>;
  /** Nanoseconds for one of the repetitions, as the kernel measured it. */
  readonly nanoseconds: number;
}

/** BPF_PROG_TEST_RUN: runs a program over bytes, without an interface. Its memory is made once. */
export class TestRun {
  readonly #attributes = new BpfAttributes();
  readonly #input: Uint8Array<ArrayBuffer>;
  readonly #output: Uint8Array<ArrayBuffer>;
  readonly #context = new Uint8Array(24);
  readonly #contextView = new DataView(this.#context.buffer);
  readonly #outputAddress: number;

  /** Makes the memory. @param inputMax bytes of the longest input; a page less about 600 bytes is possible */
  constructor(readonly program: BpfProgram, inputMax = 3400) {
    this.#input = new Uint8Array(inputMax);
    // What adjust_head and adjust_tail can add.
    this.#output = new Uint8Array(inputMax + 1024);
    this.#outputAddress = addressOf(this.#output);
    this.#attributes.pointer(16, this.#input).pointer(48, this.#context).u32(40, this.#context.length);
  }

  /**
   * Runs the program. Returns a negative errno when the kernel refuses the run: EINVAL for under 14 bytes, ENODEV for an
   * interface that isn't there (in the calling thread's network namespace).
   *
   * @param options.ifindex where the bytes are said to come from; 0 is the loop-back interface
   * @param options.repeat how often, for measuring
   * @param options.metadata so many of the bytes, a multiple of 4, are metadata before the frame: they use the headroom up.
   *   The kernel then doesn't give the output back
   */
  run(input: Uint8Array, options: { ifindex?: number; repeat?: number; metadata?: number } = {}): TestRunResult | number {
    const { ifindex = 0, repeat = 1, metadata = 0 } = options;
    if (input.length > this.#input.length) {
      throw new RangeError(`${input.length} bytes; at most ${this.#input.length} are possible`);
    }
    this.#input.set(input);
    this.#contextView.setUint32(0, metadata, true);
    this.#contextView.setUint32(4, input.length, true);
    this.#contextView.setUint32(12, ifindex, true);
    const attributes = this.#attributes.u32(0, this.program.fd).u32(8, input.length).u32(32, repeat);
    attributes.u32(12, metadata > 0 ? 0 : this.#output.length);
    attributes.u64(24, metadata > 0 ? 0 : this.#outputAddress);
    const code = attributes.call(BPF.PROG_TEST_RUN);
    if (code < 0) return code;
    const { view } = attributes;
    const output = this.#output.subarray(0, metadata > 0 ? 0 : view.getUint32(12, true));
    return { result: view.getUint32(4, true), output, nanoseconds: view.getUint32(36, true) };
  }
}

/** What a link is. */
export interface BpfLinkInfo {
  /** The kernel's number for this link, while it lives. */
  readonly id: number;
  /** The attached program's number. */
  readonly programId: number;
  /** Of the interface; 0 once it is gone or the link is detached. */
  readonly ifindex: number;
}

/** How a program is attached. */
export type AttachMode = "native" | "generic";

/** Whether the calling thread's network namespace has an interface of that number. */
function hasInterface(ifindex: number): boolean {
  const ifreq = new IfReq("");
  ifreq.value = ifindex;
  using socket = interfaceSocket();
  return socket.ioctl(SIOCGIFNAME, ifreq.bytes) === 0;
}

function createLink(program: BpfProgram, ifindex: number, mode: AttachMode): number {
  const flags = mode === "native" ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
  return new BpfAttributes().u32(0, program.fd).u32(4, ifindex).u32(8, BPF_XDP).u32(12, flags).call(BPF.LINK_CREATE);
}

function linkError(op: string, ifindex: number, mode: string, answer: number): SystemError {
  // The kernel says EINVAL for an interface that isn't there too.
  const code = answer === -EINVAL && !hasInterface(ifindex) ? -ENODEV : answer;
  const hints: Record<number, string> = {
    [EPERM]: BPF_PRIVILEGE_HINT,
    [EBUSY]: "Another program is attached there: `ip link set dev NAME xdp off`, or end the program that holds it",
    [ENODEV]: "There is no such interface in this network namespace",
    [EINVAL]: "The interface can't do it: its MTU may be too large for native mode, or it is of a kind without XDP",
    [EOPNOTSUPP]: "The interface's driver has no native mode: attach in generic mode",
  };
  return errnoError(op, `a BPF program to interface ${ifindex} in ${mode} mode`, code, hints[-code] ?? "");
}

/** A program's being attached to an interface: it ends with the last descriptor or pin of this link. */
export class BpfLink implements Disposable {
  readonly #descriptor: Descriptor;
  /** How the program was attached; null for a link that was opened by its pin. */
  readonly mode: AttachMode | null;

  /** Takes a descriptor over. @param fd a link's, now owned by this object */
  constructor(fd: number, mode: AttachMode | null = null) {
    this.#descriptor = new Descriptor(fd);
    this.mode = mode;
  }

  /**
   * Attaches a program to an interface of the calling thread's network namespace.
   *
   * @param mode "auto" tries native mode, and then generic unless the reason would be the same there; {@link mode} says which it became
   * @throws `Busy` (EBUSY), `NotFound` (ENODEV), `PermissionDenied` (EPERM), `NotSupported` (EOPNOTSUPP: no native mode)
   */
  static attachXdp(program: BpfProgram, ifindex: number, mode: AttachMode | "auto"): BpfLink {
    let used: AttachMode = mode === "auto" ? "native" : mode;
    let fd = createLink(program, ifindex, used);
    if (fd < 0 && mode === "auto" && ![-EPERM, -EBUSY].includes(fd) && hasInterface(ifindex)) {
      used = "generic";
      fd = createLink(program, ifindex, used);
    }
    if (fd < 0) throw linkError("attach", ifindex, used, fd);
    return new BpfLink(fd, used);
  }

  /** Opens a pinned link. @throws as {@link openPin} */
  static open(path: string): BpfLink {
    return new BpfLink(openPin(path));
  }

  /** The descriptor's number, or -1 once closed. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** What the kernel says of it. */
  get info(): BpfLinkInfo {
    const info = objectInfo(this.fd, "a BPF link", 32);
    return { id: info.getUint32(4, true), programId: info.getUint32(8, true), ifindex: info.getUint32(16, true) };
  }

  /** Puts another program in the place of the attached one, between two frames. @throws as {@link attachXdp}; ENOLINK when detached */
  update(program: BpfProgram): void {
    const code = new BpfAttributes().u32(0, this.fd).u32(4, program.fd).call(BPF.LINK_UPDATE);
    if (code < 0) throw bpfError("replace", "the program of a BPF link", code);
  }

  /** Takes the program off the interface now, whoever else holds the link. @throws the error of the call */
  detach(): void {
    const code = new BpfAttributes().u32(0, this.fd).call(BPF.LINK_DETACH);
    if (code < 0) throw bpfError("detach", "a BPF link", code);
  }

  /** Gives the link a name in bpffs: the program stays attached when this process ends. @throws as {@link pinObject} */
  pin(path: string): void {
    pinObject(this.fd, path, "a BPF link");
  }

  /** Closes the descriptor: the program comes off unless the link is pinned. */
  close(): void {
    this.#descriptor.close();
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** What this process can do with BPF. */
export interface BpfSupport {
  /** Making a map. */
  readonly maps: boolean;
  /** Loading a program. */
  readonly programs: boolean;
  /** PROG_TEST_RUN. */
  readonly testRun: boolean;
  /** Why not everything, as an error's message; "" if all is there. */
  readonly reason: string;
}

/** Tries what is needed, and leaves nothing behind: a map, the program `return XDP_PASS`, and one run of it. */
export function probeBpf(): BpfSupport {
  let [maps, programs] = [false, false];
  try {
    BpfMap.create({ type: 2, keySize: 4, valueSize: 8, maxEntries: 1, name: "probe" }).close();
    maps = true;
    const instructions = Uint8Array.of(0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
    using program = BpfProgram.load({ name: "probe", instructions });
    programs = true;
    const run = new TestRun(program, 64).run(new Uint8Array(64));
    if (typeof run === "number") throw bpfError("run", "a BPF program over bytes", run);
    return { maps, programs, testRun: run.result === 2, reason: "" };
  } catch (error) {
    return { maps, programs, testRun: false, reason: error instanceof Error ? error.message : String(error) };
  }
}
