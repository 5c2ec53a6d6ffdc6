import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { getTableConfig } from "drizzle-orm/pg-core";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate as applyMigrations } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";
import { afterEach, describe, expect, it } from "vitest";
import { openDatabase } from "../../src/db/client.ts";
import { isMigrated, migrate } from "../../src/db/migrate.ts";
import { events, relays, sessionLabels, sessions } from "../../src/db/schema.ts";
import { phases, statusOf } from "../../src/sessions/lifecycle.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { startTestService } from "../support/service.ts";

/** Makes the tables as they were before a migration. */
async function migrateBefore({ url }: TestDatabase, tag: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "migrations-"));
  const client = postgres(url, { max: 1, onnotice: () => {} });
  try {
    cpSync(fileURLToPath(new URL("../../drizzle", import.meta.url)), folder, { recursive: true });
    const journal: { entries: { tag: string }[] } = JSON.parse(readFileSync(`${folder}/meta/_journal.json`, "utf8"));
    const entries = journal.entries.slice(
      0,
      journal.entries.findIndex((entry) => entry.tag === tag),
    );
    writeFileSync(`${folder}/meta/_journal.json`, JSON.stringify({ ...journal, entries }));
    await applyMigrations(drizzle(client), { migrationsFolder: folder });
  } finally {
    await client.end();
    rmSync(folder, { recursive: true });
  }
}

describe("migrations", () => {
  const databases: TestDatabase[] = [];
  const empty = async () => {
    const database = await createDatabase({ empty: true });
    databases.push(database);
    return database;
  };
  afterEach(async () => {
    for (const database of databases.splice(0)) await database.drop();
  });
  const tables = async ({ sql }: TestDatabase) =>
    (await sql`select table_name from information_schema.tables where table_schema = 'public' order by 1`).map(
      (row) => row["table_name"],
    );

  it("five processes that start at once make the tables once", async () => {
    const database = await empty();
    await Promise.all(Array.from({ length: 5 }, () => migrate(database.url)));
    expect(await tables(database)).toEqual([
      "bulk_jobs",
      "bulk_results",
      "checkpoints",
      "events",
      "idempotency_keys",
      "phase_counts",
      "relays",
      "session_labels",
      "sessions",
      "sweeps",
    ]);
    const [row] = await database.sql`select count(*)::int as applied from drizzle.__drizzle_migrations`;
    const journal = JSON.parse(
      readFileSync(fileURLToPath(new URL("../../drizzle/meta/_journal.json", import.meta.url)), "utf8"),
    );
    expect(row?.["applied"]).toBe(journal.entries.length);
  });

  it("run again they change nothing", async () => {
    const database = await empty();
    await migrate(database.url);
    const columns = () =>
      database.sql`select * from information_schema.columns where table_schema = 'public' order by table_name, ordinal_position`;
    const before = await columns();
    await migrate(database.url);
    expect(await columns()).toEqual(before);
  });

  it("are what the schema says: nothing is left to generate", () => {
    const output = execFileSync("node_modules/.bin/drizzle-kit", ["generate", "--name", "left_over"], {
      encoding: "utf8",
    });
    expect(output).toContain("No schema changes");
  });

  it("what sessions showed before their labels had a table is in it: of deleted ones too", async () => {
    const database = await empty();
    await migrateBefore(database, "0006_find");
    await database.sql`
      insert into sessions (id, agent_id, created_at, updated_at, last_activity_at, phase_since, details, deleted_at)
      select gen_random_uuid(), gen_random_uuid(), at, at, at, at, details::text::jsonb, deleted_at
      from (values
        ('2026-01-01T00:00:00.000001Z'::timestamptz, '{"name": "a", "labels": {"team": "search", "x y": ""}}', null::timestamptz),
        ('2026-01-01T00:00:00.000002Z', '{"labels": {"team": "ünïcödé"}}', now()),
        ('2026-01-01T00:00:00.000003Z', '{"labels": {}}', null),
        ('2026-01-01T00:00:00.000004Z', '{"name": "b"}', null),
        ('2026-01-01T00:00:00.000005Z', null, null)
      ) old (at, details, deleted_at)`;
    await migrate(database.url);
    const labels = await database.sql`
      select s.created_at = l.created_at as same_time, extract(microsecond from s.created_at)::int as session, key, value
      from session_labels l join sessions s on s.namespace = l.namespace and s.id = l.session_id
      order by session, key`;
    expect([...labels]).toEqual([
      { same_time: true, session: 1, key: "team", value: "search" },
      { same_time: true, session: 1, key: "x y", value: "" },
      { same_time: true, session: 2, key: "team", value: "ünïcödé" },
    ]);
  });

  it("a database that is not UTF8 is refused, with what to do", async () => {
    const database = await empty();
    const name = `latin_${process.pid}`;
    await database.sql.unsafe(`create database ${name} encoding 'LATIN1' locale 'C' template template0`);
    const url = new URL(database.url);
    url.pathname = name;
    try {
      await expect(migrate(url.href)).rejects.toThrow(/encoding is LATIN1.*CREATE DATABASE sessions ENCODING 'UTF8'/s);
    } finally {
      await database.sql.unsafe(`drop database ${name} with (force)`);
    }
  });

  it("missing, the service is not ready and says what to do", async () => {
    await using service = await startTestService();
    // One by one: in one transaction they could wait for the relay's statement, and it for them.
    for (const what of ["table sessions", "table events", "table relays", "schema drizzle cascade"]) {
      await service.database.sql.unsafe(`drop ${what}`);
    }
    expect(await service.request("GET", "/health/ready")).toMatchObject({
      status: 503,
      body: { status: "unavailable" },
    });
    expect((await service.request("GET", "/health/live")).status).toBe(200);
    const answer = await service.request("GET", "/sessions/");
    expect(answer).toMatchObject({ status: 503, body: { code: "schema_outdated" } });
    expect(answer.body.detail).toContain("session-service migrate");
  });

  it("of a newer build than the tables, they are told from being up to date", async () => {
    const database = await empty();
    const pool = openDatabase({ url: database.url, poolSize: 1, prepare: true });
    try {
      await migrate(database.url);
      expect(await isMigrated(pool)).toBe(true);
      await database.sql`delete from drizzle.__drizzle_migrations where created_at = (select max(created_at) from drizzle.__drizzle_migrations)`;
      expect(await isMigrated(pool)).toBe(false);
    } finally {
      await pool.close();
    }
  });
});

describe("the tables", () => {
  it("have the columns that the schema has", async () => {
    const database = await createDatabase();
    try {
      for (const table of [events, relays, sessionLabels, sessions]) {
        const { name, columns } = getTableConfig(table);
        const rows = await database.sql`select column_name from information_schema.columns where table_name = ${name}`;
        expect(rows.map((row) => row["column_name"]).sort()).toEqual(columns.map((column) => column.name).sort());
      }
    } finally {
      await database.drop();
    }
  });

  it("derive the status from the phase as the lifecycle does, for all 15", async () => {
    const database = await createDatabase();
    try {
      for (const phase of phases) {
        const [row] = await database.sql`
          insert into sessions (id, agent_id, phase, created_at, updated_at, last_activity_at, phase_since)
          values (gen_random_uuid(), gen_random_uuid(), ${phase}, now(), now(), now(), now()) returning status`;
        expect(row?.["status"], phase).toBe(statusOf[phase]);
      }
      await expect(database.sql`
        insert into sessions (id, agent_id, phase, created_at, updated_at, last_activity_at, phase_since)
        values (gen_random_uuid(), gen_random_uuid(), 'dreaming', now(), now(), now(), now())`).rejects.toThrow(
        /sessions_phase/,
      );
    } finally {
      await database.drop();
    }
  });

  it("refuse documents that are no objects: a text that was encoded twice", async () => {
    const database = await createDatabase();
    try {
      for (const column of ["context", "checkpoint", "runtime_metadata"]) {
        await expect(
          database.sql.unsafe(`insert into sessions (id, agent_id, ${column}, created_at, updated_at, last_activity_at, phase_since)
            values (gen_random_uuid(), gen_random_uuid(), '"{}"', now(), now(), now(), now())`),
        ).rejects.toThrow(new RegExp(`sessions_${column}_object`));
      }
    } finally {
      await database.drop();
    }
  });

  it("make events that stand as they were told: events can't be changed, but for their place in the feed", async () => {
    await using service = await startTestService();
    const { sql } = service.database;
    await service.create();
    const columns = await sql`
      select attname from pg_attribute where attrelid = 'events'::regclass and attnum > 0 and not attisdropped`;
    const refused = columns.map((column) => column["attname"]).filter((name) => name !== "position");
    expect(refused).toHaveLength(10);
    for (const name of refused) {
      await expect(sql.unsafe(`update events set ${name} = ${name}`), name).rejects.toThrow(/never changed/);
    }
    expect(await sql`update events set position = position + 1000 returning 1`).toHaveLength(1);
  });

  it("leave room on their pages, and keep a checkpoint a HOT update", async () => {
    await using service = await startTestService();
    const { sql } = service.database;
    const [row] = await sql`select reloptions from pg_class where relname = 'sessions'`;
    expect(row?.["reloptions"]).toContain("fillfactor=85");
    const id = await service.create();
    for (let step = 0; step < 10; step++) await service.request("PATCH", `/sessions/${id}`, { checkpoint: { step } });
    await sql`select pg_stat_force_next_flush()`;
    const updates = async () =>
      (
        await sql`select n_tup_upd::int as all, n_tup_hot_upd::int as hot from pg_stat_user_tables where relname = 'sessions'`
      )[0];
    await expect.poll(updates, { timeout: 15_000 }).toMatchObject({ all: 10, hot: 10 });
  });
});
