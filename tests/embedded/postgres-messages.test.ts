import { describe, expect, it } from "vitest";
import { explainError, explainOutput, otherMajor } from "../../src/embedded/postgres-error.ts";

const DIR = "/srv/app/.data/postgres";

/** What PostgreSQL 18 prints → what a user can do about it. */
const CASES: readonly [cause: string, output: string, kind: string, says: RegExp][] = [
  [
    "a port in use",
    'LOG:  could not bind IPv4 address "127.0.0.1": Address already in use\nFATAL:  could not create any TCP/IP sockets',
    "port",
    /port/,
  ],
  ["a port that needs root", 'LOG:  could not bind IPv4 address "127.0.0.1": Permission denied', "port", /port/],
  [
    "processes that outlived their server",
    "FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use",
    "leftover",
    /earlier PostgreSQL/,
  ],
  [
    "a server on the folder",
    'FATAL:  lock file "postmaster.pid" already exists\nHINT:  Is another postmaster (PID 4711) running in data directory "/x"?',
    "final",
    /pid 4711.*DATA_DIR/,
  ],
  ["a full disk", 'FATAL:  could not write lock file "postmaster.pid": No space left on device', "final", /is full/],
  [
    "a full disk, short write",
    "FATAL:  could not extend file: wrote only 4096\nHINT:  Check free disk space.",
    "final",
    /is full/,
  ],
  [
    "a user without an entry",
    "initdb: could not look up effective user ID 54321: user does not exist",
    "final",
    /54321.*DATABASE_URL/,
  ],
  [
    "no memory",
    "FATAL:  could not map anonymous shared memory: Cannot allocate memory",
    "final",
    /memory.*DATABASE_URL/,
  ],
  ["a foreign folder", `FATAL:  data directory "${DIR}" has wrong ownership`, "final", /chown/],
  ["damaged files", "PANIC:  could not locate a valid checkpoint record at 0/1", "final", /backup/],
];

describe("what PostgreSQL prints when it does not start", () => {
  it.each(CASES)("is explained for %s", (_cause, output, kind, says) => {
    const failure = explainOutput(output, DIR);
    expect(failure.kind).toBe(kind);
    expect(failure.message.split("\n")[0]).toMatch(says);
  });

  it("is passed on whole when the cause is not a known one", () => {
    expect(explainOutput('FATAL:  unrecognized configuration parameter "nope"', DIR).message).toContain(
      'parameter "nope"',
    );
  });
});

describe("an error of the file system", () => {
  it.each([
    ["ENOSPC", /is full/],
    ["EACCES", /chown/],
    ["EROFS", /read-only/],
    ["ENOTDIR", /in the way/],
  ])("%s is explained", (code, says) => {
    const error = Object.assign(new Error(code), { code, path: DIR });
    expect(explainError(error, DIR)).toMatchObject({
      name: "EmbeddedPostgresError",
      message: expect.stringMatching(says),
    });
  });

  it("that says nothing about the user's machine stays a bug with its stack", () => {
    const bug = new TypeError("x is not a function");
    expect(explainError(bug, DIR)).toBe(bug);
  });
});

describe("a data folder of another major version", () => {
  it("can be exported with its own and imported with the bundled one", () => {
    const message = otherMajor(DIR, "17", "18.4");
    expect(message).toContain(`pg_ctl -D '${DIR}'`);
    expect(message).toMatch(/pg_dump [\s\S]*mv [\s\S]*psql /);
  });
});
