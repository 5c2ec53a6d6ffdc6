import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { codeOf, importsOf, root, sourceFiles, textOf } from "./sources.ts";

const files = sourceFiles();

/** Pure: what they say of the lifecycle may be used by all that know sessions. */
const pure = new Set(["lifecycle", "vocabulary", "timers", "actions"].map((name) => `sessions/${name}.ts`));

/** The part of the house that a file belongs to: its folder, or its own name at the top. */
function partOf(file: string): string {
  if (pure.has(file)) return "pure";
  const [first = "", ...rest] = file.split("/");
  return rest.length > 0 ? first : first.replace(/\.ts$/, "");
}

const leaves = [
  "errors",
  "service-error",
  "json",
  "json-scan",
  "json-characters",
  "json-findings",
  "config",
  "log",
  "metrics",
];
const commands = ["sessions", "events", "access", "db", "pure", ...leaves];

/** What each part may import beside itself. A part that is not here may import nothing of ours. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  cli: ["main", "app", "documented-app", "http", "jobs", ...commands],
  main: ["runtime", "app", "http", "jobs", ...commands],
  runtime: ["embedded", "jobs", "http", ...commands],
  "documented-app": ["app", "http", ...commands],
  app: ["http", ...commands],
  http: commands,
  jobs: ["sessions", "access", "events", "db", "pure", ...leaves],
  access: ["sessions", "events", "db", "pure", ...leaves],
  sessions: ["events", "db", "pure", ...leaves],
  events: ["db", "pure", ...leaves],
  db: ["pure", ...leaves],
  errors: ["pure", "service-error"],
  "service-error": [],
  json: ["errors", "json-scan", "json-characters", "json-findings"],
  "json-scan": ["json-characters", "json-findings"],
};

describe("the sources", () => {
  it("are all seen, and what they import is there", () => {
    expect(files.length).toBeGreaterThan(25);
    const imported = files.flatMap((file) => importsOf(file).ours);
    expect(imported.length).toBeGreaterThan(files.length);
    expect([...new Set(imported)].filter((file) => !files.includes(file))).toEqual([]);
  });

  it("are imported by names that can be read here: no import() of an expression, no require() of a file", () => {
    const hidden = files.filter((file) => {
      const text = textOf(`src/${file}`);
      return /\bimport\(\s*[^)\s]/.test(codeOf(text)) || /\brequire\(\s*["'`]\./.test(text);
    });
    expect(hidden).toEqual([]);
  });

  it("import one way: main, cli → runtime → app → http → sessions | events | access → db; jobs → sessions | access | events", () => {
    const wrong = files.flatMap((file) => {
      const part = partOf(file);
      const allowed = new Set([part, ...(mayImport[part] ?? [])]);
      return importsOf(file)
        .ours.filter((other) => !allowed.has(partOf(other)))
        .map((other) => `${file} imports ${other}`);
    });
    expect(wrong).toEqual([]);
  });

  it("make no cycle, types counted", () => {
    expect(cycles()).toEqual([]);
  });

  it("have leaves that import nothing of ours: the lifecycle, settings, the log, the embedded engines", () => {
    const leafFiles = ["sessions/lifecycle.ts", "config.ts", "log.ts", "metrics.ts"];
    const there = leafFiles.filter((file) => files.includes(file));
    expect(there).toContain("sessions/lifecycle.ts");
    for (const file of there) expect(importsOf(file).ours, file).toEqual([]);
    for (const name of ["vocabulary", "timers", "actions"]) {
      expect(importsOf(`sessions/${name}.ts`).ours).toEqual(["sessions/lifecycle.ts"]);
    }
    for (const file of files.filter((one) => one.startsWith("embedded/"))) {
      expect(
        importsOf(file).ours.filter((other) => !other.startsWith("embedded/")),
        file,
      ).toEqual([]);
    }
  });

  it.each([
    ["fastify", /^(@fastify\/|fastify)/, /^(http\/|app\.ts$|cli\.ts$|documented-app\.ts$)/],
    ["the database's driver", /^(postgres$|drizzle-orm)/, /^db\//],
    ["the Redis client", /^ioredis$/, /^events\//],
  ])("know %s only where it belongs", (_, library, home) => {
    const users = files.filter((file) => importsOf(file).packages.some((name) => library.test(name)));
    expect(users.length).toBeGreaterThan(0);
    expect(users.filter((file) => !home.test(file))).toEqual([]);
  });
});

/** Each cycle once, as the chain of its files. */
function cycles(): string[] {
  const found = new Set<string>();
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string) => {
    const at = path.indexOf(file);
    if (at >= 0) found.add([...path.slice(at), file].join(" → "));
    if (at >= 0 || done.has(file)) return;
    path.push(file);
    for (const other of importsOf(file).ours) visit(other);
    path.pop();
    done.add(file);
  };
  for (const file of files) visit(file);
  return [...found];
}

/** An import that the table above forbids, for each part that has a rule; and the sentence that the linter says. */
const forbidden: readonly (readonly [file: string, specifier: string, sentence: RegExp])[] = [
  ["src/cli.ts", "./embedded/postgres.ts", /Only runtime\.ts starts the embedded engines/],
  ["src/cli.ts", "postgres", /The database is spoken to in db\//],
  ["src/main.ts", "./embedded/valkey.ts", /main\.ts puts runtime and app together/],
  ["src/runtime.ts", "./main.ts", /runtime\.ts is opened by main\.ts/],
  ["src/app.ts", "./runtime.ts", /app\.ts is built from what it is given/],
  ["src/app.ts", "./jobs/loop.ts", /app\.ts is built from what it is given/],
  ["src/config.ts", "./log.ts", /A leaf that everything may use/],
  ["src/log.ts", "./config.ts", /A leaf that everything may use/],
  ["src/errors.ts", "./config.ts", /The error catalogue is a leaf/],
  ["src/json.ts", "./sessions/row.ts", /Reading JSON needs the error catalogue/],
  ["src/http/guards.ts", "../jobs/loop.ts", /http\/ answers requests; what runs unasked is jobs\//],
  ["src/http/routes/sessions.ts", "../../app.ts", /http\/ is used by app\.ts and never looks up/],
  ["src/http/routes/sessions.ts", "../../db/schema.ts", /No SQL and no Redis in http\//],
  ["src/http/routes/sessions.ts", "ioredis", /No SQL and no Redis in http\//],
  ["src/sessions/read.ts", "../http/problem.ts", /Commands know neither who calls them nor HTTP/],
  ["src/sessions/read.ts", "fastify", /Commands know neither who calls them nor HTTP/],
  ["src/sessions/read.ts", "../events/broker.ts", /Commands don't know Redis/],
  ["src/sessions/read.ts", "drizzle-orm/pg-core", /Commands run statements through db\/client\.ts/],
  ["src/access/keys.ts", "../jobs/loop.ts", /Commands know neither who calls them nor HTTP/],
  ["src/sessions/lifecycle.ts", "./row.ts", /Pure: the state machine/],
  ["src/sessions/timers.ts", "../errors.ts", /Pure: the timers and the verbs/],
  ["src/sessions/actions.ts", "./row.ts", /Pure: the timers and the verbs/],
  ["src/sessions/vocabulary.ts", "./row.ts", /Pure: the vocabulary knows the phases/],
  ["src/events/relay.ts", "../http/etag.ts", /The road of an event leads from the database to Redis/],
  ["src/events/relay.ts", "../sessions/read.ts", /sessions\/ appends events/],
  ["src/events/relay.ts", "postgres", /Events are read through db\/client\.ts/],
  ["src/jobs/loop.ts", "../http/etag.ts", /jobs\/ runs unasked and serves nobody/],
  ["src/jobs/loop.ts", "ioredis", /A job calls commands/],
  ["src/jobs/loop.ts", "../events/broker.ts", /A job calls commands.*publishes nothing/],
  ["src/db/client.ts", "../sessions/row.ts", /db\/ is at the bottom/],
  ["src/db/client.ts", "ioredis", /db\/ knows neither HTTP nor Redis/],
  ["src/embedded/postgres.ts", "../log.ts", /The embedded engines import nothing of ours/],
];

interface Diagnostic {
  readonly category: string;
  readonly message: string;
  readonly location: { readonly path: string; readonly start: { readonly line: number } };
}

describe("the linter", () => {
  it("refuses an import that goes the wrong way, with a sentence for each folder, and lets the right ones through", () => {
    const allowed: readonly (readonly [file: string, specifier: string])[] = files.flatMap((file) =>
      importsOf(file).ours.map((other) => [`src/${file}`, relative(file, other)] as const),
    );
    const lines = new Map<string, string[]>();
    for (const [file, specifier] of [...forbidden, ...allowed]) {
      const soFar = lines.get(file) ?? [];
      lines.set(file, [...soFar, `import { a${soFar.length} } from "${specifier}";`]);
    }
    const diagnostics = lint(lines);
    const said = (file: string, specifier: string) =>
      diagnostics.filter(({ location }) => {
        const line = lines.get(file)?.[location.start.line - 1];
        return location.path === file && line?.includes(`"${specifier}"`) === true;
      });
    for (const [file, specifier, sentence] of forbidden) {
      const messages = said(file, specifier).map(({ message }) => message);
      expect(messages, `${file} importing ${specifier}`).toEqual([expect.stringMatching(sentence)]);
    }
    expect(diagnostics.length).toBe(forbidden.length);
  });
});

function relative(file: string, other: string): string {
  const up = "../".repeat(file.split("/").length - 1);
  const folder = dirname(file);
  return folder !== "." && other.startsWith(`${folder}/`) ? `.${other.slice(folder.length)}` : `${up || "./"}${other}`;
}

/** What the import rules of biome.json say of files that hold these lines. */
function lint(lines: ReadonlyMap<string, readonly string[]>): Diagnostic[] {
  const folder = mkdtempSync(join(tmpdir(), "session-imports-"));
  try {
    cpSync(join(root, "biome.json"), join(folder, "biome.json"));
    for (const [file, text] of lines) {
      mkdirSync(join(folder, dirname(file)), { recursive: true });
      writeFileSync(join(folder, file), `${text.join("\n")}\n`);
    }
    const biome = join(root, "node_modules/@biomejs/biome/bin/biome");
    const options = [
      "--only=style/noRestrictedImports",
      "--reporter=json",
      "--max-diagnostics=none",
      "--vcs-enabled=false",
    ];
    const { stdout } = spawnSync(process.execPath, [biome, "lint", ...options, "src"], {
      cwd: folder,
      encoding: "utf8",
    });
    return (JSON.parse(stdout) as { diagnostics: Diagnostic[] }).diagnostics;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
