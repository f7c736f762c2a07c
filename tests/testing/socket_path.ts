/** Where another program and ours meet. */

/** A path for a socket; what is there is gone when this process is. */
export function socketPath(): string {
  const path = Deno.makeTempFileSync({ prefix: "tapioca_", suffix: ".sock" });
  Deno.removeSync(path);
  // A program that is killed leaves its socket.
  addEventListener("unload", () => {
    try {
      Deno.removeSync(path);
    } catch { /* it has cleaned up after itself */ }
  });
  return path;
}
