/** A PostgreSQL of the system's, with the tools that the embedded one lacks: it can be dumped and restored. */

import { type SpawnSyncOptions, spawn, spawnSync } from "node:child_process";
import { chownSync, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { dataFolder, quietPort } from "../support/process.ts";

/** Where Debian keeps them, the newest last. */
const versions = "/usr/lib/postgresql";

/** The folder with the programs of a whole PostgreSQL, if there is one. */
export const toolsFolder: string | undefined = (existsSync(versions) ? readdirSync(versions) : [])
  .sort((a, b) => Number(a) - Number(b))
  .map((version) => join(versions, version, "bin"))
  .filter((folder) => ["initdb", "postgres", "pg_dump", "psql"].every((name) => existsSync(join(folder, name))))
  .at(-1);

/** PostgreSQL does not run as root. */
const account: { uid?: number; gid?: number } = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};

export interface ToolsCluster extends AsyncDisposable {
  readonly url: string;
}

/** Starts a new, empty cluster. */
export async function startCluster(): Promise<ToolsCluster> {
  const folder = dataFolder();
  if (account.uid !== undefined && account.gid !== undefined) chownSync(folder.path, account.uid, account.gid);
  const data = join(folder.path, "cluster");
  run("initdb", ["-D", data, "-U", "session", "-A", "trust", "-E", "UTF8", "--no-instructions"], {
    cwd: folder.path,
    ...account,
  });
  const port = await quietPort();
  const url = `postgres://session@127.0.0.1:${port}/postgres`;
  const settings = ["-p", String(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="];
  const server = spawn(join(toolsFolder ?? "", "postgres"), ["-D", data, ...settings], {
    cwd: folder.path,
    stdio: ["ignore", "ignore", "pipe"],
    ...account,
  });
  const exited = new Promise((resolve) => server.once("exit", resolve));
  await new Promise<void>((resolve, reject) => {
    let output = "";
    server.stderr.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      if (output.includes("ready to accept connections")) resolve();
    });
    server.once("exit", () => reject(new Error(`PostgreSQL ended: ${output}`)));
  });
  return {
    url,
    async [Symbol.asyncDispose]() {
      server.kill("SIGINT");
      await exited;
      folder[Symbol.dispose]();
    },
  };
}

/** Copies a whole database into another, empty one, as SQL. */
export function dumpAndRestore(from: string, to: string): void {
  const dump = run("pg_dump", ["--no-owner", from], {});
  run("psql", ["--quiet", "--set=ON_ERROR_STOP=1", "--file=-", to], { input: dump });
}

function run(name: string, args: string[], options: SpawnSyncOptions): string {
  const done = spawnSync(join(toolsFolder ?? "", name), args, {
    ...options,
    encoding: "utf8",
    maxBuffer: 1024 * 1024 * 1024,
  });
  if (done.status !== 0) throw new Error(`${name} failed: ${done.stderr || done.error}`);
  return done.stdout;
}
