/**
 * What the supervisor and its thread say to each other.
 *
 * @module
 */

/** To the thread. */
export type ToThread =
  | {
    readonly type: "start";
    readonly program: string;
    readonly options: Deno.CommandOptions;
    readonly names: string[];
    /** Whether opened files are looked at. */
    readonly opens: boolean;
    readonly pulse: SharedArrayBuffer;
    readonly timeoutMs: number;
    /** Descriptor of a network namespace to start in. */
    readonly namespace: number | null;
  }
  | { readonly type: "names"; readonly names: string[] };

/** From the thread. */
export type FromThread =
  | { readonly type: "listening"; readonly fd: number }
  | {
    readonly type: "started";
    readonly pid: number;
    readonly stdin: WritableStream<Uint8Array<ArrayBuffer>> | null;
    readonly stdout: ReadableStream<Uint8Array<ArrayBuffer>> | null;
    readonly stderr: ReadableStream<Uint8Array<ArrayBuffer>> | null;
  }
  | { readonly type: "status"; readonly status: Deno.CommandStatus }
  | { readonly type: "failed"; readonly name: string; readonly message: string; readonly code: string | undefined };
