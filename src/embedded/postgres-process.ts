import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { Socket } from "node:net";
import path from "node:path";
import type { Readable } from "node:stream";
import { explainOutput, type Failure } from "./postgres-error.ts";

/** The user that PostgreSQL's processes run as, when that is not the user of this process. */
export interface Account {
  uid: number;
  gid: number;
}

const ON_WINDOWS = process.platform === "win32";
const KEPT_LINES = 50;
/** After this long an ordinary shutdown becomes an immediate one; the next start then recovers from the log. */
const PATIENCE_MS = 5_000;

/**
 * Runs its arguments and stops them when the other end of descriptor 3 closes, which it does however this process
 * ends, kill -9 included. The command is a child of the shell and is waited for, so its pid can't be another's when it
 * is signalled. Signals to the group are for the command alone; the shell outlives it to report how it ended.
 * The watcher drops its standard error: a reader of ours must see the end when the command is gone. It is waited for
 * too: in a container nobody else does, and one dead entry would stay behind for every command.
 */
const GUARD = `
trap "" INT HUP TERM
exec 4<&0
"$@" <&4 3<&- 4<&- & p=$!
exec 4<&-
(
  read -r line <&3
  kill -INT $p
  n=0
  while [ $n -lt 25 ]; do sleep 0.2; n=$((n + 1)); kill -0 $p || exit; done
  kill -QUIT $p
  sleep 5
  kill -KILL $p
) >/dev/null 2>&1 & w=$!
exec 3<&-
wait $p
code=$?
{ kill -KILL $w; wait $w; } 2>/dev/null
exit $code
`;

/** How a command ended: `error` when it could not be started at all. */
export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
  error?: Error;
}

/** The words of PostgreSQL are matched on, so they must be English; settings of other servers (PG*) must not leak in. */
function childEnvironment(): NodeJS.ProcessEnv {
  const passed = ON_WINDOWS ? /^(?!PG)/i : /^(PATH|HOME|TMPDIR|LD_.*|DYLD_.*|NSS_WRAPPER_.*)$/;
  const kept = Object.entries(process.env).filter(([name]) => passed.test(name));
  return { ...Object.fromEntries(kept), LC_ALL: "C", LANG: "C", TZ: "UTC" };
}

function spawnOptions(account: Account | undefined): SpawnOptions {
  // The working folder of this process may be closed to the account.
  return { ...account, env: childEnvironment(), windowsHide: true, ...(!ON_WINDOWS && { cwd: "/" }) };
}

/**
 * Runs a command to its end and does not care what becomes of it when this process dies.
 * @returns how it ended; never rejects
 */
export function runPlain(file: string, args: readonly string[], account?: Account): Promise<Outcome> {
  return outcomeOf(spawn(file, args, { ...spawnOptions(account), stdio: ["ignore", "pipe", "pipe"] }));
}

/**
 * Runs a command to its end, and stops it when this process dies.
 * @param input what it reads from its standard input
 * @returns how it ended; never rejects
 */
export function runGuarded(file: string, args: readonly string[], account?: Account, input = ""): Promise<Outcome> {
  const options = spawnOptions(account);
  const child = ON_WINDOWS
    ? spawn(file, args, { ...options, stdio: ["pipe", "pipe", "pipe"] })
    : spawn("/bin/sh", ["-c", GUARD, "sh", file, ...args], {
        ...options,
        detached: true,
        stdio: ["pipe", "pipe", "pipe", "pipe"],
      });
  // A command that ends before it has read everything is judged by its exit code.
  child.stdin?.on("error", () => {});
  child.stdin?.end(input);
  child.once("exit", () => releaseLifeline(child));
  return outcomeOf(child);
}

function outcomeOf(child: ChildProcess): Promise<Outcome> {
  return new Promise((resolve) => {
    let stdout = "";
    let stderr = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.once("error", (error) => resolve({ code: null, stdout, stderr, error }));
    child.once("close", (code) => resolve({ code, stdout, stderr }));
  });
}

// Node closes standard input when a child exits, but not further pipes; the watcher must see the end of this one.
function releaseLifeline(child: ChildProcess): void {
  child.stdio[3]?.destroy();
}

/** A running server. */
export interface Server {
  pid: number;
  /** Settles when every process of the server is gone; says how it ended. Never rejects. */
  gone: Promise<string>;
  /** Ends it: cleanly, and the hard way when that takes more than a few seconds. */
  stop(): Promise<void>;
}

/** PostgreSQL ended before it was ready. */
export class LaunchFailure extends Error {
  override readonly name = "LaunchFailure";
  readonly failure: Failure;
  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

export interface Launch {
  bin: string;
  dataDir: string;
  args: readonly string[];
  account: Account | undefined;
}

/**
 * Starts the server and waits until it takes connections, however long its recovery needs.
 * @throws LaunchFailure when it ends before that
 */
export async function launch(request: Launch): Promise<Server> {
  const { bin, dataDir, args, account } = request;
  const postgres = path.join(bin, "postgres");
  const options = spawnOptions(account);
  // A group of its own: Ctrl-C in a terminal must reach the service alone, which still needs the database to drain.
  const child = ON_WINDOWS
    ? spawn(postgres, args, { ...options, stdio: ["ignore", "ignore", "pipe"] })
    : spawn("/bin/sh", ["-c", GUARD, "sh", postgres, ...args], {
        ...options,
        detached: true,
        stdio: ["ignore", "ignore", "pipe", "pipe"],
      });
  const lines: string[] = [];
  const ready = watchOutput(child.stderr, lines);
  child.stdio[3]?.on("error", () => {});
  child.once("exit", () => releaseLifeline(child));
  const gone = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", (code, signal) => resolve(describeEnd(code, signal, lines)));
  });
  const failed = gone.then(() => {
    throw new LaunchFailure(explainOutput(lines.join("\n"), dataDir));
  });
  await Promise.race([ready, failed]);
  failed.catch(() => {});
  const pid = await serverPid(child, dataDir);
  // A program that fails and forgets the server must end all the same; the server then ends with it.
  keepAlive(child, false);
  const stop = () => {
    keepAlive(child, true);
    return stopServer(request, pid, gone);
  };
  return { pid, gone, stop };
}

/** Whether the child keeps this process from ending by itself. */
function keepAlive(child: ChildProcess, yes: boolean): void {
  for (const handle of [child, ...child.stdio]) {
    if (handle !== child && !(handle instanceof Socket)) continue;
    if (yes) handle.ref();
    else handle.unref();
  }
}

/** Keeps the last lines, so that a failure can say why; settles when the server takes connections. */
function watchOutput(stream: Readable | null, lines: string[]): Promise<void> {
  return new Promise((resolve) => {
    let rest = "";
    stream?.setEncoding("utf8").on("data", (text: string) => {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      lines.push(...parts);
      lines.splice(0, lines.length - KEPT_LINES);
      if (parts.some((line) => line.includes("database system is ready to accept connections"))) resolve();
    });
    stream?.on("end", () => {
      if (rest !== "") lines.push(rest);
    });
  });
}

async function serverPid(child: ChildProcess, dataDir: string): Promise<number> {
  if (ON_WINDOWS) return child.pid ?? 0;
  return Number.parseInt(await readFile(path.join(dataDir, "postmaster.pid"), "utf8"), 10);
}

async function stopServer({ bin, dataDir, account }: Launch, pid: number, gone: Promise<string>): Promise<void> {
  // Windows has no signals: the tool that comes with the server knows how to ask it.
  if (ON_WINDOWS) await runPlain(path.join(bin, "pg_ctl"), ["stop", "-D", dataDir, "-m", "fast"], account);
  else signal(pid, "SIGINT");
  const timers = [
    setTimeout(() => signal(pid, "SIGQUIT"), PATIENCE_MS),
    setTimeout(() => signal(pid, "SIGKILL"), 2 * PATIENCE_MS),
  ];
  await gone;
  for (const timer of timers) clearTimeout(timer);
}

/** Sends a signal to a process that may be gone already. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {}
}

function describeEnd(code: number | null, byShellSignal: NodeJS.Signals | null, lines: readonly string[]): string {
  const how =
    byShellSignal !== null
      ? `its supervisor was killed by ${byShellSignal}`
      : code !== null && code > 128
        ? `it was killed by signal ${code - 128}`
        : `exit code ${code}`;
  const last = lines.slice(-10).map((line) => `\n  ${line}`);
  return `PostgreSQL ended unexpectedly (${how}).${last.length > 0 ? ` Its last words:${last.join("")}` : ""}`;
}
