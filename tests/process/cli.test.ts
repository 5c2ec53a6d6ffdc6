/** The command line, as a person meets it. */

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeAll, describe, expect, inject, it, vi } from "vitest";
import { run as runHere } from "../../src/cli.ts";
import { settings } from "../../src/config.ts";
import { createDatabase } from "../support/database.ts";
import { until } from "../support/until.ts";

const program = fileURLToPath(new URL("../../bin/session-service.cjs", import.meta.url));

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(args: string[], env: Record<string, string> = {}): Promise<Result> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [program, ...args],
      { env: { PATH: process.env["PATH"], ...env } },
      (_, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

describe("session-service", () => {
  beforeAll(() => run(["--version"]), 60_000);

  it("--help names every command and every setting", async () => {
    const { code, stdout } = await run(["--help"]);
    expect(code).toBe(0);
    for (const word of ["serve", "migrate", "openapi", "state-machine", ...Object.keys(settings)])
      expect(stdout).toMatch(new RegExp(`^ +${word} +\\w`, "m"));
  });

  it("--version is the package's", async () => {
    expect((await run(["--version"])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it("an unknown command or option is told, with the usage", async () => {
    for (const args of [["sevre"], ["serve", "now"], ["--port", "1"]]) {
      const { code, stderr } = await run(args);
      expect(code).toBeGreaterThan(0);
      expect(stderr).toContain("Usage: session-service");
    }
  });

  it("bad settings are named all at once, without their secrets", async () => {
    const { code, stderr } = await run(["serve"], {
      PORT: "http",
      LOG_LEVEL: "loud",
      API_KEYS: "short",
      DATABASE_URL: "mysql://u:secret@x",
    });
    expect(code).toBe(1);
    for (const name of ["PORT", "LOG_LEVEL", "API_KEYS", "DATABASE_URL"])
      expect(stderr).toMatch(new RegExp(`${name} must .*, for example ${name}=`));
    expect(stderr).not.toContain("secret");
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it("a taken port is told before any engine is started, with who has it", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const address = server.address();
    const port = typeof address === "object" ? String(address?.port) : "";
    try {
      const { code, stderr } = await run(["serve"], { PORT: port, DATA_DIR: "/nonexistent/never/made" });
      expect(code).toBe(1);
      expect(stderr).toContain(`127.0.0.1:${port} is taken`);
      if (process.platform === "linux") expect(stderr).toContain(`by process ${process.pid}`);
    } finally {
      server.close();
    }
  });

  it("migrate makes the tables, says so, and can be run again", async () => {
    const database = await createDatabase({ empty: true });
    try {
      for (const _ of [1, 2]) {
        expect(await run(["migrate"], { DATABASE_URL: database.url })).toEqual({
          code: 0,
          stdout: "The tables are up to date.\n",
          stderr: "",
        });
      }
      expect(await database.sql`select * from sessions`).toEqual([]);
    } finally {
      await database.drop();
    }
    expect((await run(["migrate"])).stderr).toContain("DATABASE_URL");
  });

  it("a database that refuses is told in a sentence, not in a stack", async () => {
    const database = await createDatabase({ empty: true });
    const none = new URL(database.url);
    none.pathname = "no_such_database";
    const { code, stderr } = await run(["migrate"], { DATABASE_URL: none.href });
    await database.drop();
    expect(code).toBe(1);
    expect(stderr).toMatch(/DATABASE_URL names can't be used: .*no_such_database/);
    expect(stderr).not.toMatch(/^\s+at /m);
    const password = new URL(database.url).password;
    if (password !== "") expect(stderr).not.toContain(password);
  });
});

describe("the same, in this process", () => {
  afterEach(() => {
    vi.restoreAllMocks();
    vi.unstubAllEnvs();
  });

  function listen(): { stdout: () => string; stderr: () => string } {
    const stdout = vi.spyOn(process.stdout, "write").mockReturnValue(true);
    const stderr = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    return {
      stdout: () => stdout.mock.calls.map(([text]) => text).join(""),
      stderr: () => stderr.mock.calls.map(([text]) => text).join(""),
    };
  }

  it("--help, --version and mistakes end with the right code", async () => {
    const output = listen();
    expect(await runHere(["--help"], "1.2.3")).toBe(0);
    expect(await runHere(["-v"], "1.2.3")).toBe(0);
    expect(output.stdout()).toMatch(/Usage: session-service[\s\S]*1\.2\.3\n$/);
    expect(await runHere(["sevre"], "1.2.3")).toBe(2);
    expect(await runHere(["--nope"], "1.2.3")).toBe(1);
    expect(await runHere(["migrate"], "1.2.3")).toBe(2);
    vi.stubEnv("PORT", "x");
    expect(await runHere(["serve"], "1.2.3")).toBe(1);
    expect(output.stderr()).toMatch(/There is no command "sevre"[\s\S]*PORT must be/);
  });

  it("migrate tells a database that can't be reached", async () => {
    const output = listen();
    vi.stubEnv("DATABASE_URL", "postgres://nobody@127.0.0.1:1/x");
    expect(await runHere(["migrate"], "1.2.3")).toBe(1);
    expect(output.stderr()).toBe("The database can't be reached (ECONNREFUSED): check DATABASE_URL.\n");
  });

  it("openapi writes the files that are checked in", async () => {
    listen();
    const project = process.cwd();
    const folder = mkdtempSync(join(tmpdir(), "session-openapi-"));
    process.chdir(folder);
    try {
      expect(await runHere(["openapi"], "1.2.3")).toBe(0);
      for (const name of ["openapi/openapi.json", "openapi/openapi.yaml", "openapi/asyncapi.yaml"]) {
        expect(readFileSync(join(folder, name), "utf8")).toBe(readFileSync(join(project, name), "utf8"));
      }
    } finally {
      process.chdir(project);
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("serve goes until it is told to stop", async () => {
    const output = listen();
    const database = await createDatabase();
    const settings = {
      DATABASE_URL: database.url,
      REDIS_URL: inject("redisUrl"),
      PORT: "0",
      LOG_LEVEL: "silent",
      STOP_DELAY_MS: "1",
    };
    for (const [name, value] of Object.entries(settings)) vi.stubEnv(name, value);
    const before = new Map(
      ["SIGINT", "SIGTERM"].map((signal) => [signal, process.listeners(signal as NodeJS.Signals)]),
    );
    try {
      for (const signal of ["SIGINT", "SIGTERM"] as const) {
        const ended = runHere(["serve"], "1.2.3");
        await until(() => output.stdout().includes("Events "), "it to serve");
        const added = process.listeners(signal).filter((listener) => !before.get(signal)?.includes(listener));
        for (const listener of added) (listener as () => void)();
        expect(await ended).toBe(0);
        vi.mocked(process.stdout.write).mockClear();
        for (const [name, known] of before) {
          for (const listener of process.listeners(name as NodeJS.Signals)) {
            if (!known.includes(listener)) process.off(name, listener);
          }
        }
      }
    } finally {
      await database.drop();
    }
  });
});
