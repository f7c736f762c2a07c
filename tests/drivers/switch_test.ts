/** The learning switch of simulated networks. */
import { assertEquals, assertGreater, assertLess, assertThrows } from "@std/assert";
import { Network } from "../../mod.ts";

Deno.test("a switch learns where hosts are: then nobody else hears them", async () => {
  using net = new Network();
  const hub = net.switch("s1");
  const hosts = [1, 2, 3, 4].map((i) => net.host(`h${i}`, { address: `10.0.0.${i}/24` }));
  const links = hosts.map((host) => net.link(host, hub, { delay: 1 }));
  assertEquals(hub.ports, 4);
  await net.run(() => hosts[0].ping("10.0.0.2"));
  await net.untilQuiet();
  // Everybody has announced itself.
  assertEquals(hub.addresses, 4);
  const before = links.map(({ statistics }) => statistics.bToA.sent);
  const { forwarded } = hub.statistics;
  for (let i = 0; i < 5; i++) await net.run(() => hosts[0].ping("10.0.0.2"));
  assertEquals(links.map(({ statistics }, i) => statistics.bToA.sent - before[i]), [5, 5, 0, 0]);
  assertEquals(hub.statistics.forwarded - forwarded, 10);
  const { received, flooded, filtered, dropShort, dropSource } = hub.statistics;
  assertEquals(received, hub.statistics.forwarded + flooded + filtered + dropShort + dropSource);
  // A broadcast goes to everybody else, and not back.
  const sent = links.map(({ statistics }) => statistics.bToA.sent);
  await net.run(() => hosts[0].ping("10.0.0.77").catch(() => {}));
  assertEquals(links.map(({ statistics }, i) => statistics.bToA.sent - sent[i]), [0, 3, 3, 3]);
  // After five minutes of silence it has forgotten, and floods.
  await net.advance(301_000);
  assertEquals(hub.addresses, 0);
  await net.run(() => hosts[0].ping("10.0.0.2"));
  assertGreater(hub.statistics.flooded, flooded);
});

Deno.test("a full table: what it can't remember is flooded, counted, and still arrives", async () => {
  using net = new Network();
  const hub = net.switch("s1", { table: 2 });
  const hosts = [1, 2, 3, 4, 5].map((i) => net.host(`h${i}`, { address: `10.0.0.${i}/24` }));
  for (const host of hosts) net.link(hub, host);
  await net.run(() => Promise.all(hosts.slice(1).map((host) => host.ping("10.0.0.1"))));
  assertEquals(hub.addresses, 2);
  assertGreater(hub.statistics.notLearned, 0);
  assertThrows(() => net.switch("s2", { table: 0 }), RangeError);
});

Deno.test("switches in a ring: a storm takes time, and run() ends", async () => {
  using net = new Network();
  const [a, b, c] = ["a", "b", "c"].map((name) => net.switch(name));
  net.link(a, b);
  net.link(b, c);
  net.link(c, a);
  const host = net.host("h", { address: "10.0.0.1/24" });
  net.link(host, a);
  await net.run(() => host.ping("10.0.0.2", { timeoutMs: 5 }).catch(() => {}));
  assertGreater(a.statistics.flooded, 100);
  assertLess(a.statistics.flooded, 10_000);
});
