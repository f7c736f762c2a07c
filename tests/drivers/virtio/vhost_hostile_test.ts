/** vhost-user front ends that break the rules: the back end says why, keeps nothing of theirs, and takes the next one. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { ring } from "../../../ffi/eventfd.ts";
import { wakersIdle } from "../../../ffi/poll.ts";
import { UnixListener, UnixSocket } from "../../../ffi/unix_socket.ts";
import type { FrameMemory } from "../../../stack/device.ts";
import { FEATURES } from "../../../drivers/virtio/features.ts";
import * as p from "../../../drivers/virtio/vhost_protocol.ts";
import { numbers } from "./ring_rig.ts";
import { GUEST, MEMORY, openDescriptors, ringAt, settle, USER, VhostPeer } from "./vhost_peer.ts";

const SINK = { frame: (_: FrameMemory) => {} };

Deno.test("vhost-user: a broken ring stays broken, whatever is said next, until it is started anew", async () => {
  using peer = new VhostPeer();
  const { device, view } = peer;
  await peer.begin();
  await peer.ring(0);
  await peer.ring(1);
  assertEquals(device.running, true);
  // A descriptor of zero bytes.
  view.setUint16(ringAt(1) + 1024 + 2, 1, true);
  device.receive(SINK, 10);
  assertEquals([device.running, device.fault], [false, "descriptor 0 has no bytes"]);
  // All of these could put the ring to work again, where it stood at first.
  assertEquals(await peer.ask(p.SET_VRING_ENABLE, p.vringState(1, 1)), 0n);
  assertEquals(await peer.ask(p.SET_VRING_NUM, p.vringState(0, 8)), 0n);
  const more = p.words(0n, BigInt(GUEST + MEMORY), BigInt(MEMORY), BigInt(USER + MEMORY), 0n);
  assertEquals(await peer.ask(p.ADD_MEM_REG, more, [peer.memory.fd]), 0n);
  ring(peer.events[1].fd);
  await settle();
  assertEquals([device.running, device.connected, device.statistics().faults], [false, true, 1]);
  // What a driver does after a reset.
  view.setUint16(ringAt(1) + 1024 + 2, 0, true);
  await peer.ring(0);
  await peer.ring(1);
  assertEquals(device.running, true);
  assertEquals(device.receive(SINK, 10), 0);
});

for (
  const [request, name] of [[p.SET_STATUS, "SET_STATUS 0"], [p.RESET_OWNER, "RESET_OWNER"], [p.RESET_DEVICE, "RESET_DEVICE"]]
) {
  Deno.test(`vhost-user: after ${name} no ring runs at its old place, until it is started anew`, async () => {
    {
      using peer = new VhostPeer();
      const { device } = peer;
      await peer.begin();
      await peer.ring(0);
      await peer.ring(1);
      assertEquals(device.running, true);
      assertEquals(await peer.ask(request as number, p.words(0n)), 0n);
      assertEquals(device.running, false);
      // Each of these used to look for rings that could start; their driver has forgotten them.
      const features = FEATURES.VERSION_1 | FEATURES.VHOST_PROTOCOL;
      assertEquals(await peer.ask(p.SET_FEATURES, p.words(features | FEATURES.NET_MRG_RXBUF)), 0n);
      assertEquals(await peer.ask(p.SET_VRING_ENABLE, p.vringState(0, 1)), 0n);
      assertEquals(await peer.ask(p.SET_VRING_ENABLE, p.vringState(1, 1)), 0n);
      const table = p.words(1n, BigInt(GUEST), BigInt(MEMORY), BigInt(USER), 0n);
      assertEquals(await peer.ask(p.SET_MEM_TABLE, table, [peer.memory.fd]), 0n);
      assertEquals([device.running, device.connected], [false, true]);
      await peer.ring(0);
      await peer.ring(1);
      assertEquals(device.running, true);
    }
    await wakersIdle();
  });
}

Deno.test("vhost-user: descriptors that nobody asked for are limited, and closed", async () => {
  using peer = new VhostPeer();
  await peer.begin();
  const before = openDescriptors();
  const fds = Array.from({ length: 16 }, () => peer.events[0].fd);
  // A message of one byte after the other, with descriptors beside each of them.
  const bytes = new Uint8Array(p.HEADER + 500);
  new DataView(bytes.buffer).setUint32(0, p.SET_MEM_TABLE, true);
  new DataView(bytes.buffer).setUint32(4, 1, true);
  new DataView(bytes.buffer).setUint32(8, 500, true);
  let most = 0;
  for (let i = 0; i < 100; i++) {
    if (peer.socket.send(bytes.slice(i, i + 1), fds) < 0) break;
    if (i % 5 === 4) await settle();
    most = Math.max(most, openDescriptors());
  }
  await settle();
  assert(most - before < 150, `${most - before} descriptors were held`);
  assertMatch(peer.device.fault ?? "", /descriptors/);
  assertEquals([peer.device.connected, openDescriptors() <= before], [false, true]);
});

Deno.test("vhost-user: a kick descriptor that can only fail doesn't keep the process busy", async () => {
  using peer = new VhostPeer();
  await peer.begin();
  await peer.ring(0);
  await peer.ring(1);
  // A socket whose other end is closed is ready for ever.
  const path = Deno.makeTempFileSync({ prefix: "tapioca_kick_" });
  Deno.removeSync(path);
  const listener = UnixListener.listen(path);
  const dead = UnixSocket.connect(path);
  const other = listener.accept();
  assert(other instanceof UnixSocket);
  other.close();
  listener.close();
  assertEquals(await peer.ask(p.SET_VRING_KICK, p.words(1n), [dead.fd]), 0n);
  dead.close();
  await settle();
  const { kicks } = peer.device.statistics();
  await settle();
  assertEquals([peer.device.statistics().kicks - kicks, peer.device.running], [0, true]);
  assert(kicks <= 1);
});

Deno.test("vhost-user: messages at random never throw, and leave nothing open", async () => {
  const reasons = new Set<string>();
  const before = openDescriptors();
  let survived = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const random = numbers(seed);
    using peer = new VhostPeer();
    await peer.begin();
    await peer.ring(0);
    await peer.ring(1);
    for (let i = 0; i < 30 && peer.device.connected; i++) {
      sendRandom(peer, random);
      if (random(3) === 0) ring(peer.events[random(2)].fd);
      if (random(3) > 0) continue;
      await settle();
      peer.device.receive(SINK, 5);
      peer.device.arm();
    }
    await settle();
    if (peer.device.connected) survived++;
    else if (peer.device.fault !== null) reasons.add(peer.device.fault.replace(/0x[0-9a-f]+|\d+/g, "N"));
    assertEquals(peer.device.running && !peer.device.connected, false);
  }
  await settle();
  assert(openDescriptors() <= before + 4, `${openDescriptors() - before} descriptors are left`);
  assert(reasons.size >= 8, [...reasons].join("\n"));
  assert(survived < 60);
});

const REQUESTS = [1, 2, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 34, 36, 37, 38, 39, 40, 77];

/** Something that might be a message. */
function sendRandom(peer: VhostPeer, random: (n: number) => number): void {
  const request = REQUESTS[random(REQUESTS.length)];
  const word = () =>
    [0n, 1n, 8n, 0x100n, BigInt(GUEST), BigInt(USER), BigInt(USER + ringAt(1)), BigInt(MEMORY), 2n ** 53n, 2n ** 64n - 1n][
      random(10)
    ];
  let payload = p.words(...Array.from({ length: random(6) }, word));
  if (request >= p.SET_VRING_NUM && request <= p.GET_VRING_BASE && random(2) === 0) payload = p.vringState(random(3), random(20));
  if (request === p.SET_VRING_ENABLE) payload = p.vringState(random(3), random(2));
  const fds = Array.from({ length: random(3) }, () => [peer.memory.fd, peer.events[random(6)].fd][random(2)]);
  peer.send(request, payload, fds, random(30) === 0 ? random(16) : 1 | (random(2) * 8));
}

Deno.test("vhost-user: a second front end has agreed on nothing that the first one has", async () => {
  using peer = new VhostPeer();
  await peer.begin();
  assertEquals(peer.device.agreedFeatures, ["VHOST_PROTOCOL", "VERSION_1"]);
  peer.socket.close();
  await settle();
  assertEquals(peer.device.connected, false);
  const next = UnixSocket.connect(peer.path);
  await settle();
  assertEquals([peer.device.connected, peer.device.agreedFeatures], [true, []]);
  next.close();
});
