import { assertEquals, assertInstanceOf } from "@std/assert";
import { Descriptor, O_RDONLY, openFile } from "../../ffi/descriptor.ts";
import { libc } from "../../ffi/libc.ts";
import { createWaker, POLLIN, pollNow, POLLNVAL, POLLOUT, wakersIdle, watchEdges } from "../../ffi/poll.ts";
import { thrown } from "./kernel.ts";

const one = () => new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);

/** An event descriptor that stays readable until it is read. */
function eventDescriptor(): Descriptor {
  return new Descriptor(libc().eventfd(0, 0x80800));
}

/** A waker and the promise of its next call. */
function watched(fd: number) {
  let next = Promise.withResolvers<number>();
  let calls = 0;
  const waker = createWaker(fd, (events) => {
    calls++;
    const { resolve } = next;
    next = Promise.withResolvers();
    resolve(events);
  });
  return { waker, next: () => next.promise, calls: () => calls };
}

Deno.test("a waker tells once per arming, and again when armed again", async () => {
  using event = eventDescriptor();
  const { waker, next, calls } = watched(event.fd);
  event.write(one());
  waker.arm();
  waker.arm(); // the second asks for nothing new
  assertEquals(await next() & POLLIN, POLLIN);
  await wakersIdle();
  assertEquals(calls(), 1); // still readable, but nobody armed
  waker.arm();
  assertEquals(await next() & POLLIN, POLLIN);
  event.read(new Uint8Array(8));
  waker.arm();
  event.write(one());
  assertEquals(await next() & POLLIN, POLLIN);
  waker.close();
  waker.close();
  await wakersIdle();
});

Deno.test("arming from inside of a call loses nothing of what came with it", async () => {
  for (let round = 0; round < 8; round++) {
    const events = Array.from({ length: 5 }, () => eventDescriptor());
    const told = [0, 0, 0, 0];
    let all = Promise.withResolvers<void>();
    const wakers = events.map((event, i) =>
      createWaker(event.fd, () => {
        if (i === 4) return all.resolve();
        told[i]++;
        if (told.every((count) => count > 0)) all.resolve();
        if (told[0] + told[1] > 1) return;
        // The first of two that came together: two more are ready, too, and there is time to wait for them.
        wakers[2].arm();
        wakers[3].arm();
        for (const until = performance.now() + 10; performance.now() < until;);
      })
    );
    // Slow enough that the next wait is one on another thread.
    wakers[4].arm();
    setTimeout(() => events[4].write(one()), 5);
    await all.promise;
    all = Promise.withResolvers();
    for (const event of events) event.write(one());
    wakers[0].arm();
    wakers[1].arm();
    const timer = setTimeout(() => all.resolve(), 2000);
    await all.promise;
    clearTimeout(timer);
    for (const waker of wakers) waker.close();
    await wakersIdle();
    for (const event of events) event.close();
    assertEquals(told, [1, 1, 1, 1]);
  }
});

Deno.test("a watch of edges tells of each change without being armed, and not of what has been told", async () => {
  using event = eventDescriptor();
  const told: number[] = [];
  let next = Promise.withResolvers<void>();
  const watch = watchEdges(event.fd, (events) => {
    told.push(events);
    next.resolve();
  });
  await next.promise;
  assertEquals(told, [POLLOUT]); // room from the beginning
  for (let i = 0; i < 3; i++) {
    next = Promise.withResolvers();
    event.write(one()); // nothing was read: still a change
    await next.promise;
  }
  assertEquals(told.slice(1), [POLLIN | POLLOUT, POLLIN | POLLOUT, POLLIN | POLLOUT]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assertEquals(told.length, 4);
  watch.close();
  event.write(one());
  await wakersIdle();
  assertEquals(told.length, 4);
});

Deno.test("a watch of edges tells only of what it was made for", async () => {
  using event = eventDescriptor();
  const told: number[] = [];
  const next = Promise.withResolvers<void>();
  const watch = watchEdges(event.fd, (events) => {
    told.push(events);
    next.resolve();
  }, POLLIN);
  await new Promise((resolve) => setTimeout(resolve, 10)); // there is room, and nobody cares
  event.write(one());
  await next.promise;
  assertEquals(told, [POLLIN]);
  watch.close();
  await wakersIdle();
});

Deno.test("a process that is stopped and goes on, often, is told of nothing", async () => {
  // Each stop interrupts the wait (signal(7)), as a debugger and the machine's sleep do.
  const program = `
    import { createWaker } from "${import.meta.resolve("../../ffi/poll.ts")}";
    import { createEvent } from "${import.meta.resolve("../../ffi/eventfd.ts")}";
    const waker = createWaker(createEvent().fd, (events) => console.log("told", events));
    waker.arm();
    console.log("ready");
    await Deno.stdin.read(new Uint8Array(1));
    waker.close();`;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-lock", `data:text/typescript,${encodeURIComponent(program)}`],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const text = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assertEquals((await text.read()).value, "ready\n");
  for (let i = 0; i < 20; i++) {
    child.kill("SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill("SIGCONT");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await child.stdin.close();
  assertEquals(await text.read(), { value: undefined, done: true });
  assertEquals((await child.status).code, 0);
});

Deno.test("interest can be added while a wait is under way", async () => {
  using event = eventDescriptor();
  const { waker, next } = watched(event.fd);
  waker.arm(POLLIN); // nothing to read: waits
  waker.arm(POLLOUT);
  assertEquals(await next() & (POLLIN | POLLOUT), POLLOUT);
  waker.close();
  await wakersIdle();
});

Deno.test("close ends a wait under way, and nothing is told afterwards", async () => {
  using event = eventDescriptor();
  const { waker, calls } = watched(event.fd);
  waker.arm();
  event.write(one());
  waker.close(); // the kernel has reported it already: too late
  waker.arm();
  await wakersIdle();
  assertEquals(calls(), 0);
});

Deno.test("close ends a wait for what never comes", async () => {
  using event = eventDescriptor();
  using other = eventDescriptor();
  const first = watched(event.fd), second = watched(other.fd);
  first.waker.arm();
  first.waker.close();
  await wakersIdle(); // the second is open, but asks for nothing
  second.waker.arm();
  other.write(one());
  assertEquals(await second.next(), POLLIN);
  second.waker.arm(POLLIN);
  second.waker.close();
  await wakersIdle();
  assertEquals(first.calls(), 0);
});

Deno.test("64 wakers share one wait: a process has 32 threads for them", async () => {
  const all = Array.from({ length: 64 }, () => {
    const event = eventDescriptor();
    return { event, ...watched(event.fd) };
  });
  for (const { waker } of all) waker.arm();
  for (const { event, next } of [...all].reverse()) {
    const told = next();
    event.write(one());
    await told;
  }
  assertEquals(all.map(({ calls }) => calls()), new Array<number>(64).fill(1));
  for (const { event, waker } of all) {
    waker.close();
    event.close();
  }
  await wakersIdle();
});

Deno.test("plain poll: ready, not ready, not open", () => {
  using event = eventDescriptor();
  assertEquals(pollNow(event.fd, POLLIN | POLLOUT), POLLOUT);
  event.write(one());
  assertEquals(pollNow(event.fd, POLLIN), POLLIN);
  assertEquals(pollNow(9999, POLLIN), POLLNVAL);
});

Deno.test("a descriptor closed under an armed waker is told when armed, not thrown", async () => {
  const event = eventDescriptor();
  const { waker, next } = watched(event.fd);
  event.close();
  waker.arm();
  assertEquals(await next(), POLLNVAL);
  waker.close();
  await wakersIdle();
});

Deno.test("what cannot be waited for is a typed error", () => {
  const regular = new Descriptor(openFile("/etc/passwd", O_RDONLY));
  const error = thrown(() => createWaker(regular.fd, () => {}));
  regular.close();
  assertInstanceOf(error, Deno.errors.PermissionDenied);
  assertInstanceOf(thrown(() => createWaker(9999, () => {})), Deno.errors.BadResource);
});
