/**
 * Starts `deno …` in a fresh network namespace: brings the loopback device up first, since tests use 127.0.0.1 as well.
 *
 * @module
 */
import { setLoopbackUp } from "./loopback.ts";

setLoopbackUp();
const child = new Deno.Command(Deno.execPath(), { args: Deno.args }).spawn();
// Whoever ends this means the tests, and whoever asks (SIGINT) wants to hear which one is running.
for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => child.kill(signal));
Deno.exit((await child.status).code);
