import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { FromWorker, ToWorker, WorkerInput } from "./valkey-worker.ts";

export interface EmbeddedValkeyOptions {
  /** The preferred port; 0 for any free one. */
  port: number;
  /** Called once if the engine dies unasked. By then all connections are closed. */
  onFatal?: (message: string) => void;
}

export interface EmbeddedValkey {
  url: string;
  port: number;
  version: string;
  /** Closes all connections and ends the engine; resolves when its thread is gone. May be called more than once. */
  stop(): Promise<void>;
}

const ADVICE = "Set REDIS_URL to use a Redis or Valkey server of your own instead.";
const START_MS = 30_000;
/** An engine that is busy, in a Lua script without end perhaps, hears no message, and is ended without asking. */
const STOP_MS = 500;

/**
 * Starts a broker that Redis clients can use: the real Valkey engine, compiled to WebAssembly, on a thread of its own.
 * Listens on 127.0.0.1:<port> if free, else on a free port; on no other interface, without a password.
 *
 * It keeps nothing on disk. Subscriptions, streams and keys are in memory, and are gone when it stops.
 */
export async function startEmbeddedValkey(options: EmbeddedValkeyOptions): Promise<EmbeddedValkey> {
  const worker = startWorker({ port: options.port });
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  const { port, version } = await untilReady(worker);

  let stopped: Promise<void> | undefined;
  watch(worker, (reason) => {
    if (stopped !== undefined) return;
    const message = `The embedded Valkey ended unexpectedly: ${reason}\n${ADVICE}`;
    if (options.onFatal) options.onFatal(message);
    else process.emitWarning(message);
  });
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    version,
    stop: () => {
      stopped ??= endWorker(worker, exited);
      return stopped;
    },
  };
}

/** The worker is built to the same extension as this file: .js in dist, .ts where tsx or vitest run the sources. */
function startWorker(input: WorkerInput): Worker {
  const extension = extname(new URL(import.meta.url).pathname);
  const file = new URL(`./valkey-worker${extension}`, import.meta.url);
  const options = { name: "embedded-valkey", workerData: input, execArgv: [] };
  if (extension !== ".ts") return new Worker(file, options);

  // "--import tsx" would leave threads other than the main one alone, so its hooks are registered by hand
  const hooks = JSON.stringify({ parentURL: import.meta.url, data: {} });
  const source = `require("node:module").register("tsx/esm", ${hooks}); import(${JSON.stringify(file.href)})`;
  return new Worker(source, { ...options, eval: true });
}

async function untilReady(worker: Worker): Promise<{ port: number; version: string }> {
  let deadline: NodeJS.Timeout | undefined;
  try {
    return await new Promise((resolve, reject) => {
      const fail = (reason: string) => reject(new Error(`The embedded Valkey could not start: ${reason}\n${ADVICE}`));
      deadline = setTimeout(() => fail(`it was not ready after ${START_MS / 1000} s`), START_MS);
      worker.on("message", (message: FromWorker) => {
        if (message.kind === "ready") resolve(message);
      });
      watch(worker, fail);
    });
  } catch (error) {
    await worker.terminate();
    throw error;
  } finally {
    clearTimeout(deadline);
  }
}

/** Calls back once, when the worker is dead or about to be, with the most telling of the reasons given. */
function watch(worker: Worker, onDeath: (reason: string) => void): void {
  let reason: string | undefined;
  worker.on("message", (message: FromWorker) => {
    if (message.kind !== "ready") reason ??= message.reason;
  });
  // without a listener, an exception in the worker would be one in this thread, and end the process
  worker.on("error", (error: Error) => {
    reason ??= error.message;
  });
  worker.once("exit", (code) => onDeath(reason ?? `its thread ended with code ${code}`));
}

async function endWorker(worker: Worker, exited: Promise<void>): Promise<void> {
  const impatience = setTimeout(() => void worker.terminate(), STOP_MS);
  worker.postMessage("stop" satisfies ToWorker);
  await exited;
  clearTimeout(impatience);
}
