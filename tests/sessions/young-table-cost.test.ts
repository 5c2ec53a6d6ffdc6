/** What a statement reads while its table is new, or grew at once: as little as later on, from a moment after it grew. */

import type postgres from "postgres";
import { describe, expect, inject, it } from "vitest";
import { type Database, openDatabase, type Parameter } from "../../src/db/client.ts";
import { startAnalysis } from "../../src/jobs/analyze-tables.ts";
import { createSessions } from "../../src/sessions/create.ts";
import { noteHeartbeats } from "../../src/sessions/heartbeat.ts";
import { listByAgents } from "../../src/sessions/list.ts";
import { readSessions } from "../../src/sessions/read.ts";
import { reportEvents } from "../../src/sessions/report.ts";
import { makeChanges } from "../../src/sessions/update.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { holdLock, untilStuck } from "../support/held-lock.ts";
import { startReplica } from "../support/replica.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

/** Blocks of 8 KiB. Who reads the table, or an index from end to end, reads 250 or more. */
const fewBuffers = 100;

const many = 20_000;

const context = { namespace: "default", requestId: "a-test" };
const id = `00000000-0000-7000-8000-${String(many / 2).padStart(12, "0")}`;
const otherId = `00000000-0000-7000-8000-${String(many / 4).padStart(12, "0")}`;
const agentId = "00000000-0000-0000-0000-000000000007";
const checkpoint = '{"step": 1}';

const labels = (text: string) => new Map([["labels", text]] as const);

const commands: Readonly<Record<string, (database: Database) => Promise<unknown>>> = {
  get: (database) => readSessions(database, context, [id], { evenHeavy: false }),
  list: (database) => listByAgents(database, [{ context, input: { agentId, limit: 10 } }]),
  patch: (database) => makeChanges(database, [{ context, input: { id, checkpoint } }]),
  patches: (database) =>
    makeChanges(
      database,
      [id, otherId].map((one) => ({ context, input: { id: one, checkpoint } })),
    ),
  heartbeat: (database) => noteHeartbeats(database, [{ context, input: { id } }], { wait: false }),
  heartbeats: (database) =>
    noteHeartbeats(
      database,
      [id, otherId].map((one) => ({ context, input: { id: one } })),
      { wait: false },
    ),
  report: (database) =>
    reportEvents(database, [{ context, input: { id, events: [{ word: "thinking", payload: "{}" }] } }]),
  relabel: (database) =>
    makeChanges(database, [{ context, input: { id, details: labels('{"team": "b", "new": "x"}') } }]),
  relabels: (database) =>
    makeChanges(
      database,
      [id, otherId].map((one) => ({ context, input: { id: one, details: labels('{"new": "x"}') } })),
    ),
  create_labelled: (database) =>
    createSessions(database, [
      {
        context,
        input: {
          agentId,
          sessionType: "task",
          phase: "running",
          runtimeBackend: "local",
          details: labels('{"team": "a"}'),
        },
      },
    ]),
  create: (database) =>
    createSessions(database, [
      { context, input: { agentId, sessionType: "task", phase: "running", runtimeBackend: "local" } },
    ]),
};

/** Prepares what a command asks, as the pool does, and gives a function that runs it, counts the blocks it reads, and takes it back. */
async function keep(
  connection: postgres.ReservedSql,
  name: string,
  command: (database: Database) => Promise<unknown>,
): Promise<() => Promise<number>> {
  const asked: { text: string; parameters: readonly Parameter[] }[] = [];
  const recorder = {
    query: async (text: string, parameters: readonly Parameter[]) => {
      asked.push({ text, parameters });
      return [];
    },
  } as unknown as Database;
  await command(recorder);
  const [{ text, parameters } = { text: "", parameters: [] }] = asked;
  await connection.unsafe(`prepare kept_${name} (${parameters.map(() => "text").join(", ")}) as ${text}`);
  const values = parameters.map((value) => (value === null ? "null" : `'${value}'`)).join(", ");
  return async () => {
    await connection`begin`;
    const [row] = await connection.unsafe(`explain (analyze, buffers, format json) execute kept_${name} (${values})`);
    await connection`rollback`;
    const plan = row?.["QUERY PLAN"][0].Plan;
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];
  };
}

/** Sessions, each with its first event and two labels. Connections tell what they wrote now and then, a silent one after 10 s: at once. */
async function fill(sql: postgres.Sql, from: number, to: number): Promise<void> {
  await sql.unsafe(`
    with created as (
      insert into sessions (id, agent_id, last_sequence, created_at, updated_at, last_activity_at, phase_since, details)
      select ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,
        ('00000000-0000-0000-0000-' || lpad((n % 200)::text, 12, '0'))::uuid, 1, at, at, at, at,
        '{"labels": {"team": "a", "old": "x"}}'
      from generate_series(${from}, ${to}) n, lateral (select now() + n * interval '1 ms') t (at)
      returning id, created_at, details
    ), labelled as (
      insert into session_labels (session_id, key, value, created_at)
      select id, key, value, created_at from created, jsonb_each_text(details -> 'labels')
    ), event as (
      insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
      select gen_random_uuid(), id, 1, 1, 'session.created', '{}', created_at from created
    )
    select pg_stat_force_next_flush()`);
}

/** PostgreSQL itself never finds it time to analyze them. */
async function leaveToUs({ sql }: TestDatabase): Promise<void> {
  for (const table of ["sessions", "events", "session_labels"]) {
    await sql.unsafe(`alter table ${table} set (autovacuum_analyze_threshold = 2000000000,
      autovacuum_vacuum_threshold = 2000000000, autovacuum_vacuum_insert_threshold = -1)`);
  }
}

async function analyses({ sql }: TestDatabase, table: string): Promise<number> {
  const [row] = await sql`select analyze_count::int from pg_stat_user_tables where relname = ${table}`;
  return row?.["analyze_count"] ?? 0;
}

/** What was there when a connection planned its statements, and then 20,000 sessions are. */
const pasts: Readonly<Record<string, (sql: postgres.Sql) => Promise<unknown>>> = {
  "was new": async () => {},
  "was analyzed while it was empty": (sql) => sql`analyze`,
  "was analyzed with 60 sessions in it": async (sql) => {
    await fill(sql, 1, 60);
    await sql`analyze`;
  },
};

describe.each(Object.keys(pasts))("a table that %s when its statements were planned, and has grown since", (past) => {
  it("is not read from end to end by get, list, patches, heartbeats, labels, report, create", {
    timeout: 60_000,
  }, async () => {
    await using service = await startTestService();
    await leaveToUs(service.database);
    const connection = await service.database.sql.reserve();
    try {
      await pasts[past]?.(connection);
      await connection`set plan_cache_mode = force_generic_plan`;
      const kept: (() => Promise<number>)[] = [];
      for (const [name, command] of Object.entries(commands)) kept.push(await keep(connection, name, command));
      for (const count of kept) await count();
      await fill(connection, 61, many);
      let counts: number[] = [];
      await until(
        async () => {
          counts = [];
          for (const count of kept) counts.push(await count());
          return counts.every((buffers) => buffers < fewBuffers);
        },
        "statements that read little",
        { withinMs: 20_000, everyMs: 100 },
      ).catch((error: Error) => expect.fail(`${error.message}: ${counts}`));
    } finally {
      connection.release();
    }
  });
});

interface Stage extends AsyncDisposable {
  readonly database: TestDatabase;
  /** How often the job has looked. */
  readonly looks: () => number;
  readonly errors: readonly unknown[];
  /** Starts the job, as this user if one is named. */
  start(credentials?: { readonly user: string; readonly password: string }): void;
}

async function stage(): Promise<Stage> {
  const database = await createDatabase();
  await leaveToUs(database);
  const errors: unknown[] = [];
  const undo = [() => database.drop()];
  let looks = 0;
  return {
    database,
    errors,
    looks: () => looks,
    start(credentials) {
      const url = new URL(database.url);
      if (credentials !== undefined) Object.assign(url, { username: credentials.user, password: credentials.password });
      const pool = openDatabase({ url: url.href, poolSize: 1, prepare: true });
      const counted = {
        query: async (text: string) => {
          const rows = await pool.query(text);
          looks++;
          return rows;
        },
      } as unknown as Database;
      const job = startAnalysis({
        database: counted,
        patient: pool,
        onError: (error) => errors.push(error),
        everyMs: 20,
        restMs: 20,
      });
      undo.push(async () => {
        await job.stop();
        await pool.close();
      });
    },
    async [Symbol.asyncDispose]() {
      for (const step of undo.reverse()) await step();
    },
  };
}

describe("analyzing what has grown", () => {
  it("leaves alone what is small, and what its owner has switched autovacuum off for", async () => {
    await using it = await stage();
    const { sql } = it.database;
    await sql`alter table sessions set (autovacuum_enabled = off)`;
    await fill(sql, 1, 400);
    await sql.begin(async (tx) => {
      await tx`insert into sessions (id, agent_id, created_at, updated_at, last_activity_at, phase_since)
        select gen_random_uuid(), gen_random_uuid(), now(), now(), now(), now() from generate_series(1, 2000)`;
      await tx`insert into idempotency_keys
        select 'default', 'POST', '/sessions/', n::text, '', 201, '{}', '{}', now() from generate_series(1, 2000) n`;
      await tx`select pg_stat_force_next_flush()`;
    });
    it.start();
    await until(async () => (await analyses(it.database, "idempotency_keys")) > 0, "an analysis", { withinMs: 20_000 });
    const seen = it.looks();
    await until(() => it.looks() >= seen + 5, "more looks");
    expect(await analyses(it.database, "sessions")).toBe(0);
    expect(await analyses(it.database, "events")).toBe(0);
    expect(await analyses(it.database, "idempotency_keys")).toBe(1);
    expect(it.errors).toEqual([]);
  });

  it("analyzes what was restored from a dump: its rows have been counted, for its indexes were built", async () => {
    await using it = await stage();
    const { sql } = it.database;
    await fill(sql, 1, 2_000);
    await sql`reindex table sessions`;
    const [{ counted } = { counted: 0 }] = await sql`
      select reltuples::int as counted from pg_class where oid = 'sessions'::regclass`;
    expect(counted).toBe(2_000);
    it.start();
    await until(async () => (await analyses(it.database, "sessions")) > 0, "an analysis");
    expect(it.errors).toEqual([]);
  });

  it("passes by a table that somebody else is analyzing, and looks again", async () => {
    await using it = await stage();
    await fill(it.database.sql, 1, 2_000);
    {
      await using _ = await holdLock(it.database, "lock table sessions in share update exclusive mode");
      it.start();
      await until(async () => (await analyses(it.database, "events")) > 0, "an analysis", { withinMs: 20_000 });
      const seen = it.looks();
      await until(() => it.looks() >= seen + 5, "more looks");
      expect(await analyses(it.database, "sessions")).toBe(0);
    }
    await until(async () => (await analyses(it.database, "sessions")) > 0, "the other analysis");
    expect(it.errors).toEqual([]);
  });

  it("does not keep the service from stopping", async () => {
    await using it = await stage();
    const { database } = it;
    await fill(database.sql, 1, 2_000);
    // An analysis ends with writing there.
    await using _ = await holdLock(database, "lock table pg_statistic in share mode");
    const replica = await startReplica({ database, redisUrl: inject("redisUrl") } as TestService);
    await untilStuck(database, 1);
    const start = performance.now();
    await replica.stop();
    expect(performance.now() - start).toBeLessThan(3_000);
  });

  it("says once that the database's user may not, and goes on looking", async () => {
    await using it = await stage();
    const { sql } = it.database;
    const user = new URL(it.database.url).pathname.slice(1);
    await sql.unsafe(`create role ${user} login password 'a-password'`);
    try {
      await fill(sql, 1, 2_000);
      it.start({ user, password: "a-password" });
      await until(() => it.errors.length > 0, "an error", { withinMs: 20_000 });
      const seen = it.looks();
      await until(() => it.looks() >= seen + 5, "more looks");
      expect(it.errors.map(String)).toEqual([expect.stringMatching(/does not own the table/)]);
      await sql.unsafe(`grant ${new URL(it.database.url).username} to ${user}`);
      await until(async () => (await analyses(it.database, "sessions")) > 0, "an analysis");
    } finally {
      await sql.unsafe(`drop role ${user}`);
    }
  });
});
