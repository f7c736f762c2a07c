/** A thread that talks to the kernel's sockets while the main thread of a test does nothing: connects, and sends so many bytes. */
interface Scope {
  onmessage: ((event: MessageEvent<{ hostname: string; port: number; bytes: number }>) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
}

const scope = globalThis as unknown as Scope;
scope.onmessage = async ({ data: { hostname, port, bytes } }) => {
  using conn = await Deno.connect({ hostname, port });
  scope.postMessage("connected");
  const chunk = new Uint8Array(65_536).fill(7);
  for (let at = 0; at < bytes;) at += await conn.write(chunk.subarray(0, Math.min(chunk.length, bytes - at)));
  await conn.closeWrite();
  while (await conn.read(chunk) !== null);
  scope.postMessage("done");
  scope.close();
};
