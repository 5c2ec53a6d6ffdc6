import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fchownSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { EmbeddedPostgresError, errnoOf, explainOutput, otherMajor } from "./postgres-error.ts";
import { type Home, holdsCluster } from "./postgres-folder.ts";
import { beganAt, isAlive } from "./postgres-lock.ts";
import { type Account, type Outcome, runGuarded } from "./postgres-process.ts";

/** The name of the database and of the superuser who owns it. */
export const NAME = "sessions";
const PASSWORD_FILE = "sessions.password";

/** Not in /dev/shm, which has 64 MB in a container, or less; initdb needs 1 MB of it already. */
const SHARED_MEMORY = "dynamic_shared_memory_type=mmap";

/** Settings for every server here, the single-user one included. */
export const COMMON_SETTINGS: readonly string[] = [
  SHARED_MEMORY,
  "shared_buffers=128MB",
  "huge_pages=off",
  // Reads come from the page cache at this size; three worker processes less.
  "io_method=sync",
];

/** `-c` before each setting. A setting that has its own flag already ("-c", "-F") is taken as it is. */
export function asFlags(settings: readonly string[]): string[] {
  return settings.flatMap((setting, index) =>
    setting.startsWith("-") || settings[index - 1] === "-c" ? [setting] : ["-c", setting],
  );
}

/**
 * Makes the cluster when there is none: in a folder beside it, which takes its place when it is whole.
 * @param sync whether the files must be on the disk before it counts as made
 * @throws EmbeddedPostgresError when it can't be made, or the folder holds something else
 */
export async function ensureCluster(home: Home, bin: string, version: string, sync: boolean): Promise<void> {
  const { dataDir, account } = home;
  removeLeftovers(dataDir);
  if (holdsCluster(dataDir)) return checkCluster(home, version);
  if (existsSync(dataDir) && readdirSync(dataDir).length > 0) {
    throw new EmbeddedPostgresError(
      `${dataDir} has files in it, but no database. Move them away, or set DATA_DIR to another folder.`,
    );
  }
  const staging = `${dataDir}.init-${process.pid}-${beganAt(process.pid)}-${randomBytes(4).toString("hex")}`;
  inTheMaking.add(staging);
  try {
    mkdirSync(staging, { mode: 0o700 });
    give(staging, account);
    const cluster = path.join(staging, "cluster");
    await initialise(cluster, home, bin);
    if (sync) await flush(cluster, home, bin);
    await putInPlace(cluster, home, version);
  } finally {
    rmSync(staging, { recursive: true, force: true, maxRetries: 3 });
    inTheMaking.delete(staging);
  }
}

/**
 * The password of the database; when its file was lost, a new one is set.
 * The cluster must not be running.
 */
export async function ensurePassword(home: Home, bin: string): Promise<string> {
  const file = path.join(home.dataDir, PASSWORD_FILE);
  if (existsSync(file)) return readFileSync(file, "utf8").trim();
  const password = newPassword();
  await runSql(`ALTER ROLE ${NAME} PASSWORD '${password}';`, home.dataDir, home, bin);
  writePrivate(file, `${password}\n`, home.account);
  return password;
}

/** Writes a file for the owner of the cluster alone, as a whole or not at all. */
export function writePrivate(file: string, text: string, account: Account | undefined): void {
  const fresh = `${file}.${process.pid}.new`;
  rmSync(fresh, { force: true });
  // "wx" does not follow a link that the account may have put there while this process is root.
  const descriptor = openSync(fresh, "wx", 0o600);
  try {
    writeFileSync(descriptor, text);
    if (account) fchownSync(descriptor, account.uid, account.gid);
  } finally {
    closeSync(descriptor);
  }
  renameSync(fresh, file);
}

/** Staging folders of this process: a container's processes get the same pid, and nearly the same age, every time. */
const inTheMaking = new Set<string>();

/** What an initdb left behind that was interrupted, with its service. */
function removeLeftovers(dataDir: string): void {
  const parent = path.dirname(dataDir);
  const prefix = `${path.basename(dataDir)}.init-`;
  for (const name of readdirSync(parent).filter((entry) => entry.startsWith(prefix))) {
    const folder = path.join(parent, name);
    const [pid, began] = name.slice(prefix.length).split("-");
    const mine = Number(pid) === process.pid;
    if (mine ? inTheMaking.has(folder) : isAlive(Number(pid), began)) continue;
    // Its initdb may still be ending; what can't be removed now is removed by a later start.
    try {
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    } catch {}
  }
}

function checkCluster({ dataDir }: Home, version: string): void {
  const found = readFileSync(path.join(dataDir, "PG_VERSION"), "utf8").trim();
  if (found !== version.split(".")[0]) throw new EmbeddedPostgresError(otherMajor(dataDir, found, version));
  if (!existsSync(path.join(dataDir, "global", "pg_control"))) {
    throw new EmbeddedPostgresError(
      `The database in ${dataDir} is incomplete (global/pg_control is missing). Restore the folder from a backup, ` +
        "or move it away to start with an empty database.",
    );
  }
  // PostgreSQL refuses a folder that others may read, as a copy of it often is.
  const { mode } = statSync(dataDir);
  if ((mode & 0o027) !== 0) chmodSync(dataDir, 0o700);
}

async function initialise(cluster: string, home: Home, bin: string): Promise<void> {
  const password = newPassword();
  const passwordFile = path.join(path.dirname(cluster), "password");
  writePrivate(passwordFile, password, home.account);
  const args = ["-D", cluster, "-U", NAME, `--pwfile=${passwordFile}`, "--auth=scram-sha-256"];
  // Whatever LANG is: the order of text must be the same on every machine.
  args.push("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions", ...asFlags([SHARED_MEMORY]));
  check(await runGuarded(path.join(bin, "initdb"), args, home.account), home.dataDir);
  await runSql(`CREATE DATABASE ${NAME} TEMPLATE template0 STRATEGY file_copy;`, cluster, home, bin);
  writePrivate(path.join(cluster, PASSWORD_FILE), `${password}\n`, home.account);
}

/** Runs one statement without a server. It is not flushed to the disk when the cluster is still in the making. */
async function runSql(statement: string, cluster: string, home: Home, bin: string): Promise<void> {
  const settings = [...COMMON_SETTINGS, "exit_on_error=on", `fsync=${cluster === home.dataDir ? "on" : "off"}`];
  const args = ["--single", "-D", cluster, ...asFlags(settings), "postgres"];
  check(await runGuarded(path.join(bin, "postgres"), args, home.account, `${statement}\n`), home.dataDir);
}

/** Once for all files, instead of initdb's and the statement's own. */
async function flush(cluster: string, home: Home, bin: string): Promise<void> {
  check(await runGuarded(path.join(bin, "initdb"), ["--sync-only", "-D", cluster], home.account), home.dataDir);
}

async function putInPlace(cluster: string, home: Home, version: string): Promise<void> {
  const { dataDir } = home;
  try {
    // Windows does not rename over an empty folder.
    if (process.platform === "win32" && existsSync(dataDir)) rmdirSync(dataDir);
    renameSync(cluster, dataDir);
  } catch (error) {
    const { code } = errnoOf(error);
    // Another first start was faster. Which of the two gets the server is settled by PostgreSQL's own lock.
    if ((code === "ENOTEMPTY" || code === "EEXIST") && holdsCluster(dataDir)) return checkCluster(home, version);
    if (code === "EXDEV" || code === "EBUSY") {
      throw new EmbeddedPostgresError(
        `${dataDir} is a mount point, in whose place no folder can be put. Mount the volume on the folder above it ` +
          `(${path.dirname(dataDir)}).`,
      );
    }
    throw error;
  }
  flushFolder(path.dirname(dataDir));
}

function flushFolder(folder: string): void {
  if (process.platform === "win32") return;
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function check(outcome: Outcome, dataDir: string): void {
  if (outcome.error) throw outcome.error;
  if (outcome.code === 0) return;
  throw new EmbeddedPostgresError(explainOutput(outcome.stderr || `exit code ${outcome.code}`, dataDir).message);
}

function give(folder: string, account: Account | undefined): void {
  if (account) chownSync(folder, account.uid, account.gid);
}

function newPassword(): string {
  return randomBytes(24).toString("base64url");
}
