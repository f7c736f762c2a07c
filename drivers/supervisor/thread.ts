/**
 * The thread that is filtered: it puts the filter into itself, starts the program, and hands its streams on. Afterwards it
 * watches over the isolate that answers: while that one hangs, for example in a device's endless loop, requests for its
 * devices end with ETIMEDOUT, and all others go on to the kernel.
 *
 * @module
 */
/// <reference lib="deno.worker" />
import { Descriptor } from "../../ffi/descriptor.ts";
import { ETIMEDOUT } from "../../ffi/errno.ts";
import { enterNamespace } from "../../ffi/namespace.ts";
import { readProcess } from "../../ffi/process_memory.ts";
import { installListener, Notification, NotificationListener, systemCalls } from "../../ffi/seccomp.ts";
import { cutName } from "../netdev/names.ts";
import type { FromThread, ToThread } from "./messages.ts";
import { Pulse } from "./pulse.ts";
import { WATCHED } from "./requests.ts";

declare const self: DedicatedWorkerGlobalScope;

/** No looking after anybody more often than this. */
const TICK_MS_MIN = 10;

const calls = systemCalls();
const notification = new Notification();
const ifreq = new Uint8Array(40);
let names = new Set<string>();

function post(message: FromThread, transfer: Transferable[] = []): void {
  self.postMessage(message, transfer);
}

function isOurs(): boolean {
  if (notification.call !== calls.ioctl) return false;
  return readProcess(notification.tid, notification.arg(2), ifreq) === 0 && names.has(cutName(ifreq.subarray(0, 16)));
}

/** Looks after the answering isolate, four times in the time that an answer may take. */
function watchOver(listener: NotificationListener, pulse: Pulse, timeoutMs: number): void {
  let beats = pulse.beats;
  let sinceMs = performance.now();
  setInterval(() => {
    const now = performance.now();
    if (pulse.beats !== beats) [beats, sinceMs] = [pulse.beats, now];
    // Whoever holds the lock lives.
    if (!pulse.tryLock()) return;
    try {
      const late = pulse.overdue(timeoutMs);
      if (late !== null) {
        pulse.markEnded(late);
        listener.answer(late, -ETIMEDOUT);
        // The isolate that would tell it hangs.
        console.error(`A device has not answered an ioctl within ${timeoutMs} ms, and hangs: the caller got ETIMEDOUT`);
      }
      if ((listener.poll() & 1) === 0) sinceMs = now;
      else if (now - sinceMs >= timeoutMs) {
        while ((listener.poll() & 1) !== 0 && listener.receive(notification) === 0) {
          if (isOurs()) listener.answer(notification.id, -ETIMEDOUT);
          else listener.proceed(notification.id);
        }
      }
    } finally {
      pulse.unlock();
    }
  }, Math.max(TICK_MS_MIN, timeoutMs / 4));
}

function start({ program, options, opens, pulse, timeoutMs, namespace }: Extract<ToThread, { type: "start" }>): void {
  if (namespace !== null) enterNamespace(new Descriptor(namespace));
  const fd = installListener({ ioctls: WATCHED, opens });
  // Told before the program starts: from its first moment on somebody answers it.
  post({ type: "listening", fd });
  watchOver(new NotificationListener(fd), new Pulse(pulse), timeoutMs);
  const child = new Deno.Command(program, options).spawn();
  const stdin = options.stdin === "piped" ? child.stdin : null;
  const stdout = options.stdout === "piped" ? child.stdout : null;
  const stderr = options.stderr === "piped" ? child.stderr : null;
  const streams = [stdin, stdout, stderr].filter((stream) => stream !== null);
  child.status.then((status) => post({ type: "status", status }));
  post({ type: "started", pid: child.pid, stdin, stdout, stderr }, streams as unknown as Transferable[]);
}

self.onmessage = ({ data }: MessageEvent<ToThread>) => {
  if (data.type === "names") {
    names = new Set(data.names);
    return;
  }
  names = new Set(data.names);
  try {
    start(data);
  } catch (error) {
    const { name, message, code } = error as Error & { code?: string };
    post({ type: "failed", name: (error as object).constructor?.name ?? name, message, code });
  }
};
