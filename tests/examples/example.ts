/** An example as its users run it: a process of its own, told by environment variables where the service is. */

import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** What an example printed of an event: `<session id> <sequence> <type> <payload>`. */
export interface Printed {
  readonly id: string;
  readonly sequence: number;
  readonly type: string;
  readonly payload: object;
}

export interface Example extends AsyncDisposable {
  /** Everything printed so far, oldest first. */
  printed(): Printed[];
  /** The sequences that were printed of a session, in the order in which they were. */
  sequencesOf(id: string): number[];
  /** What went wrong, in its own words. */
  stderr(): string;
  /** Kills it and its children on the spot. */
  kill(): Promise<void>;
}

/** Debian's python3-redis belongs to the system's own python. */
export const pythonWithRedis = ["/usr/bin/python3", "python3"].find(
  (name) => spawnSync(name, ["-c", "import redis"]).status === 0,
);

/** The programs of these that are not on the PATH. */
export function missing(...programs: string[]): string[] {
  return programs.filter((name) => spawnSync(name, ["--version"]).status !== 0);
}

/** Starts a command in the project's folder. */
export function startExample(command: readonly string[], settings: Readonly<Record<string, string>>): Example {
  const [program = "", ...args] = command;
  const child = spawn(program, args, {
    cwd: root,
    env: { ...process.env, ...settings },
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own: the shell's children end with it.
    detached: true,
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    stdout += chunk;
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk;
  });
  const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const killGroup = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {}
  };
  process.once("exit", killGroup);
  const kill = async () => {
    killGroup();
    await gone;
    process.off("exit", killGroup);
  };
  const printed = () =>
    stdout
      .split("\n")
      .slice(0, -1)
      .map((line) => {
        const [, id = "", sequence = "", type = "", payload = ""] = /^(\S+) (\d+) (\S+) (.*)$/.exec(line) ?? [line];
        return { id, sequence: Number(sequence), type, payload: JSON.parse(payload) };
      });
  return {
    printed,
    sequencesOf: (id) => printed().flatMap((event) => (event.id === id ? [event.sequence] : [])),
    stderr: () => stderr,
    kill,
    [Symbol.asyncDispose]: kill,
  };
}

/** Starts a TypeScript example. */
export function startTypeScript(path: string, args: readonly string[], settings: Readonly<Record<string, string>>) {
  return startExample([process.execPath, "--import", "tsx", path, ...args], settings);
}

/** A connection that does not mind that a Redis is taken away. */
export function connect(url: string): Redis {
  const redis = new Redis(url, { retryStrategy: () => 50 });
  redis.on("error", () => {});
  return redis;
}
