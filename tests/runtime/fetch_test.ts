/** `fetch`, `WebSocket` and HTTP clients over a stack, and the proxy that carries them. */
import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { once } from "node:events";
import https from "node:https";
import { type AddressInfo, createServer } from "node:net";
import { createHash } from "node:crypto";
import { serve, useStack } from "../../mod.ts";
import { CA, CERT, KEY } from "./certificate.ts";
import { hooked, nameServer } from "./worlds.ts";

Deno.test("fetch goes over the stack: names, bodies, options, requests, many at once", async () => {
  await using world = hooked({}, { nameservers: ["10.0.0.1"] });
  void nameServer(world.peer, "10.0.0.1").catch(() => {});
  const seen = new Set<string>();
  await using _site = serve(world.peer.listen({ port: 80 }), async (request, { remoteAddr }) => {
    seen.add(remoteAddr.hostname);
    return new Response(`${request.method} ${new URL(request.url).pathname} ${await request.text()}`);
  });
  assertEquals(await (await fetch("http://10.0.0.1/a")).text(), "GET /a ");
  const posted = await fetch(new URL("http://site.test/b"), { method: "POST", body: "body" });
  assertEquals(await posted.text(), "POST /b body");
  const request = new Request("http://site.test/c", { method: "PUT", body: "put" });
  assertEquals(await (await fetch(request)).text(), "PUT /c put");
  // A Request as options is allowed, too.
  const options = new Request("http://10.0.0.1/", { method: "DELETE" });
  assertEquals(await (await fetch("http://10.0.0.1/d", options)).text(), "DELETE /d ");
  const many = await Promise.all(Array.from({ length: 20 }, async (_, i) => (await fetch(`http://10.0.0.1/${i}`)).text()));
  assertEquals(many, Array.from({ length: 20 }, (_, i) => `GET /${i} `));
  assertEquals(await (await fetch("data:text/plain,here")).text(), "here");
  assertEquals([...seen], ["10.0.0.2"]);
  assert(world.hook.statistics.proxied > 0);
});

Deno.test("fetch: nothing falls back to the host; an abort is an abort", async () => {
  await using world = hooked();
  await assertRejects(() => fetch("http://10.0.0.1/"), TypeError);
  await assertRejects(() => fetch("http://192.0.2.1/"), TypeError);
  await assertRejects(() => fetch("http://site.test/"), TypeError);
  await assertRejects(() => fetch("http://[2001:db8::1]/"), TypeError);
  assertEquals(world.hook.statistics, { connects: 0, listens: 0, host: 0, proxied: 0, proxyRefused: 0 });
  using there = world.peer.listen({ port: 80 });
  const abort = new AbortController();
  const fetching = fetch("http://10.0.0.1/", { signal: abort.signal });
  const conn = await there.accept();
  await conn.read(new Uint8Array(1000));
  abort.abort();
  assertEquals((await assertRejects(() => fetching) as Error).name, "AbortError");
  assertEquals(await conn.read(new Uint8Array(1000)).catch(() => null), null);
  conn.close();
});

Deno.test("fetch: a server that resets in the middle is an error, and holds nothing", async () => {
  await using world = hooked();
  using there = world.peer.listen({ port: 80 });
  const fetching = fetch("http://10.0.0.1/");
  const conn = await there.accept();
  await conn.read(new Uint8Array(1000));
  await conn.write(new TextEncoder().encode("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegin"));
  const response = await fetching;
  conn.abort();
  await assertRejects(() => response.text());
});

Deno.test("fetch: a body without a length that a reset cuts off is an error, and one that ends is whole", async () => {
  await using world = hooked();
  using there = world.peer.listen({ port: 80 });
  for (const whole of [true, false, true]) {
    const fetching = fetch("http://10.0.0.1/");
    const conn = await there.accept();
    await conn.read(new Uint8Array(1000));
    await conn.write(new TextEncoder().encode("HTTP/1.0 200 OK\r\n\r\nhalf of the"));
    const response = await fetching;
    if (whole) conn.close();
    else conn.abort();
    if (whole) assertEquals(await response.text(), "half of the");
    else await assertRejects(() => response.text(), Error, "error reading a body");
  }
});

Deno.test("fetch: a host's server that resets does so through the proxy, too", async () => {
  await using _world = hooked();
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write("HTTP/1.0 200 OK\r\n\r\nhalf of the");
      setTimeout(() => socket.resetAndDestroy(), 50);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  await assertRejects(() => response.text(), Error, "error reading a body");
  server.close();
  await once(server, "close");
});

Deno.test("fetch: loop-back is the host's; a redirect is asked about like a request", async () => {
  await using world = hooked();
  await using host = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    return request.url.endsWith("/away") ? Response.redirect("http://10.0.0.1/") : new Response("host");
  });
  await using _site = serve(world.peer.listen({ port: 80 }), () => new Response("stack"));
  const url = `http://127.0.0.1:${host.addr.port}`;
  assertEquals(await (await fetch(url)).text(), "host");
  assertEquals(await (await fetch(url.replace("127.0.0.1", "localhost"))).text(), "host");
  assertEquals(await (await fetch(`${url}/away`)).text(), "stack");
  assertEquals(world.hook.statistics.proxied, 1);
});

Deno.test("Deno.createHttpClient and https", async () => {
  await using world = hooked();
  world.hook.undo();
  const server = https.createServer({ cert: CERT, key: KEY }, (_request, response) => response.end("secret"));
  {
    using _there = useStack(world.peer);
    server.listen(443);
    await once(server, "listening");
  }
  world.hook = useStack(world.mine);
  {
    using client = Deno.createHttpClient({ caCerts: [CA] });
    assertEquals(await (await fetch("https://10.0.0.1/", { client })).text(), "secret");
    await assertRejects(() => fetch("https://10.0.0.1/"), TypeError);
  }
  await new Promise((resolve) => server.close(resolve));
});

Deno.test("a client of Deno.createHttpClient goes on when the hook is undone, and the proxy until it is closed", async () => {
  using recorder = recordProxy();
  await using world = hooked();
  await using _site = serve(world.peer.listen({ port: 80 }), () => new Response("stack", { headers: { connection: "close" } }));
  const port = recorder.port();
  const clients = [Deno.createHttpClient({}), Deno.createHttpClient({})];
  world.hook.undo();
  for (const client of clients) {
    assert(client instanceof Deno.HttpClient);
    for (let i = 0; i < 2; i++) assertEquals(await (await fetch("http://10.0.0.1/", { client })).text(), "stack");
    client.close();
    // As without a hook: once closed, nothing more is to be done.
    client[Symbol.dispose]();
  }
  await assertRejects(() => Deno.connect({ hostname: "127.0.0.1", port }));
});

/** A WebSocket server that echoes one short message, by hand: Deno's own takes only connections of the kernel's. */
async function webSocketOnce(listener: Deno.TcpListener): Promise<void> {
  const conn = await listener.accept();
  const buffer = new Uint8Array(4096);
  const head = new TextDecoder().decode(buffer.subarray(0, await conn.read(buffer) ?? 0));
  const key = /sec-websocket-key: (\S+)/i.exec(head)![1];
  const accept = createHash("sha1").update(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
  const lines = [
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    `Sec-WebSocket-Accept: ${accept}`,
  ];
  if (/sec-websocket-protocol/i.test(head)) lines.push("Sec-WebSocket-Protocol: echo");
  await conn.write(new TextEncoder().encode(lines.join("\r\n") + "\r\n\r\n"));
  for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
    const mask = buffer.slice(2, 6);
    const reply = Uint8Array.of(buffer[0], count - 6, ...buffer.slice(6, count).map((byte, i) => byte ^ mask[i & 3]));
    await conn.write(reply);
    if ((buffer[0] & 15) === 8) break;
  }
  conn.close();
}

Deno.test("WebSocket goes over the stack, and is the class that it was", async () => {
  const Original = WebSocket;
  await using world = hooked();
  using listener = world.peer.listen({ port: 80 });
  for (const protocols of [undefined, "echo", ["echo"]]) {
    const serving = webSocketOnce(listener);
    // What fails here fails below, too.
    serving.catch(() => {});
    const socket = protocols === undefined ? new WebSocket("ws://10.0.0.1/") : new WebSocket("ws://10.0.0.1/", protocols);
    assert(socket instanceof WebSocket && socket instanceof Original);
    assertStrictEquals(WebSocket.OPEN, 1);
    await new Promise((resolve) => socket.onopen = resolve);
    assertEquals(socket.protocol, protocols === undefined ? "" : "echo");
    const message = new Promise((resolve) => socket.onmessage = ({ data }) => resolve(data));
    socket.send("hello");
    assertEquals(await message, "hello");
    const closed = new Promise((resolve) => socket.onclose = resolve);
    socket.close();
    await closed;
    await serving;
  }
  assertEquals(world.hook.statistics.proxied, 3);
});

/** What the hook asks of Deno, from now on: the proxy's port stands there. Other tests of this process have listeners too. */
function recordProxy(): { port(): number } & Disposable {
  const original = Deno.createHttpClient;
  let url = "";
  Deno.createHttpClient = (options) => {
    url = (options.proxy as { url: string } | undefined)?.url ?? url;
    return original(options);
  };
  return {
    port() {
      Deno.createHttpClient({}).close();
      return Number(new URL(url).port);
    },
    [Symbol.dispose]: () => void (Deno.createHttpClient = original),
  };
}

Deno.test({
  name: "the proxy: loop-back only, nobody without the password, not too many, gone with the hook",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    using recorder = recordProxy();
    await using world = hooked({ maxProxied: 2 });
    const port = recorder.port();
    const ask = async (...bytes: number[]): Promise<number[]> => {
      using conn = await Deno.connect({ hostname: "127.0.0.1", port });
      if (bytes.length > 0) await conn.write(Uint8Array.from(bytes));
      const all: number[] = [];
      const buffer = new Uint8Array(64);
      // Closed with bytes that nobody has read, a connection may end in a reset.
      const read = () =>
        conn.read(buffer).catch((error) => error instanceof Deno.errors.ConnectionReset ? null : Promise.reject(error));
      for (let count = await read(); count !== null; count = await read()) all.push(...buffer.slice(0, count));
      return all;
    };
    assertEquals(await ask(5, 1, 0), [5, 0xff], "no way in without a password");
    using _there = world.peer.listen({ port: 80 });
    const connect = [5, 1, 0, 1, 10, 0, 0, 1, 0, 80];
    assertEquals((await ask(5, 1, 2, 1, 1, 65, 1, 66, ...connect)).slice(4), [], "nor with a wrong one");
    assertEquals(await ask(4, 1, 2), [5, 0xff], "nor with another version");
    assertEquals(world.hook.statistics.proxyRefused, 3);
    {
      using _first = await Deno.connect({ hostname: "127.0.0.1", port });
      using _second = await Deno.connect({ hostname: "127.0.0.1", port });
      assertEquals(await ask(), [], "the third is closed at once");
      // The first two still have time to say what they want: only it was turned away.
      assertEquals(world.hook.statistics.proxyRefused, 4);
    }
    world.hook.undo();
    // Which of the two depends on how far the kernel was with the handshake when the listener was closed.
    const error = await assertRejects(() => Deno.connect({ hostname: "127.0.0.1", port }));
    assert(error instanceof Deno.errors.ConnectionRefused || error instanceof Deno.errors.ConnectionReset, String(error));
  },
});

Deno.test("an answer that is being read when the hook is undone goes on", async () => {
  await using world = hooked();
  let more = () => {};
  await using _site = serve(world.peer.listen({ port: 80 }), () => {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(new TextEncoder().encode("first "));
        more = () => {
          controller.enqueue(new TextEncoder().encode("second"));
          controller.close();
        };
      },
    });
    return new Response(body);
  });
  const response = await fetch("http://10.0.0.1/");
  world.hook.undo();
  more();
  assertEquals(await response.text(), "first second");
});
