import { afterEach, expect, it } from "vitest";
import { createDatabase } from "../support/database.ts";
import { dataFolder, startServiceProcess } from "../support/process.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

/** The embedded PostgreSQL has no compiler: a function in the place of its own says that there is one, unless it is off. */
async function databaseThatCompiles() {
  const database = await createDatabase({ empty: true });
  undo.push(() => database.drop());
  await database.sql.unsafe(`
    create function public.pg_jit_available() returns boolean language sql
      as 'select current_setting(''jit'')::boolean';
    do $$ begin execute format('alter database %I set search_path = public, pg_catalog', current_database()); end $$`);
  return database;
}

async function start(databaseUrl: string, prepare: "on" | "off") {
  const folder = dataFolder();
  undo.push(() => folder[Symbol.dispose]());
  const service = await startServiceProcess({
    settings: { DATABASE_URL: databaseUrl, DATA_DIR: folder.path, DATABASE_PREPARE: prepare, LOG_LEVEL: "debug" },
  });
  undo.push(() => service.stop());
  return service;
}

it("behind a pooler, a server that compiles statements is a warning at the start, which says what to do", async () => {
  const { url } = await databaseThatCompiles();
  const pooled = await start(url, "off");
  await until(() => pooled.stderr().includes("SET jit = off"), "the warning");
  const own = await start(url, "on");
  // By its end it has been told.
  await own.stop();
  expect(own.stderr()).not.toContain("SET jit = off");
}, 60_000);
