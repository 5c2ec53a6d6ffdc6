/** The service as a user gets it: a process of its own, its data in a folder of its own, signals and all. */

import { type ChildProcess, spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./until.ts";

const program = fileURLToPath(new URL("../../bin/session-service.cjs", import.meta.url));

/** How a process ended: its code, or the signal that ended it. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ServiceProcess extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
  /** Of the embedded database, with its password; undefined when the settings name one. */
  readonly databaseUrl: string | undefined;
  /** From the process's start to the line that says that it is ready. */
  readonly startMs: number;
  stdout(): string;
  stderr(): string;
  kill(signal: NodeJS.Signals): void;
  /** Settles when the process has ended. */
  readonly exited: Promise<Exit>;
  readonly hasExited: () => boolean;
  /** Ends it by SIGINT, and the hard way if need be. */
  stop(): Promise<Exit>;
}

/** A folder for a service's data, which another user may enter: PostgreSQL does not run as root. */
export interface DataFolder extends Disposable {
  readonly path: string;
  /** The processes that work in the folder or were told of it: the embedded database's. */
  processes(): FolderProcess[];
}

export interface FolderProcess {
  readonly pid: number;
  readonly command: string;
}

/** Makes a folder, and removes it when it is disposed of. Whatever still works in it is killed then. */
export function dataFolder(): DataFolder {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "session-process-")));
  chmodSync(path, 0o755);
  return {
    path,
    processes: () => processesOf(path),
    [Symbol.dispose]() {
      for (const { pid } of processesOf(path)) signalIfThere(pid, "SIGKILL");
      rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    },
  };
}

/** The processes whose working folder lies in the folder, or whose command names it; dead ones don't count. */
export function processesOf(folder: string): FolderProcess[] {
  if (!existsSync("/proc/self/cwd")) throw new Error("processes can only be listed on Linux");
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      try {
        const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ").trim();
        const works = `${readlinkSync(`/proc/${name}/cwd`)}/`.startsWith(`${folder}/`);
        return works || command.includes(`${folder}/`) ? [{ pid: Number(name), command }] : [];
      } catch {
        return [];
      }
    });
}

/**
 * A free port that stays free: it lies below those that systems give to outgoing connections (from 32768 on), one of
 * which could else be using it by the time that somebody listens there again.
 */
export async function quietPort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 20_000);
    const isFree = await new Promise<boolean>((resolve) => {
      const probe = createServer();
      probe.once("error", () => resolve(false));
      probe.listen({ port, host: "127.0.0.1", exclusive: true }, () => probe.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}

/** Sends a signal to a process that may be gone already. */
export function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {}
}

export interface ProcessOptions {
  /** Environment variables; the port is any free one unless one is given. */
  readonly settings: Readonly<Record<string, string>>;
  readonly readyWithinMs?: number;
}

/**
 * Starts `session-service serve`, and gives it once it is ready.
 *
 * @throws when it ends before that, or is not ready in time: with what it wrote
 */
export async function startServiceProcess({
  settings,
  readyWithinMs = 60_000,
}: ProcessOptions): Promise<ServiceProcess> {
  const began = performance.now();
  const child = spawn(process.execPath, [program, "serve"], {
    env: { ...inherited(), PORT: "0", REDIS_PORT: "0", LOG_LEVEL: "warn", ...settings },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stdout = collect(child, "stdout");
  const stderr = collect(child, "stderr");
  const exited = new Promise<Exit>((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
  const hasExited = () => child.exitCode !== null || child.signalCode !== null;
  const killAtExit = () => child.kill("SIGKILL");
  process.once("exit", killAtExit);
  child.once("exit", () => process.off("exit", killAtExit));

  const isReady = () => bannerLine(stdout(), "Events") !== undefined;
  await until(() => isReady() || hasExited(), "the service to be ready", { withinMs: readyWithinMs, everyMs: 2 }).catch(
    () => {},
  );
  const startMs = performance.now() - began;
  const url = bannerLine(stdout(), "Session service");
  if (!isReady() || url === undefined || child.pid === undefined) {
    child.kill("SIGKILL");
    throw new Error(`the service did not become ready:\n${stdout()}\n${stderr()}`);
  }
  const stop = async () => {
    if (!hasExited()) child.kill("SIGINT");
    const impatience = setTimeout(() => child.kill("SIGKILL"), 20_000);
    const exit = await exited;
    clearTimeout(impatience);
    return exit;
  };
  return {
    url,
    pid: child.pid,
    databaseUrl: /^Database +psql (\S+)$/m.exec(stdout())?.[1],
    startMs,
    stdout,
    stderr,
    kill: (signal) => void child.kill(signal),
    exited,
    hasExited,
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
    },
  };
}

/** The service's settings are the test's to choose: none of the surrounding environment's. */
function inherited(): NodeJS.ProcessEnv {
  const passed = /^(PATH|HOME|TMPDIR|USER|LANG|LC_.*|NODE_V8_COVERAGE)$/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => passed.test(name)));
}

function bannerLine(output: string, name: string): string | undefined {
  return new RegExp(`^${name} +(\\S.*)\\n`, "m").exec(output)?.[1];
}

const keptCharacters = 200_000;

function collect(child: ChildProcess, stream: "stdout" | "stderr"): () => string {
  let text = "";
  child[stream]?.setEncoding("utf8").on("data", (chunk: string) => {
    text = (text + chunk).slice(-keptCharacters);
  });
  return () => text;
}
