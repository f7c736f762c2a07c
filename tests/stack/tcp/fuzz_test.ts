import { assert, assertEquals } from "@std/assert";
import { HAS_FIN, LOST, PROBE, SACKED } from "../../../stack/tcp/sent.ts";
import type { Listener } from "../../../stack/tcp/listener.ts";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import { CLOSED, ESTABLISHED, STATE_NAMES, SYN_RECEIVED, SYN_SENT, TIME_WAIT } from "../../../stack/tcp/types.ts";
import { u32 } from "../../testing/frames.ts";
import { seeded } from "../../testing/tcp_pair.ts";
import { type Given, mss, Peer, PEER_ISS, SACK_OK, scale, stamps } from "../../testing/tcp_peer.ts";

const LONG = Deno.env.get("TAPIOCA_LONG") === "1";
/** About 31 segments each; two million segments a minute on one core. */
const RUNS = LONG ? 40_000 : 2000;
const STEPS = 120;
const LETTERS = ["A", "A", "A", "A", "A", "A", "A", "A", "AP", "AF", "AF", "AU", "S", "SA", "R", "RA", "F", "SF", "", "FSRPAU"];
/** The byte of the peer's stream at a place: whatever is delivered must be these, in order. */
const byteAt = (place: number) => (place * 31 + (place >> 8)) & 255;

/** Segments that met a connection in each state, by its number. */
const met: number[] = STATE_NAMES.map(() => 0);

/** One run: a connection in some state, segments and calls at random, and what must hold after each. */
class Run {
  readonly peer: Peer;
  readonly random: () => number;
  readonly sack: boolean;
  readonly stamped: boolean;
  readonly shift: number;
  listener: Listener | null = null;
  delivered = 0;
  /** Furthest end of the peer's text and window that it legally sent, and the right edge that it offered. */
  offered: number;
  sentTo = 0;
  log: (string | Given)[] = [];

  constructor(readonly seed: number) {
    this.random = seeded(seed);
    this.sack = this.below(2) === 0;
    this.stamped = this.below(3) === 0;
    this.shift = this.below(2) === 0 ? 0 : this.below(15);
    const syn = [...mss(100 + this.below(1400)), ...(this.sack ? SACK_OK : []), ...(this.shift > 0 ? scale(this.shift) : [])];
    if (this.stamped) syn.push(...stamps(0, 0));
    const defaults = {
      receiveBufferMax: 1 << (12 + this.below(6)),
      noDelay: this.below(2) === 0,
      keepAlive: this.below(4) === 0,
      userTimeoutMs: this.below(4) === 0 ? 5000 : 0,
    };
    const given = { seed, syn, window: this.below(40_000), config: { defaults, limits: { memoryMax: 1 << 20 } } };
    const kind = this.below(4);
    if (kind === 0) {
      this.peer = Peer.connecting(given);
      this.peer.seq = this.peer.ack = 1;
    } else this.peer = kind === 1 ? Peer.connected(given) : Peer.accepted(given);
    this.offered = this.peer.window + 1;
    this.peer.options = () => [];
  }

  below(n: number): number {
    return this.random() % n;
  }

  /** A number that is right, nearly right, or anything. */
  near(value: number): number {
    switch (this.below(12)) {
      case 0:
        return value + 1;
      case 1:
        return value - 1;
      case 2:
        return value + this.below(3000) - 1500;
      case 3:
        return value + this.below(200_000) - 100_000;
      case 4:
        return this.random() | 0;
      default:
        return value;
    }
  }

  segment(): void {
    const { peer } = this;
    const { tcb } = peer;
    let flags = LETTERS[this.below(LETTERS.length)];
    // A reset in its place ends the run: one in many.
    if (flags.includes("R") && this.below(10) > 0) flags = "A";
    const seq = this.near(((tcb.rcvNxt - PEER_ISS) | 0) + (this.below(4) === 0 ? this.below(5000) : 0));
    const una = (tcb.sndUna - peer.iss) | 0;
    const ack = this.near(una + this.below(((tcb.sndNxt - tcb.sndUna) | 0) + 1));
    // The peer's stream begins behind whatever SYN the host took; text in a SYN stands at its beginning.
    const first = tcb.state === SYN_SENT ? 0 : (seq + (flags.includes("S") ? 1 : 0) + PEER_ISS - tcb.irs - 1) | 0;
    const data = this.below(3) === 0 ? Uint8Array.from({ length: this.below(1500) }, (_, i) => byteAt(first + i)) : 0;
    const given: Given = { flags, seq, ack, data, window: this.below(3) === 0 ? this.below(4) : this.below(65536) };
    given.options = this.options(una);
    given.urgent = this.below(65536);
    this.log.push(given);
    met[tcb.state]++;
    peer.send(given);
    this.look();
  }

  options(una: number): number[] {
    const all: number[] = [];
    if (this.stamped ? this.below(20) > 0 : this.below(20) === 0) {
      all.push(...stamps(this.near(Math.floor(this.peer.pair.now)), this.near(this.peer.lastStamp)));
    }
    if (this.below(4) === 0) {
      const flight = (this.peer.tcb.sndNxt - this.peer.tcb.sndUna) | 0;
      const blocks = 1 + this.below(this.stamped ? 3 : 4);
      all.push(1, 1, 5, 2 + 8 * blocks);
      for (let i = 0; i < blocks; i++) {
        const left = this.near(una + this.below(flight + 1));
        all.push(...u32((this.peer.iss + left) >>> 0), ...u32((this.peer.iss + this.near(left + this.below(3000))) >>> 0));
      }
    }
    if (this.below(30) === 0) all.push(...Array.from({ length: this.below(8) }, () => this.below(256)));
    return all.slice(0, 40);
  }

  call(): void {
    const { tcb, pair } = this.peer;
    const kind = this.below(40);
    this.log.push(`call ${kind}`);
    if (kind < 15) tcb.send(new Uint8Array(9000).fill(1), 0, 1 + this.below(kind < 5 ? 50 : 9000));
    else if (kind < 30) this.read();
    else if (kind === 30) tcb.shutdownWrite();
    else if (kind === 31) tcb.shutdownRead();
    else if (kind === 32) tcb.setNoDelay(true);
    else if (kind === 33 && this.below(3) === 0) tcb.close();
    else if (kind === 34 && this.below(3) === 0) tcb.abort();
    pair.flush();
    this.look();
  }

  read(): void {
    const into = new Uint8Array(1 + this.below(8000));
    const n = this.peer.tcb.receive(into, 0, into.length);
    if (this.peer.tcb.readShut) return;
    for (let i = 0; i < n; i++) {
      this.must(into[i] === byteAt(this.delivered + i), `byte ${this.delivered + i} of the stream is wrong`);
    }
    this.delivered += Math.max(0, n);
  }

  /** Says where it went wrong only when it did. */
  must(holds: boolean | number, what: string): void {
    if (!holds) throw new Error(this.say(what));
  }

  say(what: string): string {
    const { tcb } = this.peer;
    return `seed ${this.seed}: ${what}; ${STATE_NAMES[tcb.state]} una ${(tcb.sndUna - tcb.iss) | 0} nxt ${
      (tcb.sndNxt - tcb.iss) | 0
    } wnd ${tcb.sndWnd} ring ${tcb.sendRing.count}\n${
      this.log.slice(-12).map((entry) => typeof entry === "string" ? entry : JSON.stringify(entry)).join("\n")
    }`;
  }

  /** What must hold of what was sent just now. */
  look(): void {
    const { tcb, out, iss } = this.peer;
    // The right edge that the host has taken from the peer's acknowledgments only moves by them.
    const right = (tcb.sndUna + tcb.sndWnd - iss) | 0;
    this.offered = ((right - this.offered) | 0) > 0 ? right : this.offered;
    for (const seen of out) {
      if (seen.length > 1) {
        this.must(
          ((seen.seq + seen.length - this.offered) | 0) <= 0,
          `sent to ${seen.seq + seen.length} of ${this.offered}`,
        );
      }
      if (seen.flags.includes("A") && tcb.state !== CLOSED && tcb.state !== SYN_SENT) {
        this.must(((seen.ack + PEER_ISS - tcb.rcvNxt) | 0) <= 0, "acknowledged what has not come");
      }
    }
    out.length = 0;
    this.hold();
  }

  /** What must hold of the machine. */
  hold(): void {
    const { tcb, host } = this.peer;
    this.must(host.pool.used === tcb.sendRing.capacity + tcb.receiveRing.capacity, `pool ${host.pool.used}`);
    if (tcb.state === CLOSED) {
      this.must(host.table.size === 0 && tcb.sendRing.capacity === 0 && host.nextDeadline() === Infinity, "left behind");
      return;
    }
    this.scoreboard(tcb);
    this.timers(tcb);
    this.must(((tcb.rcvEdge - tcb.rcvNxt) | 0) >= 0, "window of less than nothing");
    this.must(tcb.receiveRing.count <= tcb.receiveLimit + 65536, "more than the buffer");
  }

  scoreboard(tcb: Tcb): void {
    let sacked = 0, lost = 0, at = tcb.sndUna;
    for (let i = 0; tcb.sent !== null && i < tcb.sent.length; i++) {
      const bytes = (tcb.sent.end(i) - tcb.sent.start(i)) | 0;
      this.must(bytes > 0 && tcb.sent.start(i) === at, `record ${i} of ${bytes} bytes out of place`);
      at = tcb.sent.end(i);
      if ((tcb.sent.flags(i) & SACKED) !== 0) sacked += bytes;
      if ((tcb.sent.flags(i) & LOST) !== 0) lost += bytes;
      this.must((tcb.sent.flags(i) & (SACKED | LOST)) !== (SACKED | LOST), "lost and arrived");
      this.must(
        (tcb.sent.flags(i) & HAS_FIN) === 0 || i === tcb.sent.length - 1 || tcb.sent.flags(i) & PROBE,
        "FIN inside",
      );
    }
    if (tcb.state >= ESTABLISHED) this.must(at === tcb.sndNxt, "records end before SND.NXT");
    if (tcb.sack) this.must(sacked === tcb.sackedBytes, `sacked ${sacked}, said ${tcb.sackedBytes}`);
    this.must(lost === tcb.lostBytes, `lost ${lost}, said ${tcb.lostBytes}`);
    assert(tcb.sackedBytes >= 0 && tcb.cwnd >= Math.min(tcb.sendMss, tcb.cwnd) && (tcb.state < ESTABLISHED || tcb.cwnd > 0));
  }

  timers(tcb: Tcb): void {
    const out = tcb.sndUna !== tcb.sndNxt;
    const waits = tcb.state >= ESTABLISHED && tcb.state !== TIME_WAIT &&
      (out || tcb.unsent > 0 || (tcb.writeShut && !tcb.finSent));
    const armed = tcb.rtoAt !== Infinity || tcb.persistAt !== Infinity;
    if (waits) this.must(armed || tcb.queued, "waits with no timer");
    else if (tcb.state >= ESTABLISHED) this.must(!armed, `a timer for nothing: rto ${tcb.rtoAt} persist ${tcb.persistAt}`);
    if (tcb.state === SYN_SENT || tcb.state === SYN_RECEIVED) this.must(tcb.rtoAt !== Infinity || tcb.queued, "no timer");
    if (tcb.state === TIME_WAIT) this.must(tcb.waitAt !== Infinity, "TIME-WAIT without an end");
    if (armed) this.must(this.peer.host.nextDeadline() <= Math.min(tcb.rtoAt, tcb.persistAt), "not in the heap");
  }

  /** Leads an established connection into one of the states behind it. */
  lead(): void {
    const { peer } = this;
    const { tcb } = peer;
    const number = () => ({ seq: (tcb.rcvNxt - PEER_ISS) | 0, ack: (tcb.sndNxt - peer.iss) | 0, options: this.options(0) });
    const way = this.below(8);
    if (way === 1 || way === 2 || way > 4) peer.after(() => tcb.shutdownWrite()); // FIN-WAIT-1
    if (way === 2 || way > 5) peer.send({ ...number(), window: 20_000 }); // FIN-WAIT-2
    if (way > 2) peer.send({ ...number(), flags: "AF", ack: way === 5 ? (tcb.sndUna - peer.iss) | 0 : number().ack }); // CLOSE-WAIT, CLOSING, TIME-WAIT
    if (way === 4) peer.after(() => tcb.shutdownWrite()); // LAST-ACK
    this.look();
  }

  go(): void {
    if (this.peer.tcb.state === ESTABLISHED) this.lead();
    for (let step = 0, over = 0; step < STEPS && over < 5; step++) {
      if (this.peer.tcb.state === CLOSED) over++;
      const kind = this.below(10);
      if (kind < 6) this.segment();
      else if (kind < 8) this.call();
      else {
        this.log.push("time");
        this.peer.pass(this.below(5) === 0 ? this.below(100_000) : this.below(300));
        this.look();
      }
    }
    this.peer.tcb.abort();
    this.peer.pair.flush();
    this.hold();
    for (const [name, value] of Object.entries(this.peer.host.statistics)) this.must(value >= 0, `${name} is ${value}`);
  }
}

Deno.test(`fuzz: ${RUNS} connections, random segments and calls in every state; the invariants hold after each step`, () => {
  for (let seed = 1; seed <= RUNS; seed++) new Run(seed).go();
  // LISTEN has a test of its own, below; every other state had its share.
  const few = STATE_NAMES.filter((name, state) => name !== "LISTEN" && met[state] < RUNS / 50);
  assertEquals(few, [], `${STATE_NAMES.map((name, state) => `${name} ${met[state]}`)}`);
});

Deno.test("fuzz: a listener with cookies and Fast Open under random segments from many peers stays bounded, and ends empty", () => {
  for (let seed = 1; seed <= (LONG ? 2000 : 60); seed++) {
    const random = seeded(seed);
    const defaults = { fastOpen: random() % 2 === 0, ecn: random() % 2 === 0 };
    const limits = { connectionsMax: 40, timeWaitMax: 5, memoryMax: 1 << 18 };
    const peer = new Peer({ seed, config: { defaults, limits } });
    const listener = peer.host.listen(0, 80, 1 + random() % 4) as Listener;
    const held: Tcb[] = [];
    let last = 0;
    for (let i = 0; i < 300; i++) {
      peer.peerPort = 4000 + random() % 12;
      const options = random() % 2 === 0
        ? []
        : [...mss(random() % 2000), ...SACK_OK, ...stamps(random(), random()), 34, 2 + random() % 9, 1, 2, 3, 4];
      const flags = ["S", "S", "S", "SEC", "A", "A", "AP", "AF", "R", "SA"][random() % 10];
      const answers = peer.send({
        flags,
        seq: random() % 3,
        ack: random() % 3 + last,
        data: random() % 3 * 100,
        options: options.slice(0, 40),
      });
      if (answers.length > 0) last = answers[0].seq;
      if (random() % 8 === 0) peer.pass(random() % 20_000);
      const tcb = random() % 4 === 0 ? listener.accept() : 0;
      if (typeof tcb !== "number") held.push(tcb);
      if (random() % 6 === 0) held.pop()?.close();
      assert(listener.pending <= listener.backlog && listener.halfOpen.size <= listener.backlog, `seed ${seed}`);
      assert(peer.host.table.size <= 40 && peer.host.pool.used <= 1 << 18 && peer.host.statistics.timeWait <= 5, `seed ${seed}`);
    }
    listener.close();
    for (const tcb of held) tcb.close();
    peer.pass(3600_000);
    assert(
      peer.host.table.size === 0 && peer.host.pool.used === 0 && peer.host.nextDeadline() === Infinity,
      `seed ${seed}: left behind`,
    );
  }
});
