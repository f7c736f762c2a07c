import { assert, assertEquals } from "@std/assert";
import { HEADER_LENGTH } from "../../../stack/wire/tcp.ts";
import { TcpPair } from "../../testing/tcp_pair.ts";

Deno.test("a path that swallows large packets in silence is found out, and its size as well", () => {
  //= rfc4821#7.7 type=test
  // Full stop timeout: it is likely that the path has a black hole; the eff_pmtu is reduced and the search begins again
  //= rfc4821#7.3 type=test
  // If the probe is lost, the probe size becomes search_high; the loss of the probe is not an indication of congestion
  for (const limit of [600, 1280, 1400]) {
    const pair = new TcpPair({ delayMs: 10 });
    const [client, server] = pair.connected();
    pair.link.filter = (_from, bytes) => bytes.length + HEADER_LENGTH <= limit;
    const bytes = new Uint8Array(5_000_000).map((_, i) => (i * 7) & 255);
    const got = new Uint8Array(bytes.length);
    let sent = 0, received = 0;
    const done = pair.run(600_000, () => {
      sent += Math.max(0, client.send(bytes, sent, bytes.length - sent));
      received += Math.max(0, server.receive(got, received, got.length - received));
      pair.flush();
      return received === bytes.length;
    });
    assert(done, JSON.stringify(client.info()));
    assertEquals(got, bytes);
    const fits = limit - HEADER_LENGTH - 32;
    assert(client.sendMss <= fits, `${client.sendMss} of ${fits}`);
    assert(client.sendMss > 0.95 * fits, `${client.sendMss} of ${fits}`);
    const steps = limit < 1000 ? 2 : 1; // 1024 bytes first, 512 then
    assert(client.timeouts <= 4 * steps, `${client.timeouts} timeouts`);
    assertEquals(pair.tcps[0].statistics.blackHoles, steps);
  }
});

Deno.test("the user timeout option makes both ends wait as long as the one that waits longer", () => {
  //= rfc5482#3.1 type=test
  // USER_TIMEOUT = min(U_LIMIT, max(ADV_UTO, REMOTE_UTO, L_LIMIT))
  const pair = new TcpPair({}, 1, [
    { defaults: { userTimeoutOption: true, userTimeoutMs: 200_000 } },
    { defaults: { userTimeoutOption: true, userTimeoutMs: 500_000 } },
  ]);
  const [client, server] = pair.connected();
  assertEquals([client.userTimeoutMs, server.userTimeoutMs], [500_000, 500_000]);
  const deaf = new TcpPair({}, 1, [{ defaults: { userTimeoutOption: true, userTimeoutMs: 200_000 } }]);
  assertEquals(deaf.connected().map((tcb) => tcb.userTimeoutMs), [200_000, 0]);
});
