import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import postgres, { type Sql } from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { locatePackage } from "../../src/embedded/postgres-binaries.ts";
import { EmbeddedPostgresError } from "../../src/embedded/postgres-error.ts";

const IS_ROOT = process.geteuid?.() === 0;
const ON_LINUX = process.platform === "linux";
const NOBODY = 65_534;
const MODULE = pathToFileURL(path.resolve("src/embedded/postgres.ts")).href;
const flags = ["fsync=off"];

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

/** A cluster for the tests that start and stop a server, and leave the folder fit for the next. */
let usedBefore: string;

beforeAll(async () => {
  const folder = mkdtempSync(path.join(realpathSync(tmpdir()), "embedded-postgres-"));
  chmodSync(folder, 0o755);
  usedBefore = path.join(folder, "postgres");
  await (await startEmbeddedPostgres({ dataDir: usedBefore, flags })).stop();
});

afterAll(() => {
  rmSync(path.dirname(usedBefore), { recursive: true, force: true, maxRetries: 5 });
});

function scratch(): string {
  const folder = realpathSync(mkdtempSync(path.join(tmpdir(), "embedded-postgres-")));
  chmodSync(folder, 0o755);
  undo.push(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

async function start(...args: Parameters<typeof startEmbeddedPostgres>): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ flags, ...args[0] }, args[1]);
  undo.push(() => server.stop());
  return server;
}

function connect(url: string): Sql {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  undo.push(() => sql.end({ timeout: 0 }));
  return sql;
}

/** A service of its own: starts the database, says so on its standard output, and outlives Ctrl-C. */
function service(dataDir: string, as: { uid?: number; gid?: number } = {}) {
  const script = `
    process.on("SIGINT", () => console.log("interrupted"));
    const { startEmbeddedPostgres } = await import(${JSON.stringify(MODULE)});
    const server = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)}, flags: ["fsync=off"] });
    console.log(JSON.stringify(server));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
    ...as,
  });
  undo.push(() => child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async () => String((await lines.next()).value);
  return { child, line, ready: async () => JSON.parse(await line()) as EmbeddedPostgres };
}

async function kill(child: ChildProcess): Promise<void> {
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

/** Processes at work in a folder, or started with it on their command line. Zombies have neither. */
function processesOf(folder: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(folder);
    } catch {
      return false;
    }
  });
}

async function until(what: string, isSo: () => boolean, deadlineMs = 10_000): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!isSo()) {
    if (performance.now() > end) throw new Error(`${what}: not within ${deadlineMs} ms`);
    await sleep(5);
  }
}

async function refusal(attempt: Promise<unknown>): Promise<string> {
  const error = await attempt.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(EmbeddedPostgresError);
  return (error as Error).message;
}

/** A package folder as `npm ci --ignore-scripts` leaves it: without symbolic links. Hard links where that is possible. */
function packageWithoutLinks(target: string, source = locatePackage(`${process.platform}-${process.arch}`)): string {
  mkdirSync(target);
  for (const entry of readdirSync(source, { withFileTypes: true })) {
    const [from, to] = [path.join(source, entry.name), path.join(target, entry.name)];
    if (entry.isDirectory()) packageWithoutLinks(to, from);
    else if (entry.isFile()) {
      try {
        linkSync(from, to);
      } catch {
        copyFileSync(from, to);
      }
    }
  }
  return target;
}

describe("a data folder", () => {
  it("keeps its rows, its password and its port from one start to the next", async () => {
    const dataDir = path.join(scratch(), "not", "there", "yet", "postgres");
    const first = await start({ dataDir, flags: [] });
    const before = connect(first.url);
    await before`CREATE TABLE kept AS SELECT 'Grüße' AS word`;
    const [settings] = await before`
      SELECT current_setting('fsync') AS fsync, current_setting('server_encoding') AS encoding, current_user AS me,
        current_database() AS here, (SELECT datcollate FROM pg_database WHERE datname = current_database()) AS collation,
        current_setting('listen_addresses') AS address, current_setting('unix_socket_directories') AS sockets,
        current_setting('dynamic_shared_memory_type') AS memory, current_setting('max_parallel_workers_per_gather') AS parallel`;
    expect(settings).toEqual({
      fsync: "on",
      encoding: "UTF8",
      me: "sessions",
      here: "sessions",
      collation: "C",
      address: "127.0.0.1",
      sockets: "",
      memory: "mmap",
      parallel: "0",
    });
    // Of initdb's own making: it needs the same before there are any settings (a /dev/shm of 64 kB must do).
    expect(readFileSync(path.join(dataDir, "postgresql.conf"), "utf8")).toMatch(/^dynamic_shared_memory_type = mmap/m);
    await first.stop();

    const second = await start({ dataDir });
    expect(second.url).toBe(first.url);
    expect(await connect(second.url)`SELECT word FROM kept`).toEqual([{ word: "Grüße" }]);
    expect(statSync(path.join(dataDir, "sessions.password")).mode & 0o777).toBe(0o600);
    expect(statSync(path.dirname(dataDir)).mode & 0o777).toBe(0o755);
  });

  it("lets nobody in without its password, and gets a new one when that was lost", async () => {
    const dataDir = usedBefore;
    const first = await start({ dataDir });
    const wrong = connect(first.url.replace(/:[^:@]+@/, ":guess@"));
    await expect(wrong`SELECT 1`).rejects.toMatchObject({ code: "28P01" });
    await first.stop();
    rmSync(path.join(dataDir, "sessions.password"));
    const second = await start({ dataDir });
    expect(second.url).not.toBe(first.url);
    expect(await connect(second.url)`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });

  it("that another major version wrote is left as it is, with the way to take the data along", async () => {
    const dataDir = path.join(scratch(), "postgres");
    mkdirSync(dataDir);
    writeFileSync(path.join(dataDir, "PG_VERSION"), "17\n");
    const message = await refusal(start({ dataDir }));
    expect(message).toContain("PostgreSQL 17");
    expect(message).toMatch(/pg_dump .*sessions\.sql[\s\S]*psql .*sessions\.sql/);
    expect(message).toContain("DATABASE_URL");
    expect(readdirSync(dataDir)).toEqual(["PG_VERSION"]);
  });

  it("with other files in it is left as it is", async () => {
    const dataDir = path.join(scratch(), "postgres");
    mkdirSync(dataDir);
    writeFileSync(path.join(dataDir, "thesis.txt"), "");
    expect(await refusal(start({ dataDir }))).toContain("Move them away");
    expect(readdirSync(dataDir)).toEqual(["thesis.txt"]);
  });

  it("in use by another service is refused with the pids of both, and that service goes on undisturbed", async () => {
    const dataDir = usedBefore;
    const first = await start({ dataDir });
    const sql = connect(first.url);
    const [before] = await sql`SELECT pg_backend_pid() AS pid`;
    const message = await refusal(start({ dataDir }));
    expect(message).toContain(`pid ${first.pid}`);
    expect(message).toContain(`process ${process.pid}`);
    expect(await sql`SELECT pg_backend_pid() AS pid`).toEqual([before]);
    expect(await connect(first.url)`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });
});

describe("the server", () => {
  it("listens elsewhere, and says so, when its port is taken", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    undo.push(() => other.close());
    const { port } = other.address() as { port: number };
    const notice = vi.fn();
    const server = await start({ dataDir: usedBefore, port, notice });
    expect(server.port).not.toBe(port);
    expect(notice).toHaveBeenCalledWith(expect.stringContaining(`Port ${port}`));
    expect(await connect(server.url)`SELECT 1 AS one`).toEqual([{ one: 1 }]);
    await server.stop();
    other.close();
    await once(other, "close");
    expect(await start({ dataDir: usedBefore, port })).toMatchObject({ port });
  });

  it("stops quickly under open connections, once for however many calls, and is then wholly gone", async () => {
    const dataDir = usedBefore;
    const onExit = vi.fn();
    const server = await start({ dataDir, onExit });
    const sql = connect(server.url);
    await sql`SELECT 1`;
    const busy = sql`SELECT pg_sleep(60)`.then(
      () => "done",
      () => "ended",
    );
    const began = performance.now();
    await Promise.all([server.stop(), server.stop()]);
    expect(performance.now() - began).toBeLessThan(3_000);
    expect(await busy).toBe("ended");
    expect(() => process.kill(server.pid, 0)).toThrow("ESRCH");
    if (ON_LINUX) expect(processesOf(dataDir)).toEqual([]);
    await server.stop();
    expect(onExit).not.toHaveBeenCalled();
    expect(existsSync(path.join(dataDir, "postmaster.pid"))).toBe(false);
  });

  it("that is killed is reported, and the next start recovers its rows", async () => {
    const dataDir = usedBefore;
    const messages: string[] = [];
    const server = await start({ dataDir, onExit: (message) => messages.push(message) });
    const sql = connect(server.url);
    await sql`CREATE TABLE recovered AS SELECT 1 AS one`;
    process.kill(server.pid, "SIGKILL");
    await until("the report", () => messages.length === 1);
    expect(messages[0]).toContain("signal 9");
    const again = await start({ dataDir });
    expect(await connect(again.url)`SELECT one FROM recovered`).toEqual([{ one: 1 }]);
  });

  it.skipIf(!ON_LINUX)("starts over the lock of a crash, also when its pid is another process's by now", async () => {
    const dataDir = usedBefore;
    const first = await start({ dataDir });
    const lock = readFileSync(path.join(dataDir, "postmaster.pid"), "utf8");
    await first.stop();
    // PostgreSQL alone takes only a process of its own user for a server.
    const { uid, gid } = statSync(dataDir);
    const other = spawn("sleep", ["600"], { stdio: "ignore", ...(IS_ROOT && { uid, gid }) });
    undo.push(() => other.kill("SIGKILL"));
    for (const stale of [lock.replace(/^\d+/, String(other.pid)), ""]) {
      writeFileSync(path.join(dataDir, "postmaster.pid"), stale);
      if (IS_ROOT) chownSync(path.join(dataDir, "postmaster.pid"), uid, gid);
      const again = await start({ dataDir });
      expect(await connect(again.url)`SELECT 1 AS one`).toEqual([{ one: 1 }]);
      await again.stop();
    }
    expect(other.exitCode ?? other.signalCode).toBeNull();
  });
});

describe.skipIf(!ON_LINUX)("a service", () => {
  it("still has its database when Ctrl-C tells it to drain; kill -9 leaves nothing but the rows", async () => {
    const dataDir = usedBefore;
    const { child, line, ready } = service(dataDir);
    const { url } = await ready();
    const sql = connect(url);
    await sql`CREATE TABLE acknowledged (n integer)`;
    process.kill(-child.pid!, "SIGINT");
    expect(await line()).toBe("interrupted");
    await sql`SELECT pg_sleep(0.2)`;
    let acknowledged = 0;
    const writing = (async () => {
      for (;;) {
        await sql`INSERT INTO acknowledged VALUES (${acknowledged})`;
        acknowledged++;
      }
    })().catch(() => {});
    await until("some rows", () => acknowledged > 50);
    await kill(child);
    const killed = performance.now();
    const again = await start({ dataDir });
    expect(performance.now() - killed).toBeLessThan(5_000);
    await writing;
    const [row] = await connect(again.url)`SELECT count(*)::int AS rows FROM acknowledged`;
    expect(row!["rows"]).toBeGreaterThanOrEqual(acknowledged);
  });

  it("that is killed with -9 takes all processes of the database with it in about a second", async () => {
    const dataDir = usedBefore;
    const { child, ready } = service(dataDir);
    const { url } = await ready();
    await connect(url)`SELECT 1`;
    expect(processesOf(dataDir)).not.toEqual([]);
    await kill(child);
    await until("the end of every process", () => processesOf(dataDir).length === 0, 3_000);
    expect(existsSync(path.join(dataDir, "postmaster.pid"))).toBe(false);
  });

  it("that fails and forgets its database ends all the same, and the database with it", async () => {
    const script = `
      const { startEmbeddedPostgres } = await import(${JSON.stringify(MODULE)});
      await startEmbeddedPostgres({ dataDir: ${JSON.stringify(usedBefore)}, flags: ["fsync=off"] });
      process.exitCode = 3;`;
    const args = ["--import", "tsx", "--input-type=module", "-e", script];
    const child = spawn(process.execPath, args, { stdio: "ignore" });
    undo.push(() => child.kill("SIGKILL"));
    expect(await once(child, "exit")).toEqual([3, null]);
    await until("the end of every process", () => processesOf(usedBefore).length === 0, 3_000);
  });

  it("that comes up while the server of a killed one is still ending waits for that, and says so", async () => {
    const dataDir = usedBefore;
    const { child, ready } = service(dataDir);
    const { pid } = await ready();
    process.kill(pid, "SIGSTOP");
    await kill(child);
    const notice = vi.fn();
    const starting = start({ dataDir, notice });
    await until("the notice", () => notice.mock.calls.length > 0).finally(() => process.kill(pid, "SIGCONT"));
    expect(notice).toHaveBeenCalledWith(expect.stringMatching(new RegExp(`\\b${pid}\\b.*waiting`)));
    expect(await connect((await starting).url)`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });

  it("that is killed while it makes the cluster does not keep the next one from starting", async () => {
    const folder = scratch();
    const dataDir = path.join(folder, "postgres");
    const { child } = service(dataDir);
    const half = () => readdirSync(folder).find((name) => existsSync(path.join(folder, name, "cluster", "PG_VERSION")));
    await until("half a cluster", () => half() !== undefined);
    await kill(child);
    expect(existsSync(dataDir)).toBe(false);
    const server = await start({ dataDir });
    expect(await connect(server.url)`SELECT 1 AS one`).toEqual([{ one: 1 }]);
    await server.stop();
    // An initdb that was still ending may have kept the first of them from removing all.
    await until("the end of initdb", () => processesOf(`${dataDir}.init`).length === 0);
    await start({ dataDir });
    expect(readdirSync(folder)).toEqual(["postgres"]);
  });

  it.skipIf(!IS_ROOT)("of an ordinary user runs the database as that user (needs root to become one)", async () => {
    const folder = scratch();
    chownSync(folder, NOBODY, NOBODY);
    const { ready } = service(path.join(folder, "data", "postgres"), { uid: NOBODY, gid: NOBODY });
    const server = await ready();
    expect(statSync(`/proc/${server.pid}`).uid).toBe(NOBODY);
    expect(await connect(server.url)`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });
});

describe("the programs", () => {
  it("get the links that an install without scripts left out", async () => {
    const packageRoot = packageWithoutLinks(path.join(scratch(), "package"));
    const library = path.join(packageRoot, "native", "lib", ON_LINUX ? "libpq.so.5" : "libpq.5.dylib");
    expect(existsSync(library)).toBe(false);
    const server = await start({ dataDir: path.join(scratch(), "postgres") }, { packageRoot, copyPlaces: [] });
    expect(existsSync(library)).toBe(true);
    expect(await connect(server.url)`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });

  it("name the way out on a platform that has none", () => {
    expect(() => locatePackage("freebsd-x64")).toThrow(/freebsd-x64.*DATABASE_URL/);
    expect(() => locatePackage("win32-x64")).toThrow(/npm ci.*DATABASE_URL/);
  });

  it("whose loader is missing, as on Alpine, are told apart from any other failure", async () => {
    const packageRoot = path.join(scratch(), "package");
    mkdirSync(path.join(packageRoot, "native", "bin"), { recursive: true });
    for (const name of ["postgres", "initdb"]) {
      writeFileSync(path.join(packageRoot, "native", "bin", name), "#!/lib64/no-such-loader\n", { mode: 0o755 });
    }
    const message = await refusal(start({ dataDir: path.join(scratch(), "postgres") }, { packageRoot }));
    expect(message).toMatch(/musl.*DATABASE_URL/);
  });
});

describe.skipIf(!IS_ROOT)("below a folder that only root may enter (needs root)", () => {
  it("a copy of the programs is run, the data lies elsewhere, and the user is told", async () => {
    const open = scratch();
    const closed = scratch();
    const packageRoot = packageWithoutLinks(path.join(closed, "package"));
    chmodSync(closed, 0o700);
    const [theirs, ours] = [path.join(open, "theirs"), path.join(open, "ours")];
    const planted = path.join(theirs, `session-service-postgres-${packageVersion(packageRoot)}-0`);
    mkdirSync(planted, { recursive: true });
    chownSync(planted, NOBODY, NOBODY);
    const notice = vi.fn();
    const dataDir = path.join(closed, ".data", "postgres");
    const surroundings = { packageRoot, fallbackRoot: path.join(open, "var"), copyPlaces: [theirs, ours] };
    const server = await start({ dataDir, notice }, surroundings);

    expect(path.dirname(server.dataDir)).toBe(path.join(open, "var"));
    expect(notice).toHaveBeenCalledWith(expect.stringContaining(`${server.dataDir} instead of ${dataDir}`));
    expect(statSync(`/proc/${server.pid}`).uid).not.toBe(0);
    expect(readdirSync(planted)).toEqual([]);
    const [copy] = readdirSync(ours);
    expect(statSync(path.join(ours, copy!))).toMatchObject({ uid: 0 });
    expect(statSync(path.join(ours, copy!)).mode & 0o022).toBe(0);
    expect(await connect(server.url)`SELECT 1 AS one`).toEqual([{ one: 1 }]);
    await server.stop();

    // What a cleaner of temporary folders took away is put back.
    rmSync(path.join(ours, copy!, "lib", "libpq.so.5"));
    const again = await start({ dataDir }, surroundings);
    expect(again.url).toBe(server.url);
    expect(existsSync(path.join(ours, copy!, "lib", "libpq.so.5"))).toBe(true);
  });

  it("a full disk is called one, and nothing of the attempt stays on it", async ({ skip }) => {
    const folder = scratch();
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], { stdio: "ignore" });
    } catch {
      skip("this machine may not mount a small disk");
    }
    undo.push(() => execFileSync("umount", [folder]));
    expect(await refusal(start({ dataDir: path.join(folder, "postgres") }))).toMatch(/disk .*is full/);
    expect(readdirSync(folder)).toEqual([]);
  });
});

function packageVersion(packageRoot: string): string {
  return (JSON.parse(readFileSync(path.join(packageRoot, "package.json"), "utf8")) as { version: string }).version;
}
