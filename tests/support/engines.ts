/**
 * The engines that the tests run on: TEST_DATABASE_URL and TEST_REDIS_URL if given; else the embedded PostgreSQL, and a
 * redis-server or valkey-server from PATH, or the embedded Valkey (REDIS_ENGINE=embedded asks for it).
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { startEmbeddedValkey } from "../../src/embedded/valkey.ts";
import { scratchRoot } from "./scratch.ts";

export interface Engine {
  readonly url: string;
  stop(): Promise<void>;
}

export interface RedisServer extends Engine {
  readonly process: ChildProcess;
}

export async function startTestPostgres(): Promise<Engine> {
  const given = process.env["TEST_DATABASE_URL"];
  if (given !== undefined) return { url: given, stop: async () => {} };
  const folder = mkdtempSync(join(scratchRoot(), "session-test-"));
  // PostgreSQL does not run as root, and the user that it runs as must reach its folder.
  chmodSync(folder, 0o755);
  const server = await startEmbeddedPostgres({
    dataDir: join(folder, "postgres"),
    // Many databases, thrown away: what a crash would lose does not matter here. The fault tests keep fsync on.
    flags: ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=400"],
  });
  await easePassword(server.url);
  return {
    url: server.url,
    async stop() {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A thousand connections are made: 4,096 rounds of hashing for each, on both sides, guard nothing here. */
async function easePassword(url: string): Promise<void> {
  const { username, password } = new URL(url);
  const admin = postgres(url, { max: 1, onnotice: () => {} });
  await admin.unsafe(`set scram_iterations = 1; alter role ${username} password '${password}'`);
  await admin.end();
}

export async function startTestRedis(): Promise<Engine> {
  const given = process.env["TEST_REDIS_URL"];
  if (given !== undefined) return { url: given, stop: async () => {} };
  return startOwnRedis();
}

/** The name of a Redis server on PATH, if there is one. */
export function redisOnPath(): string | undefined {
  return ["redis-server", "valkey-server"].find((name) => spawnSync(name, ["--version"]).status === 0);
}

export async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
    server.on("error", reject);
  });
}

/** A Redis of the test's own, which it may stop and start again: a server from PATH, or the embedded Valkey. */
export async function startOwnRedis({ port = 0 }: { port?: number } = {}): Promise<Engine> {
  const binary = process.env["REDIS_ENGINE"] === "embedded" ? undefined : redisOnPath();
  if (binary !== undefined) return startRedisServer({ binary, ...(port === 0 ? {} : { port }) });
  return startEmbeddedValkey({ port });
}

/** A Redis of the test's own in a process of its own, which it may freeze and kill. */
export async function startRedisServer(options: { binary?: string; port?: number } = {}): Promise<RedisServer> {
  const port = options.port ?? (await freePort());
  const child = spawn(
    options.binary ?? redisOnPath() ?? "redis-server",
    ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"],
    { stdio: ["ignore", "pipe", "ignore"], cwd: tmpdir() },
  );
  // Also when the test run itself breaks down.
  const killAtExit = () => child.kill("SIGKILL");
  process.once("exit", killAtExit);
  child.once("exit", () => process.off("exit", killAtExit));
  await new Promise<void>((resolve, reject) => {
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      if (/ready to accept connections/i.test(output)) resolve();
    });
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`redis-server ended with ${code}: ${output}`)));
  });
  return {
    url: `redis://127.0.0.1:${port}`,
    process: child,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await gone;
    },
  };
}
