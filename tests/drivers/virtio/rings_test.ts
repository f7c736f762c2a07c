/** Split and packed virtqueues, our driver's side against our device's side, and both against a naive model. */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { Chain } from "../../../drivers/virtio/chain.ts";
import { BASE, ENTRIES, numbers, Rig, type RigOptions } from "./ring_rig.ts";

/** Bytes of a chain's place: more pieces of fewer bytes, or fewer of more. */
const SLOT = 64;

/** One chain on its way, as the model knows it. */
interface Sent {
  slot: number;
  readable: number;
  writable: number;
  /** What the device has written, once it has given it back. */
  written: number;
  serial: number;
}

function byteOf(serial: number, i: number, written: boolean): number {
  return (Math.imul(serial, 2654435761) >>> 9) + i * 7 + (written ? 101 : 0) & 0xff;
}

/** A rig with the model beside it: checks every byte and every id on the way. */
class Checked {
  readonly rig: Rig;
  readonly byId = new Map<number, Sent>();
  readonly #slots: number[];
  /** Published, taken, given, in the order of these things. */
  #added: Sent[] = [];
  readonly published: Sent[] = [];
  readonly taken: { sent: Sent; id: number; descriptors: number; chain: Chain }[] = [];
  #given = new Set<number>();
  readonly shown = new Set<number>();
  serial = 0;
  collected = 0;
  readonly #scratch = new Uint8Array(SLOT);

  constructor(options: RigOptions) {
    this.rig = new Rig({ ...options, data: options.size * SLOT });
    this.#slots = Array.from({ length: options.size }, (_, i) => i);
  }

  /** Offers a chain of pieces with these lengths (64 bytes at most in all). False if it didn't fit. */
  add(lengths: number[], out: number): boolean {
    const { rig, serial } = this;
    const { driver, options, at } = rig;
    const count = lengths.length;
    const needed = options.indirect === true && count > 1 && count <= ENTRIES ? 1 : count;
    const fits = needed <= driver.free && count <= options.size;
    const slot = this.#slots[0];
    let offset = at.buffers + (slot ?? 0) * SLOT;
    const addresses = lengths.map((length) => BASE + (offset += length) - length);
    const readable = lengths.slice(0, out).reduce((sum, length) => sum + length, 0);
    if (fits) {
      for (let i = 0; i < readable; i++) rig.bytes[at.buffers + slot * SLOT + i] = byteOf(serial, i, false);
    }
    const id = driver.add(addresses, lengths, out, count);
    assertEquals(id >= 0, fits);
    if (!fits) return false;
    this.#slots.shift();
    assert(!this.byId.has(id), `id ${id} is under way already`);
    const writable = lengths.reduce((sum, length) => sum + length, 0) - readable;
    const sent = { slot, readable, writable, written: -1, serial };
    this.byId.set(id, sent);
    this.#added.push(sent);
    this.serial++;
    return true;
  }

  publish(): boolean {
    this.published.push(...this.#added);
    this.#added = [];
    return this.rig.driver.publish();
  }

  /** The device takes the next one. False if there was none. */
  take(): boolean {
    const chain = new Chain();
    const code = this.rig.device.take(chain);
    assertEquals(this.rig.device.broken, null);
    assertEquals(code, this.published.length > 0 ? 1 : 0);
    if (code === 0) return false;
    const sent = this.published.shift()!;
    assertEquals([chain.readableBytes, chain.writableBytes], [sent.readable, sent.writable]);
    assertEquals(chain.gather(0, this.#scratch, 0, SLOT), sent.readable);
    for (let i = 0; i < sent.readable; i++) {
      if (this.#scratch[i] !== byteOf(sent.serial, i, false)) assertEquals(this.#scratch[i], byteOf(sent.serial, i, false));
    }
    this.taken.push({ sent, id: chain.id, descriptors: chain.descriptors, chain });
    return true;
  }

  /** Gives back the `pick`th of those that were taken, `share` 256ths of it written. */
  give(pick: number, share: number): void {
    if (this.taken.length === 0) return;
    const [{ sent, id, descriptors, chain }] = this.taken.splice(this.rig.options.inOrder ? 0 : pick % this.taken.length, 1);
    const written = sent.writable * share >> 8;
    const scratch = this.#scratch.map((_, i) => byteOf(sent.serial, i, true));
    assertEquals(chain.scatter(0, scratch, 0, written), written);
    sent.written = written;
    this.rig.device.give(id, descriptors, written);
    this.#given.add(sent.serial);
  }

  show(): boolean {
    for (const serial of this.#given) this.shown.add(serial);
    this.#given.clear();
    return this.rig.device.publish();
  }

  /** The driver takes one back. False if there was none. */
  collect(): boolean {
    const { driver, bytes, at } = this.rig;
    const id = driver.collect();
    assertEquals(driver.broken, null);
    assertEquals(id >= 0, this.shown.size > 0);
    if (id < 0) return false;
    const sent = this.byId.get(id);
    assert(sent !== undefined, `id ${id} isn't under way`);
    assert(this.shown.delete(sent.serial), "it was not shown yet");
    this.byId.delete(id);
    assertEquals(driver.written, sent.written);
    const start = at.buffers + sent.slot * SLOT;
    for (let i = 0; i < SLOT; i++) {
      if (i >= sent.readable + sent.written) break;
      const wanted = i < sent.readable ? byteOf(sent.serial, i, false) : byteOf(sent.serial, i - sent.readable, true);
      if (bytes[start + i] !== wanted) assertEquals(bytes[start + i], wanted);
    }
    this.#slots.push(sent.slot);
    this.collected++;
    return true;
  }

  /** Everything comes back. */
  finish(): void {
    this.publish();
    while (this.take());
    while (this.taken.length > 0) this.give(0, 256);
    this.show();
    while (this.collect());
    assertEquals([this.collected, this.byId.size, this.rig.driver.free], [this.serial, 0, this.rig.options.size]);
    this.rig.checkCanaries();
  }
}

/** Every kind of ring. */
function* kinds(): Generator<Omit<RigOptions, "size">> {
  for (const packed of [false, true]) {
    for (const eventIndex of [false, true]) {
      for (const indirect of [false, true]) {
        for (const inOrder of [false, true]) yield { packed, eventIndex, indirect, inOrder };
      }
    }
  }
}

function nameOf({ packed, eventIndex, indirect, inOrder }: Omit<RigOptions, "size">): string {
  const extras = [eventIndex ? "event index" : "", indirect ? "indirect" : "", inOrder ? "in order" : ""].filter((s) => s !== "");
  return [packed ? "packed" : "split", ...extras].join(", ");
}

const sizes = (packed: boolean) => packed ? fc.integer({ min: 1, max: 256 }) : fc.integer({ min: 0, max: 8 }).map((n) => 1 << n);

for (const kind of kinds()) {
  Deno.test(`virtio rings: ${nameOf(kind)}: as the model does`, () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: ENTRIES + 2 });
    const step = fc.oneof(
      fc.record({ add: lengths, out: fc.nat(ENTRIES + 2), times: fc.integer({ min: 1, max: 20 }) }),
      fc.record({ publish: fc.constant(true) }),
      fc.record({ take: fc.integer({ min: 1, max: 300 }) }),
      fc.record({ give: fc.array(fc.nat(999), { maxLength: 40 }), share: fc.nat(256) }),
      fc.record({ show: fc.constant(true) }),
      fc.record({ collect: fc.integer({ min: 1, max: 300 }) }),
    );
    const run = (size: number, shared: boolean, steps: (typeof step extends fc.Arbitrary<infer T> ? T : never)[]) => {
      const checked = new Checked({ ...kind, size, shared });
      for (const action of steps) {
        if ("add" in action) {
          for (let i = 0; i < action.times; i++) checked.add(action.add, Math.min(action.out, action.add.length));
        } else if ("publish" in action) checked.publish();
        else if ("take" in action) { for (let i = 0; i < action.take && checked.take(); i++); }
        else if ("give" in action) action.give.forEach((pick) => checked.give(pick, action.share));
        else if ("show" in action) checked.show();
        else for (let i = 0; i < action.collect && checked.collect(); i++);
      }
      checked.finish();
    };
    fc.assert(
      fc.property(sizes(kind.packed), fc.boolean(), fc.array(step, { minLength: 10, maxLength: 120, size: "max" }), run),
      { numRuns: 60, seed: 5 },
    );
  });

  Deno.test(`virtio rings: ${nameOf(kind)}: past the end of 16-bit indexes, every size`, () => {
    for (const size of kind.packed ? [1, 2, 3, 7, 64, 255] : [1, 2, 8, 256]) {
      const checked = new Checked({ ...kind, size, shared: size % 2 === 0 });
      const random = numbers(size);
      while (checked.serial < (size > 8 ? 70_000 : 7_000)) {
        for (let i = random(size) + 1; i > 0; i--) if (!checked.add(random(2) === 0 ? [3] : [1, 2], random(3) >> 1)) break;
        checked.publish();
        for (let i = random(size) + 1; i > 0 && checked.take(); i--);
        for (let i = random(size) + 1; i > 0; i--) checked.give(random(256), 128);
        checked.show();
        for (let i = random(size) + 1; i > 0 && checked.collect(); i--);
      }
      checked.finish();
    }
  });

  Deno.test(`virtio rings: ${nameOf(kind)}: whoever acts on notifications only never waits for ever`, () => {
    for (const size of kind.packed ? [1, 2, 3, 5, 32, 100] : [1, 2, 4, 32]) {
      for (let seed = 1; seed <= 40; seed++) playOnNotifications({ ...kind, size }, seed);
    }
  });
}

/** Two sides that sleep until they are told, with every step of theirs in a random order. Fails when both sleep too early. */
function playOnNotifications(options: RigOptions, seed: number): void {
  const checked = new Checked(options);
  const random = numbers(seed * 7919 + options.size);
  const total = 40 + 5 * options.size;
  const { driver, device } = checked.rig;
  const lengths = options.size === 1 ? [2] : [1, 2];
  let kick = false;
  let interrupt = false;
  function* drive(): Generator<boolean> {
    for (;;) {
      if (random(2) === 0) driver.wantInterrupts(false);
      for (let budget = random(40) + 1; budget > 0 && checked.collect(); budget--) yield true;
      for (let i = random(options.size) + 1; i > 0 && checked.serial < total && checked.add(lengths, 1); i--) yield true;
      yield true;
      kick = checked.publish() || kick;
      yield true;
      // It sleeps only when nothing is to be had, and it can't add: that is what a driver's queue being full means.
      if (driver.wantInterrupts(true) || (checked.serial < total && driver.free >= lengths.length)) continue;
      while (!interrupt) yield false;
      interrupt = false;
    }
  }
  function* serve(): Generator<boolean> {
    for (;;) {
      if (random(2) === 0) device.wantKicks(false);
      for (let budget = random(40) + 1; budget > 0 && checked.take(); budget--) yield true;
      // Some are held back, as by a slow disk, while others come in.
      for (let i = random(checked.taken.length + 1); i > 0; i--) checked.give(random(99), 256);
      yield true;
      interrupt = checked.show() || interrupt;
      yield true;
      if (device.wantKicks(true) || checked.taken.length > 0) continue;
      while (!kick) yield false;
      kick = false;
    }
  }
  const sides = [drive(), serve()];
  let idle = 0;
  for (let steps = 0; checked.collected < total; steps++) {
    idle = sides[random(2)].next().value ? 0 : idle + 1;
    assert(idle < 200, `both sleep after ${checked.collected} of ${total} buffers: seed ${seed}, size ${options.size}`);
    assert(steps < total * 2000, "it doesn't end");
  }
}
