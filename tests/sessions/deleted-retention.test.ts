/** RETENTION_DAYS_DELETED: what was deleted longer ago goes for good, and nothing else. */

import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { startDeletedRetention } from "../../src/jobs/retain-deleted.ts";
import { purgeOldDeleted } from "../../src/sessions/deleted-retention.ts";
import { purgeNext } from "../../src/sessions/purge.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { agentId, startTestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let database: TestDatabase;
let pool: Database;
beforeEach(async () => {
  database = await createDatabase();
  pool = openDatabase({ url: database.url, poolSize: 4, prepare: true });
});
afterEach(async () => {
  await pool.close();
  await database.drop();
});

const days = 30;

/** Adds sessions, deleted so many days and n seconds ago; null: not deleted. */
async function add(count: number, age: number | null): Promise<string[]> {
  const rows = await database.sql<{ id: string }[]>`
    insert into sessions (id, agent_id, created_at, updated_at, last_activity_at, phase_since, deleted_at)
    select gen_random_uuid(), ${agentId}, now() - interval '1 y', now(), now(), now(),
      now() - make_interval(days => ${age}::int, secs => n)
    from generate_series(1, ${count}::int) n
    returning id`;
  return rows.map(({ id }) => id);
}

const requested = async () =>
  (await database.sql<{ id: string }[]>`select id from sessions where purge_requested_at is not null`)
    .map(({ id }) => id)
    .sort();

describe("a walk over the deleted sessions", () => {
  it("asks for the removal of those that were deleted longer ago, and of no others", async () => {
    const old = await add(3, 30);
    await add(3, 29);
    await add(3, null);
    expect(await purgeOldDeleted(pool, { days })).toMatchObject({ asked: 3, more: false });
    expect(await requested()).toEqual(old.toSorted());
    expect(await purgeOldDeleted(pool, { days })).toMatchObject({ asked: 0, more: false });
  });

  it("leaves those under a legal hold alone, and those that somebody changes, until the next walk", async () => {
    const [held = "", locked = "", free = ""] = await add(3, 31);
    await database.sql`update sessions set legal_hold = true where id = ${held}`;
    await database.sql.begin(async (tx) => {
      await tx`select 1 from sessions where id = ${locked} for no key update`;
      expect(await purgeOldDeleted(pool, { days })).toMatchObject({ asked: 1 });
      expect(await requested()).toEqual([free]);
    });
    expect(await purgeOldDeleted(pool, { days })).toMatchObject({ asked: 1 });
    expect(await requested()).toEqual([locked, free].toSorted());
  });

  it("goes on from its place: 1,200 in three steps, each once", async () => {
    const ids = await add(1_200, 31);
    let after: string | undefined;
    const asked: number[] = [];
    for (let more = true; more; ) {
      const step = await purgeOldDeleted(pool, { days, after });
      asked.push(step.asked);
      ({ place: after, more } = step);
    }
    expect(asked).toEqual([500, 500, 200]);
    expect(await requested()).toEqual(ids.toSorted());
  });

  it("by several at once asks for each once", async () => {
    await add(2_000, 31);
    const steps = await Promise.all(Array.from({ length: 4 }, () => purgeOldDeleted(pool, { days })));
    const asked = steps.reduce((sum, step) => sum + step.asked, 0);
    expect(asked).toBe((await requested()).length);
    expect(asked).toBeGreaterThanOrEqual(500);
  });

  it("reads only what was deleted, by its index, among very many that were not", async () => {
    await add(20_000, null);
    await add(20, 31);
    await database.sql`analyze sessions`;
    // What a connection has read it tells the statistics when it is asked to.
    const connection = await database.sql.reserve();
    try {
      const query = <Row>(text: string, parameters: readonly unknown[] = []) =>
        connection.unsafe(text, [...parameters] as never[]) as unknown as Promise<Row[]>;
      const reads = async () => {
        await connection`select pg_stat_force_next_flush()`;
        const [row] = await connection`
          select t.seq_scan::int as all, i.idx_scan::int as by_index
          from pg_stat_user_tables t join pg_stat_user_indexes i using (relid)
          where t.relname = 'sessions' and i.indexrelname = 'sessions_deleted'`;
        return { ofAll: Number(row?.["all"]), byIndex: Number(row?.["by_index"]) };
      };
      const before = await reads();
      expect(await purgeOldDeleted({ query }, { days })).toMatchObject({ asked: 20 });
      const after = await reads();
      expect(after.ofAll).toBe(before.ofAll);
      expect(after.byIndex).toBeGreaterThan(before.byIndex);
    } finally {
      connection.release();
    }
  });
});

describe("the job", () => {
  it("begins at its start, takes all that is due, and says so", async () => {
    await add(1_100, 31);
    let told = 0;
    const job = startDeletedRetention({ database: pool, days, purgeRequested: () => told++, onError: () => {} });
    try {
      await until(async () => (await requested()).length === 1_100, "all to be asked for");
      await until(() => told === 3, "the purge to be told of each step");
    } finally {
      await job.stop();
    }
  });

  it("does not stop at an error: it says so, and goes on", async () => {
    await add(2, 31);
    const failed: unknown[] = [];
    let fails = 1;
    const failing = {
      ...pool,
      query: ((...asked: Parameters<Database["query"]>) =>
        fails-- > 0 ? Promise.reject(new Error("away")) : pool.query(...asked)) as Database["query"],
    };
    const onError = (error: unknown) => failed.push(error);
    const job = startDeletedRetention({ database: failing, days, purgeRequested: () => {}, onError, everyMs: 20 });
    try {
      await until(async () => (await requested()).length === 2, "both to be asked for");
      expect(failed).toHaveLength(1);
    } finally {
      await job.stop();
    }
  });
});

describe("a service", () => {
  it("with RETENTION_DAYS_DELETED removes them for good, and leaves one session.purged without content of each", async () => {
    const old = await add(2, 8);
    const young = await add(1, 6);
    await using service = await startTestService({ DATABASE_URL: database.url, RETENTION_DAYS_DELETED: "7" });
    const there = async () => (await database.sql`select id from sessions`).map((row) => row["id"]);
    await until(async () => (await there()).length === 1, "the old ones to be removed");
    const read = async (id = "") => (await service.request("GET", `/sessions/${id}?include_deleted=true`)).status;
    expect([await read(young[0]), await read(old[0]), await read(old[1])]).toEqual([200, 404, 404]);
    const left = await database.sql`select session_id, event_type, payload::text as payload from events`;
    expect(
      left.map((event) => ({ ...event })).toSorted((a, b) => (a["session_id"] < b["session_id"] ? -1 : 1)),
    ).toEqual(old.toSorted().map((session_id) => ({ session_id, event_type: "session.purged", payload: "{}" })));
  });

  it("and deletions that are taken back meanwhile: each session stays, or is told to be on its way out, and goes", async () => {
    await using service = await startTestService({ DATABASE_URL: database.url });
    for (let round = 0; round < 2; round++) {
      const ids = await add(25, 31);
      const [, ...answers] = await Promise.all([
        purgeOldDeleted(pool, { days }),
        ...ids.map((id) => service.request("POST", `/sessions/${id}/undelete`)),
      ]);
      await purgeOldDeleted(pool, { days });
      const back = ids.filter((_, n) => answers[n]?.status === 200);
      const refused = answers.filter(({ status }) => status !== 200);
      expect(refused.filter(({ status }) => status !== 409 && status !== 404)).toEqual([]);
      for (const { body } of refused) expect(["purge_requested", "session_not_found"]).toContain(body.code);
      await until(
        async () => (await purgeNext(pool)).outcome === "nothing" && (await requested()).length === 0,
        "all that was asked for to be gone",
      );
      const there = await database.sql`select id from sessions where id = any(${ids}) and deleted_at is null`;
      expect(there.map((row) => row["id"]).toSorted()).toEqual(back.toSorted());
    }
  });

  it("without it keeps them for ever", async () => {
    const ids = await add(1, 10_000);
    await using service = await startTestService({ DATABASE_URL: database.url });
    const other = await service.create();
    await service.request("DELETE", `/sessions/${other}?hard=true`);
    const there = async () => (await database.sql`select id from sessions`).map((row) => row["id"]);
    await until(async () => !(await there()).includes(other), "what was asked for to be removed");
    expect(await there()).toEqual(ids);
    expect(await requested()).toEqual([]);
  });
});
