/**
 * A capture that a failing test leaves behind, and a passing one doesn't.
 *
 * @module
 */

/** Runs `body` with the path of a capture file to be written; keeps the file, and says where it is, only if `body` fails. */
export async function withCapture(name: string, body: (path: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "tapioca_capture_" });
  const path = `${folder}/${name.replace(/[^a-z0-9]+/gi, "_")}.pcap`;
  try {
    await body(path);
  } catch (error) {
    console.error(`A capture of the failed test "${name}" is at ${path}`);
    throw error;
  }
  Deno.removeSync(folder, { recursive: true });
}
