/**
 * The answering end: takes the calls of supervised programs one by one, asks the device, and lets the kernel go on with
 * everything that is nobody's here.
 *
 * @module
 */
import { EBUSY, EIO, ENODEV, EPERM, errnoNumber, ETIMEDOUT } from "../../ffi/errno.ts";
import { IFREQ_SIZE, SIOCGIFNAME } from "../../ffi/ifreq.ts";
import { createWaker, type Waker } from "../../ffi/poll.ts";
import { readProcess, writeProcess } from "../../ffi/process_memory.ts";
import { Notification, NotificationListener, systemCalls } from "../../ffi/seccomp.ts";
import { readOnlyMemoryFile } from "../../ffi/shared_memory.ts";
import { descriptorIsSocket, mayAdminister } from "../../ffi/process_files.ts";
import { type DeviceTable, ENOIOCTLCMD, type IoctlDevice } from "../netdev/table.ts";
import { contentOf, type Wanted, wantedFile } from "./files.ts";
import { type Caller, CallerMemory } from "./memory.ts";
import type { Pulse } from "./pulse.ts";
import { hasData, needsPrivilege } from "./requests.ts";
import { WaitingRoom } from "./waiting.ts";

const POLLIN = 1;
const POLLHUP = 0x10;
/** Where the union of an ifreq begins. */
const UNION = 16;
const IFNAME_LAST = 15;
const COLON = 0x3a;
const ERRNO_MAX = 4095;
const O_CLOEXEC = 0x80000;
const AT_FDCWD = -100;
/** Calls answered in one turn; then the event loop has its own. */
const TURN_MAX = 64;

/** What a device did wrong, and what its caller got instead of an answer. */
export interface IoctlFailure {
  /** The interface's name. */
  readonly name: string;
  /** The ioctl's number; 0 for the reading of a file. */
  readonly request: number;
  /** The thread that asked. */
  readonly tid: number;
  /** What it got: negative; 0 where it got the kernel's file instead. */
  readonly result: number;
  /** What the device threw; a `TimedOut` if it didn't answer in time. */
  readonly error: unknown;
}

/** What a supervisor has done so far. */
export interface SupervisorStatistics {
  /** Ioctls answered by a device, with errors too. */
  answered: number;
  /** Calls that went on to the kernel: those that were looked at. */
  proceeded: number;
  /** Files answered. */
  files: number;
  /** Times that a device threw, or answered nonsense. */
  failed: number;
  /** Callers whose device had not answered in time: ETIMEDOUT, or the kernel's file. */
  timedOut: number;
  /** Answers to callers who had died. */
  abandoned: number;
  /** Callers who got EBUSY, or the kernel's file, because too many waited. */
  refused: number;
  /**
   * Requests left to the kernel because the system doesn't let us read the caller's memory: a set-user-id program, or, for an
   * ordinary user with Yama's `ptrace_scope`, a daemon that is no longer below us (1), or everything (2).
   */
  unreadable: number;
}

/** All zero. */
export function noStatistics(): SupervisorStatistics {
  return { answered: 0, proceeded: 0, files: 0, failed: 0, timedOut: 0, abandoned: 0, refused: 0, unreadable: 0 };
}

/** An ioctl on its way. */
interface Request extends Caller {
  readonly device: IoctlDevice;
  readonly name: string;
  readonly request: number;
  /** Where the caller's ifreq stands. */
  readonly address: number;
  /** As it came, and as the device sees and changes it. */
  readonly before: Uint8Array<ArrayBuffer>;
  readonly ifreq: Uint8Array<ArrayBuffer>;
}

/** The opening of a file on its way. */
interface Opening {
  readonly id: bigint;
  readonly tid: number;
  readonly closeOnExec: boolean;
  /** The device that is asked; null, and no name, for the table of all. */
  readonly device: IoctlDevice | null;
  readonly name: string;
}

/** One supervisor's answering. */
export class Answering {
  readonly statistics: SupervisorStatistics = noStatistics();
  /** Resolves when no supervised task is left, or {@link close} was called. */
  readonly ended: Promise<void>;
  readonly #ended = Promise.withResolvers<void>();
  readonly #listener: NotificationListener;
  readonly #waker: Waker;
  readonly #calls = systemCalls();
  readonly #notification = new Notification();
  readonly #ifreq = new Uint8Array(IFREQ_SIZE);
  readonly #ifreqView = new DataView(this.#ifreq.buffer);
  readonly #waiting: WaitingRoom;
  #closed = false;

  constructor(
    fd: number,
    readonly devices: DeviceTable,
    readonly pulse: Pulse,
    readonly timeoutMs: number,
    readonly onFailure: (failure: IoctlFailure) => void,
    /** Told the name of every device that is asked. */
    readonly onAsked: (name: string) => void,
  ) {
    this.ended = this.#ended.promise;
    this.#waiting = new WaitingRoom(devices, timeoutMs);
    this.#listener = new NotificationListener(fd);
    this.#listener.wakeSynchronously(); // no matter if it can't: slower
    this.#waker = createWaker(fd, (events) => this.#turn(events));
    this.#waker.arm();
  }

  /** Calls whose device has not answered yet. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** No more answers: programs that are still there get ENOSYS for what they ask. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waker.close();
    this.#waiting.close();
    this.pulse.end();
    this.#listener.close();
    this.#ended.resolve();
  }

  #turn(events: number): void {
    this.pulse.beat();
    for (let i = 0; i < TURN_MAX && !this.#closed; i++) {
      if (!this.#take()) break;
      this.pulse.beat();
      this.#handle();
    }
    if ((events & POLLHUP) !== 0 && (events & POLLIN) === 0) this.close();
    if (!this.#closed) this.#waker.arm();
  }

  /** The next call, if there is one. The lock: two takers, and the second would block for ever. */
  #take(): boolean {
    if (!this.pulse.lock()) return false;
    try {
      while ((this.#listener.poll() & POLLIN) !== 0) {
        if (this.#listener.receive(this.#notification) === 0) return true; // else it has died just now
      }
      return false;
    } finally {
      this.pulse.unlock();
    }
  }

  #handle(): void {
    const { id, tid, call } = this.#notification;
    try {
      if (call === this.#calls.ioctl) this.#ioctl(id, tid);
      else this.#open(id, tid, call);
    } catch (error) {
      // A fault of ours: the caller goes on as if nobody had looked.
      this.#proceed(id);
      reportError(error);
    }
  }

  #proceed(id: bigint): void {
    this.statistics.proceeded++;
    this.#listener.proceed(id);
  }

  #ioctl(id: bigint, tid: number): void {
    const address = this.#notification.arg(2);
    // What can't be read is a bad pointer, and the kernel says so; or a program that we may not look into.
    const read = readProcess(tid, address, this.#ifreq);
    if (read === -EPERM) this.statistics.unreadable++;
    if (read < 0) return this.#proceed(id);
    const request = this.#notification.view.getUint32(40, true);
    const { devices } = this;
    // One request names the interface by its number, which says nothing without a namespace unless it is one of ours.
    const device = request === SIOCGIFNAME
      ? devices.byOwnIndex(this.#ifreqView.getInt32(UNION, true))
      : devices.lookup(this.#ifreq.subarray(0, UNION));
    if (device === null || !this.#listener.isValid(id)) return this.#proceed(id);
    if (!descriptorIsSocket(tid, this.#notification.intArg(0))) return this.#proceed(id);
    const { name } = device;
    const before = this.#ifreq.slice();
    const ifreq = before.slice();
    const asked: Request = { id, tid, device, name, request, address, before, ifreq, listener: this.#listener, over: false };
    if (request === SIOCGIFNAME) {
      ifreq.fill(0, 0, UNION);
      new TextEncoder().encodeInto(name, ifreq.subarray(0, IFNAME_LAST));
      return this.#finish(asked, 0);
    }
    // As the kernel gives it to a driver: the bare name. The colon is put back for the caller.
    ifreq[IFNAME_LAST] = 0;
    const colon = ifreq.indexOf(COLON);
    if (colon >= 0 && colon < IFNAME_LAST) ifreq[colon] = 0;
    // As the kernel does before it asks a driver.
    if (needsPrivilege(request) && !mayAdminister(tid)) return this.#finish(asked, -EPERM);
    this.onAsked(name);
    this.#ask(asked);
  }

  #ask(request: Request): void {
    const data = hasData(request.request) ? new CallerMemory(request) : null;
    let result: number | Promise<number>;
    this.pulse.enter(request.id);
    try {
      result = request.device.ioctl(request.request, request.ifreq, data);
    } catch (error) {
      result = this.#failed(request, error);
    }
    if (this.pulse.leave(request.id)) {
      // The thread that watches over us has answered meanwhile.
      request.over = true;
      this.#late(request);
    } else if (typeof result === "number") this.#finish(request, result);
    else this.#wait(request, result);
  }

  #wait(request: Request, result: Promise<number>): void {
    if (typeof (result as { then?: unknown } | null)?.then !== "function") {
      return this.#finish(request, this.#failed(request, new TypeError(`ioctl of ${request.name} returned no number`)));
    }
    const waits = this.#waiting.wait(request.device, result, {
      settled: (code) => this.#finish(request, code),
      failed: (error, waits) => {
        const code = this.#failed(request, error);
        if (waits) this.#finish(request, code);
      },
      late: () => {
        request.over = true;
        this.#listener.answer(request.id, -ETIMEDOUT);
        this.#late(request);
      },
      gone: () => this.#finish(request, -ENODEV),
    });
    if (waits) return;
    this.statistics.refused++;
    this.#finish(request, -EBUSY);
  }

  #late({ name, request, tid }: { name: string; request: number; tid: number }, result = -ETIMEDOUT): void {
    this.statistics.timedOut++;
    const error = Object.assign(new Deno.errors.TimedOut(`${name} has not answered within ${this.timeoutMs} ms`), {
      code: "ETIMEDOUT",
    });
    this.#report({ name, request, tid, result, error });
  }

  /** What the caller gets when a device throws. */
  #failed({ name, request, tid }: Request, error: unknown): number {
    const code = (error as { code?: unknown } | null)?.code;
    const result = -((typeof code === "string" && errnoNumber(code)) || EIO);
    // A bad pointer is the caller's fault, not the device's.
    if (code === "EFAULT") return result;
    this.statistics.failed++;
    this.#report({ name, request, tid, result, error });
    return result;
  }

  #report(failure: IoctlFailure): void {
    try {
      this.onFailure(failure);
    } catch (error) {
      reportError(error);
    }
  }

  #finish(request: Request, code: number): void {
    if (this.#closed) return;
    let result = code;
    if (!Number.isInteger(code) || code < -ERRNO_MAX || code > 0x7fff_ffff) {
      result = this.#failed(request, new RangeError(`ioctl of ${request.name} returned ${code}, no result and no errno`));
    }
    if (result === -ENOIOCTLCMD) {
      request.over = true;
      return this.#proceed(request.id);
    }
    if (result >= 0) {
      const code = this.#writeBack(request);
      if (code < 0) result = code;
    }
    request.over = true;
    if (this.#listener.answer(request.id, result) < 0) this.statistics.abandoned++;
    else this.statistics.answered++;
  }

  /** What the device changed in the ifreq goes to the caller. 0, or -EFAULT for memory that can be read only. */
  #writeBack({ id, tid, address, before, ifreq }: Request): number {
    const colon = before.indexOf(COLON);
    if (colon >= 0 && colon < IFNAME_LAST && ifreq[colon] === 0) ifreq[colon] = COLON;
    let same = true;
    for (let i = 0; i < IFREQ_SIZE && same; i++) same = ifreq[i] === before[i];
    if (same || !this.#listener.isValid(id)) return 0;
    return writeProcess(tid, address, ifreq);
  }

  #open(id: bigint, tid: number, call: number): void {
    const shift = call === this.#calls.openat ? 1 : 0;
    const folder = shift === 1 ? this.#notification.intArg(0) : AT_FDCWD;
    const closeOnExec = (this.#notification.arg(shift + 1) & O_CLOEXEC) !== 0;
    const wanted = wantedFile(tid, folder, this.#notification.arg(shift), this.devices);
    if (wanted === null || !this.#listener.isValid(id)) return this.#proceed(id);
    const device = "device" in wanted ? wanted.device : null;
    this.#read({ id, tid, closeOnExec, device, name: device?.name ?? "" }, wanted);
  }

  #read(opening: Opening, wanted: Wanted): void {
    const { id, tid, device, name } = opening;
    let content: ReturnType<typeof contentOf> = null;
    let fault: { error: unknown } | null = null;
    this.pulse.enter(id);
    try {
      content = contentOf(wanted, tid, this.devices);
    } catch (error) {
      fault = { error };
    }
    if (this.pulse.leave(id)) return this.#late({ name, request: 0, tid });
    if (fault !== null) return this.#unread(opening, fault.error, true);
    if (content === null || typeof content === "string") return this.#hand(opening, content);
    const waits = device !== null && this.#waiting.wait(device, content, {
      settled: (text) => this.#hand(opening, text),
      failed: (error, waits) => this.#unread(opening, error, waits),
      // The kernel's own answer is better than none.
      late: () => {
        this.#proceed(id);
        this.#late({ name, request: 0, tid }, 0);
      },
      gone: () => this.#proceed(id),
    });
    if (waits) return;
    this.statistics.refused++;
    this.#proceed(id);
  }

  /** The caller gets a file with this text, or, without one, the kernel's. */
  #hand(opening: Opening, text: string | null): void {
    if (this.#closed) return;
    if (text === null) return this.#proceed(opening.id);
    try {
      using file = readOnlyMemoryFile("tapioca", new TextEncoder().encode(text));
      this.statistics.files++;
      if (this.#listener.answerDescriptor(opening.id, file.fd, opening.closeOnExec) < 0) this.statistics.abandoned++;
    } catch (error) {
      this.#unread(opening, error, true); // no descriptor left of our own
    }
  }

  #unread({ id, tid, name }: Opening, error: unknown, waits: boolean): void {
    this.statistics.failed++;
    this.#report({ name, request: 0, tid, result: 0, error });
    if (waits && !this.#closed) this.#proceed(id);
  }
}
