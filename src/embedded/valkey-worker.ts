import { connect, createServer, type Server } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import { ValkeyBridge } from "./valkey-bridge.ts";
import { bootEngine } from "./valkey-engine.ts";

/** What the worker tells the thread that started it. */
export type FromWorker = { kind: "ready"; port: number; version: string } | { kind: "failed"; reason: string };

/** What that thread may tell the worker. */
export type ToWorker = "stop";

export interface WorkerInput {
  port: number;
}

const HOST = "127.0.0.1";
/** A closed port refuses at once on loopback; only Windows takes its time, and is not waited for. */
const PROBE_MS = 250;
const FIRST_ANSWER_MS = 10_000;
/**
 * The engine answers strings of 16 KB and more from where they lie, and does not count them as the client's output:
 * a subscriber that never reads could then hold any number of large messages. Copied they count, as in Redis.
 */
const COUNT_ALL_OUTPUT = "CONFIG SET min-string-size-avoid-copy-reply 0";

async function main(input: WorkerInput): Promise<void> {
  const bridge = new ValkeyBridge((error) => {
    tell({ kind: "failed", reason: describe(error) });
    shutDown();
  });
  // a client may ask, send its FIN, and wait for the answer
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => bridge.connect(socket));
  // a connection that can't be accepted, for want of descriptors perhaps, is no reason to end the others
  server.on("error", () => {});
  const shutDown = () => {
    server.close();
    bridge.close();
    parentPort?.close();
  };
  parentPort?.on("message", (message: ToWorker) => {
    if (message === "stop") shutDown();
  });

  try {
    const port = await listen(server, input.port);
    bridge.run(await bootEngine(bridge.host, port));
    tell({ kind: "ready", port, version: await greet(port) });
  } catch (error) {
    tell({ kind: "failed", reason: describe(error) });
    shutDown();
  }
}

function tell(message: FromWorker): void {
  parentPort?.postMessage(message);
}

/** Listens before the engine is there, so that a port in use shows at once; early clients wait in the bridge. */
async function listen(server: Server, preferred: number): Promise<number> {
  if (preferred !== 0 && !(await somebodyAnswers(preferred))) {
    try {
      return await bind(server, preferred);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "EADDRINUSE" && code !== "EACCES") throw error;
    }
  }
  return bind(server, 0);
}

/**
 * Elsewhere than on Linux 127.0.0.1:6379 can be bound although another server listens on 0.0.0.0:6379, and would
 * take that server's clients away from it.
 */
function somebodyAnswers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: HOST, timeout: PROBE_MS });
    const answer = (answers: boolean) => () => {
      socket.destroy();
      resolve(answers);
    };
    socket.on("connect", answer(true));
    socket.on("error", answer(false));
    socket.on("timeout", answer(false));
  });
}

function bind(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, HOST, () => {
      server.off("error", reject);
      const address = server.address();
      if (address === null || typeof address === "string") reject(new Error("the broker's socket has no port"));
      else resolve(address.port);
    });
  });
}

/** Talks to the engine as any client would, which also proves that sockets, bridge and engine work together. */
function greet(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect({ port, host: HOST, timeout: FIRST_ANSWER_MS });
    const fail = () => {
      socket.destroy();
      reject(new Error(`the engine did not answer as expected: ${answer || "not at all"}`));
    };
    socket.setEncoding("utf8");
    socket.on("connect", () => socket.write(`${COUNT_ALL_OUTPUT}\r\nINFO server\r\n`));
    socket.on("data", (chunk) => {
      answer += chunk;
      const version = /^\+OK\r\n.*\r\nvalkey_version:(\S+)\r\n/s.exec(answer)?.[1];
      if (version === undefined) return;
      socket.destroy();
      resolve(version);
    });
    socket.on("timeout", fail);
    socket.on("end", fail);
    socket.on("error", reject);
  });
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

await main(workerData as WorkerInput);
