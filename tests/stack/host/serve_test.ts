// HTTP and Node programs over a stack.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Agent, get, request as nodeRequest } from "node:http";
import type { IncomingMessage, RequestOptions } from "node:http";
import {
  cable,
  httpAgent,
  NetStack,
  nodeSocket,
  serve,
  type ServeHandler,
  type ServeOptions,
  type StackHttpServer,
} from "../../../mod.ts";
import { pair, readAll, writeAll } from "./worlds.ts";

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

async function bodyOf(message: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of message) chunks.push(chunk);
  return await new Blob(chunks as Uint8Array<ArrayBuffer>[]).text();
}

function ask(agent: Agent, options: RequestOptions, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asking = nodeRequest({ host: "10.0.0.1", agent, ...options }, (message) => {
      bodyOf(message).then((text) => resolve({ status: message.statusCode!, headers: message.headers, body: text }), reject);
    });
    asking.on("error", reject);
    asking.end(body);
  });
}

interface Served extends AsyncDisposable {
  client: NetStack;
  server: StackHttpServer;
  agent: Agent;
}

function served(handler: ServeHandler, options?: ServeOptions): Served {
  const all = pair();
  const server = serve(all.server.listen({ port: 80 }), handler, options);
  const agent = httpAgent(all.client, { keepAlive: true, maxSockets: 1 });
  return {
    client: all.client,
    server,
    agent,
    async [Symbol.asyncDispose]() {
      agent.destroy();
      await server.shutdown();
      all[Symbol.dispose]();
    },
  };
}

Deno.test("http: requests and answers, bodies both ways, over one kept connection", async () => {
  await using site = served(async (request, info) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/echo") return new Response(await request.text(), { headers: { "x-method": request.method } });
    if (pathname === "/empty") return new Response(null, { status: 204 });
    const headers = new Headers({ "content-type": "text/plain" });
    headers.append("set-cookie", "a=1");
    headers.append("set-cookie", "b=2");
    return new Response(`hello ${info.remoteAddr.hostname}`, { headers });
  });
  const hello = await ask(site.agent, { path: "/" });
  assertEquals([hello.status, hello.body, hello.headers["content-length"]], [200, "hello 10.0.0.2", "14"]);
  assertEquals(hello.headers["set-cookie"], ["a=1", "b=2"]);
  const text = "x".repeat(300_000);
  const echo = await ask(site.agent, { path: "/echo", method: "POST" }, text);
  assertEquals([echo.body.length, echo.headers["x-method"]], [text.length, "POST"]);
  const empty = await ask(site.agent, { path: "/empty" });
  assertEquals([empty.status, empty.body], [204, ""]);
  const head = await ask(site.agent, { path: "/", method: "HEAD" });
  assertEquals([head.status, head.body], [200, ""]);
  assertEquals(site.client.statistics.tcp.activeOpens, 1, "all over one connection");
});

Deno.test("http: a body that is streamed, and one that the client leaves", async () => {
  let cancelled: (() => void) | undefined;
  const left = new Promise<void>((resolve) => cancelled = resolve);
  await using site = served((request) => {
    const endless = request.url.endsWith("/endless");
    let count = 0;
    return new Response(
      new ReadableStream({
        pull(controller) {
          if (!endless && count++ === 20) controller.close();
          else controller.enqueue(new Uint8Array(50_000));
        },
        cancel: () => cancelled!(),
      }),
    );
  });
  const all = await ask(site.agent, { path: "/stream" });
  assertEquals(all.body.length, 1_000_000);
  await new Promise<void>((resolve) => {
    const asking = get({ host: "10.0.0.1", path: "/endless", agent: site.agent }, (message) => {
      message.once("data", () => {
        message.destroy();
        resolve();
      });
    });
    asking.on("error", () => {});
  });
  await left;
});

Deno.test("http: a handler that fails is a 500, or what onError says; rubbish is a 400", async () => {
  {
    await using site = served(() => Promise.reject(new Error("no")));
    assertEquals((await ask(site.agent, { path: "/" })).status, 500);
    const conn = await site.client.connect({ hostname: "10.0.0.1", port: 80 });
    await writeAll(conn, new TextEncoder().encode("rubbish\r\n\r\n"));
    const text = new TextDecoder().decode(await readAll(conn));
    assert(text.startsWith("HTTP/1.1 400"), text);
    conn.close();
  }
  await using site = served(() => ({}) as Response, { onError: (error) => new Response(String(error), { status: 503 }) });
  assertEquals(await ask(site.agent, { path: "/" }).then(({ status }) => status), 503);
});

Deno.test("http: a body that fails in the middle cuts the connection, and the server goes on", async () => {
  let bad = true;
  await using site = served(() => {
    if (!bad) return new Response("fine");
    bad = false;
    let count = 0;
    return new Response(
      new ReadableStream({
        pull(controller) {
          if (count++ < 3) controller.enqueue(new Uint8Array(10));
          else controller.error(new Error("disk"));
        },
      }),
    );
  });
  const failed = await ask(site.agent, { path: "/" }).catch((error) => error);
  assert(failed instanceof Error);
  assertEquals((await ask(site.agent, { path: "/" })).body, "fine");
});

/** Asks and reads the head of the answer; the body is let go only then. */
async function headThenBody(conn: Deno.TcpConn, letGo: () => void): Promise<string[]> {
  await writeAll(conn, new TextEncoder().encode("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
  const buffer = new Uint8Array(4096);
  let head = "";
  while (!head.includes("\r\n\r\n")) head += new TextDecoder().decode(buffer.subarray(0, await conn.read(buffer) ?? 0));
  letGo();
  const body = new TextDecoder().decode(await readAll(conn));
  conn.close();
  return [head.split("\r\n")[0], /transfer-encoding: chunked/i.exec(head)?.[0].toLowerCase() ?? "", body];
}

Deno.test("http: the head doesn't wait for a body that takes its time, as with Deno.serve", async () => {
  let gate = Promise.withResolvers<string>();
  const handler = () => {
    const text = gate.promise;
    return new Response(
      new ReadableStream({
        async pull(controller) {
          const bytes = new TextEncoder().encode(await text);
          if (bytes.length > 0) controller.enqueue(bytes);
          controller.close();
        },
      }),
    );
  };
  await using site = served(handler);
  await using kernel = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, handler);
  const connects = [
    () => site.client.connect({ hostname: "10.0.0.1", port: 80 }),
    () => Deno.connect({ hostname: "127.0.0.1", port: kernel.addr.port }),
  ];
  for (const [text, body] of [["late", "4\r\nlate\r\n0\r\n\r\n"], ["", "0\r\n\r\n"]]) {
    for (const connect of connects) {
      gate = Promise.withResolvers<string>();
      const got = await headThenBody(await connect(), () => gate.resolve(text));
      assertEquals(got, ["HTTP/1.1 200 OK", "transfer-encoding: chunked", body]);
    }
  }
});

Deno.test("http: a body of one chunk tells its length, and one of texts is cut", async () => {
  await using site = served((request) => {
    if (!request.url.endsWith("/texts")) return new Response("hello");
    return new Response(ReadableStream.from(["a", "b"]) as unknown as ReadableStream<Uint8Array<ArrayBuffer>>);
  });
  assertEquals((await ask(site.agent, { path: "/" })).headers["content-length"], "5");
  assert(await ask(site.agent, { path: "/texts" }).catch((error) => error) instanceof Error);
});

Deno.test("http: an onError that gives no response is a 500, and one that is no function a TypeError at once", async () => {
  const wrong = [() => "text", () => undefined, () => Promise.reject(new Error("again")), () => {
    const used = new Response("used");
    void used.text();
    return used;
  }];
  for (const onError of wrong as unknown as ServeOptions["onError"][]) {
    await using site = served(() => Promise.reject(new Error("no")), { onError });
    const { status, body } = await ask(site.agent, { path: "/" });
    assertEquals([status, body], [500, "Internal Server Error\n"]);
  }
  using all = pair();
  using listener = all.server.listen({ port: 80 });
  assertThrows(() => serve(listener, () => new Response(), { onError: 5 as never }), TypeError, "onError must be a function");
});

Deno.test("http: shutdown lets a request that runs finish; an aborted signal shuts down", async () => {
  const abort = new AbortController();
  let go: (() => void) | undefined;
  const gate = new Promise<void>((resolve) => go = resolve);
  await using site = served(async () => {
    await gate;
    return new Response("late");
  }, { signal: abort.signal });
  const asking = ask(site.agent, { path: "/" });
  while (site.client.statistics.tcp.connections === 0 || site.client.connections()[0].bytesAcked === 0) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  abort.abort();
  go!();
  assertEquals((await asking).body, "late");
  await site.server.finished;
});

Deno.test("node: a stream with the members of net.Socket", async () => {
  using all = pair();
  using listener = all.server.listen({ port: 7 });
  const [conn, client] = await Promise.all([listener.accept(), all.client.connect({ hostname: "10.0.0.1", port: 7 })]);
  const echo = conn.readable.pipeTo(conn.writable);
  const socket = nodeSocket(client);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 1000);
  socket.setTimeout(60_000);
  socket.ref();
  socket.unref();
  assertEquals(socket.address(), { address: "10.0.0.2", family: "IPv4", port: client.localAddr.port });
  assertEquals([socket.remoteAddress, socket.remotePort], ["10.0.0.1", 7]);
  socket.end("hello");
  const chunks: Uint8Array[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  assertEquals(await new Blob(chunks as Uint8Array<ArrayBuffer>[]).text(), "hello");
  assertEquals([socket.bytesRead, socket.bytesWritten], [5, 5]);
  await echo;
});

Deno.test("http: the server ends with an error when its device vanishes", async () => {
  const [left] = cable();
  const stack = new NetStack(left, { address: "10.0.0.1/24" });
  const server = serve(stack.listen({ port: 80 }), () => new Response("x"));
  left.remove();
  const error = await server.finished.catch((error) => error);
  assertEquals(error.code, "ENODEV");
});
