import { execFile } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { EmbeddedPostgresError, errnoOf, inUse } from "./postgres-error.ts";
import { signal } from "./postgres-process.ts";

/** Who started the server of a data folder; kept in the folder. */
export interface Owner {
  pid: number;
  /** When that process began, in a unit of the kernel's: a pid alone may be another's by now. */
  began: string;
  server: number;
}

export const OWNER_FILE = "sessions.owner";

/** How long a server whose service is gone may take to end, before it is made to. */
const DEPARTURE_MS = 10_000;

/** When a process began, as the kernel has it; empty where that can't be told or the process is gone. */
export function beganAt(pid: number): string {
  return statOf(pid)[19] ?? "";
}

/** Whether the process lives; with `began`, whether it is still the same one. */
export function isAlive(pid: number, began = ""): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errnoOf(error).code !== "EPERM") return false;
  }
  const stat = statOf(pid);
  // Dead, but not yet missed by its parent, which in a container may be never.
  if (stat[0] === "Z") return false;
  return began === "" || stat[19] === undefined || stat[19] === began;
}

/** What Linux tells of a process after its name: its state first, the time it began as the 20th; else nothing. */
function statOf(pid: number): string[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name stands in parentheses, and may hold spaces and parentheses of its own.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch {
    return [];
  }
}

/**
 * Makes sure that no server has the folder: waits for one that is on its way out, ends one that its service left
 * behind, and removes a lock that nobody holds any more.
 * @param dataDir the cluster's real path (no symbolic links)
 * @param notice told when there is a server to wait for
 * @throws EmbeddedPostgresError when a server is at work there, with its pid
 */
export async function claim(dataDir: string, notice: (line: string) => void): Promise<void> {
  const lock = readLock(dataDir);
  if (lock === undefined) return;
  const holders = await serversIn(dataDir, lock.pid);
  if (holders === undefined) return;
  if (holders.length === 0) {
    removeStaleLock(dataDir, lock);
    return;
  }
  const server = holders.includes(lock.pid) ? lock.pid : undefined;
  const owner = readOwner(dataDir, server);
  if (server !== undefined && !isLeaving(lock, owner)) {
    throw new EmbeddedPostgresError(inUse(dataDir, server, owner?.pid));
  }
  notice(`An earlier PostgreSQL (pid ${holders.join(", ")}) in ${dataDir} is still ending; waiting for it.`);
  await departure(dataDir, lock.pid, owner === undefined ? undefined : server);
}

interface Lock {
  text: string;
  pid: number;
  status: string;
}

function readLock(dataDir: string): Lock | undefined {
  try {
    const text = readFileSync(path.join(dataDir, "postmaster.pid"), "utf8");
    const lines = text.split("\n");
    // A single-user server puts a minus before its pid. An empty file is what a crash at the wrong moment leaves.
    return { text, pid: Math.abs(Number.parseInt(lines[0] ?? "", 10)) || 0, status: lines[7]?.trim() ?? "" };
  } catch (error) {
    if (errnoOf(error).code === "ENOENT") return undefined;
    throw error;
  }
}

function readOwner(dataDir: string, server: number | undefined): Owner | undefined {
  try {
    const owner = JSON.parse(readFileSync(path.join(dataDir, OWNER_FILE), "utf8")) as Owner;
    return owner.server === server ? owner : undefined;
  } catch {
    return undefined;
  }
}

function isLeaving(lock: Lock, owner: Owner | undefined): boolean {
  return lock.status === "stopping" || (owner !== undefined && !isAlive(owner.pid, owner.began));
}

/**
 * The processes of PostgreSQL that work in the folder; every one of them has it as its working folder.
 * Undefined where that can't be told: PostgreSQL's own check then decides.
 */
async function serversIn(dataDir: string, lockPid: number): Promise<number[] | undefined> {
  if (process.platform === "linux" && beganAt(process.pid) !== "") {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && worksIn(dataDir, name))
      .map(Number);
  }
  if (process.platform === "win32" || lockPid === 0 || !isAlive(lockPid)) return undefined;
  try {
    const { stdout } = await promisify(execFile)("ps", ["-o", "comm=", "-p", String(lockPid)]);
    return stdout.includes("postgres") ? [lockPid] : [];
  } catch {
    return undefined;
  }
}

function worksIn(dataDir: string, pid: string): boolean {
  try {
    return (
      readlinkSync(`/proc/${pid}/cwd`) === dataDir && readFileSync(`/proc/${pid}/comm`, "utf8").startsWith("postgres")
    );
  } catch {
    return false;
  }
}

/**
 * PostgreSQL itself forgives a lock whose process is dead, but not one whose pid another process of the same user has
 * by now, nor an empty one. Moved aside before it is removed: had a server started in between, its lock goes back.
 */
function removeStaleLock(dataDir: string, judged: Lock): void {
  const file = path.join(dataDir, "postmaster.pid");
  const aside = `${file}.stale`;
  try {
    renameSync(file, aside);
    if (readFileSync(aside, "utf8") !== judged.text) renameSync(aside, file);
    else rmSync(aside);
  } catch (error) {
    if (errnoOf(error).code !== "ENOENT") throw error;
  }
}

/** Waits until nobody works in the folder. `abandoned`: a server whose service is gone, which may be told to end. */
async function departure(dataDir: string, lockPid: number, abandoned: number | undefined): Promise<void> {
  if (abandoned !== undefined) signal(abandoned, "SIGINT");
  const began = performance.now();
  let pressed = false;
  for (;;) {
    const left = (await serversIn(dataDir, lockPid)) ?? [];
    const [first] = left;
    if (first === undefined) return;
    const waited = performance.now() - began;
    if (waited > DEPARTURE_MS && abandoned !== undefined && !pressed) {
      signal(abandoned, "SIGQUIT");
      pressed = true;
    }
    if (waited > 2 * DEPARTURE_MS) throw new EmbeddedPostgresError(inUse(dataDir, first));
    await sleep(25);
  }
}
