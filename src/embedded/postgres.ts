/*
 * The PostgreSQL that `npm start` brings along: real server processes from an npm package, on a data folder.
 *
 *   where, as whom        with what         a cluster               the server
 *   postgres-folder   →   -binaries     →   -lock → -cluster    →   -process
 *                         (or a -copy)
 *
 * Whatever is in the way is an EmbeddedPostgresError, whose message is for the user.
 */
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Binaries, provideBinaries } from "./postgres-binaries.ts";
import { asFlags, COMMON_SETTINGS, ensureCluster, ensurePassword, NAME, writePrivate } from "./postgres-cluster.ts";
import { EmbeddedPostgresError, explainError } from "./postgres-error.ts";
import { chooseHome, type Home } from "./postgres-folder.ts";
import { beganAt, claim, OWNER_FILE, type Owner } from "./postgres-lock.ts";
import { LaunchFailure, launch, type Server } from "./postgres-process.ts";

export interface EmbeddedPostgresOptions {
  /** The folder that holds the cluster, absolute or relative to the working folder. Made when missing. */
  dataDir: string;
  /** The TCP port to take when it is free; else the one used last time on this folder, else any free one. */
  port?: number;
  /** Further settings of the server, each as in "fsync=off". */
  flags?: readonly string[];
  /** Told what a person should read. */
  notice?: (line: string) => void;
  /** Told when the server ends without having been asked to. */
  onExit?: (message: string) => void;
}

export interface EmbeddedPostgres {
  /** postgres://sessions:<password>@127.0.0.1:<port>/sessions */
  url: string;
  port: number;
  /** The server's main process. */
  pid: number;
  /** For example "18.4". */
  version: string;
  /** Where the cluster really is: not the wanted folder when PostgreSQL could not reach that one. */
  dataDir: string;
  /** Ends the server; resolves when all its processes are gone. Any further call waits for the same end. */
  stop(): Promise<void>;
}

/** What tests put in place of the machine's own. */
export interface Surroundings {
  /** The folder of the platform's package. */
  packageRoot?: string;
  /** Where the data goes when the wanted folder can't be reached. */
  fallbackRoot?: string;
  /** Where a copy of the programs may be put. */
  copyPlaces?: readonly string[];
}

/** A server that recovers from a crash may take its time; after this long the user is told why nothing happens. */
const SLOW_START_MS = 3_000;
/** How often a start is tried again when the port was snatched, or an earlier server's processes are still ending. */
const ATTEMPTS = 20;

const SERVER_SETTINGS: readonly string[] = [
  ...COMMON_SETTINGS,
  "listen_addresses=127.0.0.1",
  "unix_socket_directories=",
  // Parallel workers exchange rows through shared memory, of which a container may have little.
  "max_parallel_workers_per_gather=0",
  "max_parallel_maintenance_workers=0",
  // Standard error is ours to read, in English; statements that fail (a duplicate key) are the client's to report.
  "logging_collector=off",
  "log_destination=stderr",
  "lc_messages=C",
  "log_line_prefix=",
  "log_min_messages=log",
  "log_checkpoints=off",
];

/**
 * Starts PostgreSQL on a data folder, making the cluster when there is none.
 * @returns the running server; it is stopped when this process ends, however that happens
 * @throws EmbeddedPostgresError when that is not possible, with a message that says what to do
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions,
  surroundings: Surroundings = {},
): Promise<EmbeddedPostgres> {
  const wanted = path.resolve(options.dataDir);
  try {
    return await start(wanted, options, surroundings);
  } catch (error) {
    if (error instanceof LaunchFailure) throw new EmbeddedPostgresError(error.message);
    throw explainError(error, wanted);
  }
}

async function start(
  wanted: string,
  options: EmbeddedPostgresOptions,
  surroundings: Surroundings,
): Promise<EmbeddedPostgres> {
  const { fallbackRoot = "/var/lib/session-service" } = surroundings;
  const notice = options.notice ?? (() => {});
  const flags = asFlags(options.flags ?? []);
  const home = await chooseHome(wanted, fallbackRoot, notice);
  const places = surroundings.copyPlaces ?? [tmpdir(), "/var/tmp", fallbackRoot];
  const binaries = await provideBinaries(home.account, places, surroundings.packageRoot);
  await claim(home.dataDir, notice);
  await ensureCluster(home, binaries.bin, binaries.version, !flags.includes("fsync=off"));
  const password = await ensurePassword(home, binaries.bin);
  const { server, port } = await serve(home, binaries, flags, options.port, notice);
  try {
    const owner: Owner = { pid: process.pid, began: beganAt(process.pid), server: server.pid };
    writePrivate(path.join(home.dataDir, OWNER_FILE), JSON.stringify(owner), home.account);
    writePrivate(portFile(home), String(port), home.account);
  } catch (error) {
    await server.stop();
    throw error;
  }
  return {
    url: `postgres://${NAME}:${password}@127.0.0.1:${port}/${NAME}`,
    port,
    pid: server.pid,
    version: binaries.version,
    dataDir: home.dataDir,
    stop: stopOnce(server, options.onExit),
  };
}

/** One shutdown however often it is asked for; an end that nobody asked for is reported. */
function stopOnce(server: Server, onExit: ((message: string) => void) | undefined): () => Promise<void> {
  let stopping: Promise<void> | undefined;
  void server.gone.then((message) => {
    if (stopping === undefined) onExit?.(message);
  });
  return () => {
    stopping ??= server.stop();
    return stopping;
  };
}

interface Serving {
  server: Server;
  port: number;
}

/** Starts the server on the first port that can be had. */
async function serve(
  home: Home,
  { bin }: Binaries,
  flags: readonly string[],
  preferred: number | undefined,
  notice: (line: string) => void,
): Promise<Serving> {
  const ports = [preferred, lastPort(home)].filter((port) => port !== undefined && port > 0);
  for (let attempt = 1; ; attempt++) {
    const port = await takePort(ports);
    const args = ["-D", home.dataDir, "-p", String(port), ...asFlags(SERVER_SETTINGS), ...flags];
    const slow = setTimeout(() => notice("PostgreSQL is recovering from an unclean end; please wait."), SLOW_START_MS);
    try {
      const server = await launch({ bin, dataDir: home.dataDir, args, account: home.account });
      if (preferred && preferred !== port) {
        notice(`Port ${preferred} is not free: the database listens on port ${port} instead.`);
      }
      return { server, port };
    } catch (error) {
      if (!(error instanceof LaunchFailure) || error.failure.kind === "final" || attempt === ATTEMPTS) throw error;
      // Processes of a server that was killed see its end within moments; a port is gone for good.
      if (error.failure.kind === "leftover") await sleep(250);
      else ports.splice(0, ports.length, ...ports.filter((candidate) => candidate !== port));
    } finally {
      clearTimeout(slow);
    }
  }
}

function portFile({ dataDir }: Home): string {
  return path.join(dataDir, "sessions.port");
}

function lastPort(home: Home): number | undefined {
  if (!existsSync(portFile(home))) return undefined;
  const port = Number.parseInt(readFileSync(portFile(home), "utf8"), 10);
  return port > 0 && port < 65_536 ? port : undefined;
}

/** The first of the ports that is free, else one that the system picks. */
async function takePort(ports: readonly (number | undefined)[]): Promise<number> {
  for (const port of ports) {
    if (port !== undefined && (await tryPort(port)) !== undefined) return port;
  }
  const port = await tryPort(0);
  if (port === undefined) throw new EmbeddedPostgresError("No TCP port is free on 127.0.0.1.");
  return port;
}

function tryPort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(undefined));
    probe.listen({ port, host: "127.0.0.1", exclusive: true }, () => {
      const address = probe.address();
      const taken = typeof address === "object" && address !== null ? address.port : undefined;
      probe.close(() => resolve(taken));
    });
  });
}
