import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
} from "node:fs";
import path from "node:path";
import { EmbeddedPostgresError, errnoOf, OWN_SERVER } from "./postgres-error.ts";
import { type Account, runPlain } from "./postgres-process.ts";

/** Where the cluster is, and as whom PostgreSQL runs (undefined: as the user of this process). */
export interface Home {
  dataDir: string;
  account: Account | undefined;
}

/**
 * Settles where the cluster lies and which user it runs as, and makes the folders above it.
 * PostgreSQL refuses to run as root: root's choice is the owner of an existing cluster, else `postgres` or `nobody`.
 * @param wanted absolute path of the data folder
 * @param fallbackRoot where the data goes when that user can't reach the wanted folder
 * @param notice told when the data goes elsewhere
 * @throws EmbeddedPostgresError when there is no such user or no such place
 */
export async function chooseHome(wanted: string, fallbackRoot: string, notice: (line: string) => void): Promise<Home> {
  makeFolders(path.dirname(wanted));
  if (process.geteuid?.() !== 0) return { dataDir: realPath(wanted), account: undefined };
  const spare = path.join(fallbackRoot, spareName(wanted));
  const moved = !holdsCluster(wanted) && holdsCluster(spare);
  const home = moved ? undefined : await homeAt(wanted);
  if (home !== undefined) return home;
  if (holdsCluster(wanted)) {
    throw new EmbeddedPostgresError(
      `The data folder ${wanted} can't be reached by the user PostgreSQL must run as, because a folder above it is ` +
        "closed to others. Open it (chmod o+x), or move the data folder and set DATA_DIR.",
    );
  }
  makeFolders(fallbackRoot);
  const elsewhere = await homeAt(spare);
  if (elsewhere === undefined) {
    throw new EmbeddedPostgresError(
      `Neither ${wanted} nor ${spare} can be reached by an ordinary user, as whom PostgreSQL must run. ` +
        `Set DATA_DIR to a folder whose parents are open to all (chmod o+x). ${OWN_SERVER}`,
    );
  }
  const why = moved
    ? "an earlier start put the data there"
    : "PostgreSQL can't run as root, and a folder above the latter is closed to other users";
  notice(`The database is in ${elsewhere.dataDir} instead of ${wanted}: ${why}.`);
  return elsewhere;
}

/** Whether a cluster lies in the folder, whole or not. */
export function holdsCluster(dataDir: string): boolean {
  return existsSync(path.join(dataDir, "PG_VERSION"));
}

async function homeAt(folder: string): Promise<Home | undefined> {
  const dataDir = realPath(folder);
  const owner = holdsCluster(dataDir) ? statSync(dataDir) : undefined;
  const account = owner !== undefined && owner.uid !== 0 ? { uid: owner.uid, gid: owner.gid } : unprivileged();
  if (!(await canReach(path.dirname(dataDir), account))) return undefined;
  // A cluster that root restored from a backup, say: the server insists on owning it.
  if (owner?.uid === 0) giveTree(dataDir, account);
  return { dataDir, account };
}

/** An account that exists already; making one is not this program's business. */
function unprivileged(): Account {
  const entries = passwd();
  const entry = entries.find(([name]) => name === "postgres") ?? entries.find(([name]) => name === "nobody");
  const uid = Number(entry?.[2]);
  const gid = Number(entry?.[3]);
  if (Number.isInteger(uid) && Number.isInteger(gid) && uid !== 0) return { uid, gid };
  throw new EmbeddedPostgresError(
    "PostgreSQL can't run as root, and /etc/passwd has neither `postgres` nor `nobody` to run it as. " +
      `Start the service as an ordinary user. ${OWN_SERVER}`,
  );
}

function passwd(): string[][] {
  try {
    return readFileSync("/etc/passwd", "utf8")
      .split("\n")
      .map((line) => line.split(":"));
  } catch {
    return [];
  }
}

/** Asked of the kernel, as that user: permission bits alone don't tell (access lists, user namespaces). */
async function canReach(folder: string, account: Account): Promise<boolean> {
  const { code, error } = await runPlain("/bin/sh", ["-c", 'cd "$1"', "sh", folder], account);
  if (error) throw explainSwitch(error);
  return code === 0;
}

/** Why this process can't start another as the account. */
function explainSwitch(error: Error): Error {
  if (!["EPERM", "EINVAL"].includes(errnoOf(error).code ?? "")) return error;
  return new EmbeddedPostgresError(
    "PostgreSQL can't run as root, and this process may not switch to another user (a container without the " +
      `capability SETUID?). Start the service as an ordinary user. ${OWN_SERVER}`,
  );
}

/** `mkdir -p` whose new folders can be passed by other users: `recursive` would give every level the same mode. */
function makeFolders(folder: string): void {
  if (existsSync(folder)) return;
  makeFolders(path.dirname(folder));
  try {
    mkdirSync(folder);
    chmodSync(folder, 0o755);
  } catch (error) {
    // Another process may have been faster.
    if (errnoOf(error).code !== "EEXIST" || !existsSync(folder)) throw error;
  }
}

/** Without symbolic links, as the kernel reports working folders; the last part need not exist. */
function realPath(folder: string): string {
  if (existsSync(folder)) return realpathSync(folder);
  return path.join(realpathSync(path.dirname(folder)), path.basename(folder));
}

/** One name per wanted folder: two services whose folders are out of reach must not share one database. */
function spareName(wanted: string): string {
  const readable = wanted.split(path.sep).filter(Boolean).join("-");
  if (readable.length <= 100) return readable;
  return `${readable.slice(-80)}-${createHash("sha256").update(wanted).digest("hex").slice(0, 12)}`;
}

function giveTree(folder: string, { uid, gid }: Account): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) giveTree(file, { uid, gid });
    else lchownSync(file, uid, gid);
  }
  chownSync(folder, uid, gid);
}
