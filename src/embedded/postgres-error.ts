import { statfsSync } from "node:fs";

/** What keeps the embedded PostgreSQL from working; the message is written for the person who started the service. */
export class EmbeddedPostgresError extends Error {
  override readonly name = "EmbeddedPostgresError";
}

/** The way out that every message about an unsupported machine ends with. */
export const OWN_SERVER =
  "Or set DATABASE_URL to a PostgreSQL server (15 or newer) of your own; nothing is embedded then.";

/** Why PostgreSQL ended, as far as the caller must act on it: `port` and `leftover` are worth another attempt. */
export type FailureKind = "port" | "leftover" | "final";

/** A cause found in PostgreSQL's own output, and what to tell the user. */
export interface Failure {
  kind: FailureKind;
  message: string;
}

interface KnownCause {
  pattern: RegExp;
  kind?: FailureKind;
  explain: (dataDir: string, match: RegExpExecArray) => string;
}

// The first match wins, so what is specific stands above what is general ("Permission denied" is a detail of many).
const KNOWN_CAUSES: readonly KnownCause[] = [
  {
    pattern: /could not create any TCP\/IP sockets|could not bind IPv4 address/,
    kind: "port",
    explain: () =>
      "PostgreSQL could not listen on the port it was given: another program has it, or it is not allowed.",
  },
  {
    pattern: /pre-existing shared memory block/,
    kind: "leftover",
    explain: (dir) =>
      `Processes of an earlier PostgreSQL are still at work in ${dir}. Wait for them to end, or end them, and start again.`,
  },
  {
    pattern: /lock file "postmaster\.pid" already exists[\s\S]*?PID (\d+)/,
    explain: (dir, match) => inUse(dir, Number(match[1])),
  },
  {
    pattern: /No space left on device|Disk quota exceeded|Check free disk space/i,
    explain: (dir) => diskFull(dir),
  },
  {
    pattern: /could not look up effective user ID (\d+)/,
    explain: (_dir, match) =>
      `PostgreSQL needs the user it runs as to have an entry in /etc/passwd, and user id ${match[1]} has none. ` +
      `Add one, or start the service as another user. ${OWN_SERVER}`,
  },
  {
    pattern: /Read-only file system/,
    explain: (dir) =>
      `${dir} is on a read-only file system. Set DATA_DIR to a folder that can be written. ${OWN_SERVER}`,
  },
  {
    pattern: /could not (?:create|map|open|resize|allocate).*shared memory|Cannot allocate memory|out of memory/i,
    explain: () =>
      `There is not enough memory for PostgreSQL (it takes about 150 MB). Give the machine more. ${OWN_SERVER}`,
  },
  {
    pattern:
      /could not locate a valid checkpoint record|invalid checkpoint record|invalid data in file "?global\/pg_control|calculated CRC checksum does not match/,
    explain: (dir) =>
      `The files in ${dir} are damaged, and PostgreSQL can't recover from them. Restore the folder from a backup, ` +
      "or move it away to start with an empty database.",
  },
  {
    pattern: /has wrong ownership|has invalid permissions|Permission denied|Operation not permitted/,
    explain: (dir) => noPermission(dir),
  },
  {
    pattern: /with administrative permissions is not permitted/,
    explain: () =>
      `PostgreSQL refuses to run as an administrator. Start the service as an ordinary user. ${OWN_SERVER}`,
  },
];

/**
 * Turns what PostgreSQL printed into what a user should read.
 * @param output its standard error, whole lines, oldest first
 * @param dataDir the folder the text should name
 * @returns the cause and a message; for an unknown cause the message carries the output itself
 */
export function explainOutput(output: string, dataDir: string): Failure {
  for (const cause of KNOWN_CAUSES) {
    const match = cause.pattern.exec(output);
    if (match) return { kind: cause.kind ?? "final", message: `${cause.explain(dataDir, match)}${quote(output)}` };
  }
  return { kind: "final", message: `PostgreSQL did not start in ${dataDir}.${quote(output)}` };
}

/**
 * Turns an error of the file system into what a user should read; anything else comes back as it was.
 * @param error what was thrown
 * @param dataDir the folder the text should name
 */
export function explainError(error: unknown, dataDir: string): unknown {
  if (error instanceof EmbeddedPostgresError) return error;
  const { code, path } = errnoOf(error);
  const where = path ?? dataDir;
  if (code === "ENOSPC" || code === "EDQUOT") return new EmbeddedPostgresError(diskFull(dataDir));
  if (code === "EACCES" || code === "EPERM") return new EmbeddedPostgresError(noPermission(where));
  if (code === "EROFS") {
    return new EmbeddedPostgresError(
      `${where} is on a read-only file system. Set DATA_DIR to a folder that can be written. ${OWN_SERVER}`,
    );
  }
  if (code === "ENOTDIR" || code === "EEXIST") {
    return new EmbeddedPostgresError(`${where} is in the way: a folder is needed there. Move it, or set DATA_DIR.`);
  }
  return error;
}

/** The errno name and the path of a file-system or spawn error; empty for anything else. */
export function errnoOf(error: unknown): { code?: string; path?: string } {
  if (!(error instanceof Error)) return {};
  const { code, path } = error as NodeJS.ErrnoException;
  return { ...(typeof code === "string" && { code }), ...(typeof path === "string" && { path }) };
}

/**
 * The sentence for a folder that another server has.
 * @param serverPid the PostgreSQL process
 * @param ownerPid the process that started it, when known
 */
export function inUse(dataDir: string, serverPid: number, ownerPid?: number): string {
  const starter = ownerPid === undefined ? "" : `, started by process ${ownerPid}`;
  return (
    `The data folder ${dataDir} is in use by PostgreSQL with pid ${serverPid}${starter}. ` +
    "Stop that one first, or set DATA_DIR to another folder to run a second service beside it."
  );
}

/** The message for a data folder that another major version of PostgreSQL wrote. */
export function otherMajor(dataDir: string, found: string, bundled: string): string {
  return [
    `The data folder ${dataDir} was written by PostgreSQL ${found}; this release brings ${bundled}, which can't read it. Nothing was changed.`,
    "To take the data along:",
    `  1. start PostgreSQL ${found} on the folder (an earlier release of this service, or: pg_ctl -D '${dataDir}' -o '-p 5433 -k /tmp' start)`,
    "  2. export: pg_dump --clean --if-exists --no-owner -h 127.0.0.1 -p 5433 -U sessions -f sessions.sql sessions",
    `     (the password is in ${dataDir}/sessions.password)`,
    `  3. stop it and move the folder away: mv '${dataDir}' '${dataDir}.${found}'`,
    "  4. start this service, which makes an empty database and prints its URL",
    "  5. import: psql '<that URL>' -f sessions.sql, then start the service again",
    OWN_SERVER,
  ].join("\n");
}

function diskFull(dataDir: string): string {
  return (
    `The disk that holds ${dataDir} is full${freeSpace(dataDir)}: a new data folder takes about 60 MB, ` +
    "and the log of changes up to 1 GB more. Free some space, or set DATA_DIR to a folder on another disk."
  );
}

function freeSpace(dataDir: string): string {
  // The folder itself may not exist yet; its parent then tells the same.
  for (const folder of [dataDir, `${dataDir}/..`]) {
    try {
      const stats = statfsSync(folder);
      return ` (${Math.floor((stats.bavail * stats.bsize) / 2 ** 20)} MB left)`;
    } catch {}
  }
  return "";
}

function noPermission(where: string): string {
  return (
    `The user the database runs as is not allowed to use ${where}. Start the service as the user who owns the folder, ` +
    `give it to that user (chown -R), or set DATA_DIR to another folder. ${OWN_SERVER}`
  );
}

function quote(output: string): string {
  const text = output.trim();
  return text === "" ? "" : `\nPostgreSQL said:\n${text.replace(/^/gm, "  ")}`;
}
