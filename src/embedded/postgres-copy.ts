import {
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { errnoOf } from "./postgres-error.ts";
import { type Account, runPlain } from "./postgres-process.ts";

/** A symbolic link of the package: both paths relative to its `native` folder. */
export interface Link {
  source: string;
  target: string;
}

/** A copy that was never finished is thrown away when it is this old; a younger one may still be in the making. */
const ABANDONED_AFTER_MS = 10 * 60_000;

export interface CopyRequest {
  /** The folder to copy. */
  native: string;
  /** The symbolic links that the copy must have. */
  links: readonly Link[];
  /** Who must be able to run it. */
  account: Account | undefined;
  /** Whether the programs in a folder do run. */
  works: (folder: string) => Promise<boolean>;
}

/**
 * Provides a copy of the programs that the account can run, and keeps it for later starts.
 * @param places folders to put it in, made when missing; the first that works wins
 * @returns the copy's folder, or undefined when there is no place for it
 */
export async function provideCopy(request: CopyRequest, places: readonly string[]): Promise<string | undefined> {
  for (const place of places) {
    try {
      if (!existsSync(place)) {
        mkdirSync(place, { recursive: true });
        chmodSync(place, 0o755);
      }
      const copy = await copyIn(realpathSync(place), request);
      if (copy !== undefined) return copy;
    } catch (error) {
      // Full, read-only, or not there: the next place may do.
      if (errnoOf(error).code === undefined) throw error;
    }
  }
  return undefined;
}

async function copyIn(place: string, request: CopyRequest): Promise<string | undefined> {
  const { native, links, account, works } = request;
  if (!isSafePlace(place)) return undefined;
  const name = copyName(native);
  const copy = path.join(place, name);
  if (existsSync(copy) && !isOurs(copy)) return undefined;
  if (!isSame(native, copy, links)) {
    removeAbandoned(place, `${name}-`);
    const fresh = mkdtempSync(`${copy}-`);
    try {
      chmodSync(fresh, 0o755);
      if (!(await canExecute(fresh, account))) return undefined;
      copyTree(native, fresh);
      for (const { source, target } of links) makeLink(fresh, source, target);
      putInPlace(fresh, copy);
    } finally {
      rmSync(fresh, { recursive: true, force: true });
    }
  }
  return isOurs(copy) && (await works(copy)) ? copy : undefined;
}

/** Names the release and the user: another user's copy is not to be run, and not to be overwritten. */
function copyName(native: string): string {
  const { version } = JSON.parse(readFileSync(path.join(native, "..", "package.json"), "utf8")) as { version: string };
  return `session-service-postgres-${version}-${process.geteuid?.() ?? 0}`;
}

/** In a folder that others may write to, only the sticky bit keeps them from swapping ours for theirs. */
function isSafePlace(place: string): boolean {
  const { mode, uid } = lstatSync(place);
  if (uid !== 0 && uid !== process.geteuid?.()) return false;
  return (mode & 0o022) === 0 || (mode & 0o1000) !== 0;
}

/** A real folder of our own that nobody else can write to: all that is in it is then ours too. */
function isOurs(folder: string): boolean {
  const stats = lstatSync(folder);
  return stats.isDirectory() && stats.uid === process.geteuid?.() && (stats.mode & 0o022) === 0;
}

/** A folder that is mounted noexec, or closed to the account, takes the copy in vain; told before 60 MB are copied. */
async function canExecute(folder: string, account: Account | undefined): Promise<boolean> {
  const script = path.join(folder, "probe");
  writeFileSync(script, "#!/bin/sh\nexit 0\n", { mode: 0o755 });
  const { code } = await runPlain(script, [], account);
  rmSync(script);
  return code === 0;
}

/** Static libraries and their descriptions are for compilers. */
function isNeeded(name: string): boolean {
  return !name.endsWith(".a") && name !== "pkgconfig";
}

// Modes are set and not taken over: the copy is there because the original is closed to others.
function copyTree(from: string, to: string): void {
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    if (!isNeeded(entry.name)) continue;
    const source = path.join(from, entry.name);
    const target = path.join(to, entry.name);
    if (entry.isDirectory()) {
      mkdirSync(target);
      chmodSync(target, 0o755);
      copyTree(source, target);
    } else if (entry.isSymbolicLink()) {
      symlinkSync(readlinkSync(source), target);
    } else {
      copyFileSync(source, target, constants.COPYFILE_FICLONE);
      chmodSync(target, path.basename(from) === "bin" ? 0o755 : 0o644);
    }
  }
}

function makeLink(folder: string, source: string, target: string): void {
  const link = path.join(folder, target);
  if (!existsSync(link)) symlinkSync(path.relative(path.dirname(target), source), link);
}

/** Cleaners of temporary folders remove single files of an old copy: every file is compared by size. */
function isSame(from: string, to: string, links: readonly Link[]): boolean {
  if (!existsSync(to)) return false;
  return links.every(({ target }) => existsSync(path.join(to, target))) && isSameTree(from, to);
}

function isSameTree(from: string, to: string): boolean {
  return readdirSync(from, { withFileTypes: true }).every((entry) => {
    if (!isNeeded(entry.name)) return true;
    const source = path.join(from, entry.name);
    const target = path.join(to, entry.name);
    if (entry.isDirectory()) return existsSync(target) && isSameTree(source, target);
    if (entry.isSymbolicLink()) return existsSync(target);
    return lstatSync(target, { throwIfNoEntry: false })?.size === lstatSync(source).size;
  });
}

/** The whole copy appears at once. One that is not whole makes way; a server that runs from it keeps its open files. */
function putInPlace(fresh: string, copy: string): void {
  try {
    renameSync(fresh, copy);
  } catch (error) {
    if (!["ENOTEMPTY", "EEXIST"].includes(errnoOf(error).code ?? "")) throw error;
    const old = `${fresh}-old`;
    renameSync(copy, old);
    renameSync(fresh, copy);
    rmSync(old, { recursive: true, force: true });
  }
}

function removeAbandoned(place: string, prefix: string): void {
  for (const name of readdirSync(place).filter((entry) => entry.startsWith(prefix))) {
    const folder = path.join(place, name);
    const stats = lstatSync(folder, { throwIfNoEntry: false });
    if (stats?.uid !== process.geteuid?.() || Date.now() - (stats?.mtimeMs ?? 0) < ABANDONED_AFTER_MS) continue;
    rmSync(folder, { recursive: true, force: true });
  }
}
