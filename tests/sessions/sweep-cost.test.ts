/** What a sweep costs: as much as is due, however many other sessions there are, and whenever it was planned. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { beginSweep, sweepDue, sweepStatement } from "../../src/sessions/sweep.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { costOf } from "../support/plans.ts";

const sessions = 30_000;
const due = 100;

let database: TestDatabase;
/** One connection: what was planned on it stays. */
let sweeper: Database;
beforeAll(async () => {
  database = await createDatabase();
  sweeper = openDatabase({ url: database.url, poolSize: 1, prepare: true });
});
afterAll(async () => {
  await sweeper.close();
  await database.drop();
});

/** Sessions that all have a timer, none of them due. */
const insert = () => database.sql`
  insert into sessions (id, agent_id, last_sequence, created_at, updated_at, last_activity_at, phase_since,
    idle_timeout_seconds, next_check_at)
  select gen_random_uuid(), gen_random_uuid(), 1, now(), now(), now(), now(), 3600, now() + interval '1 h'
  from generate_series(1, ${sessions}::int)`;

async function makeDue(): Promise<void> {
  await database.sql`
    update sessions set last_activity_at = now() - interval '2 h', next_check_at = now() - interval '1 s' * random()
    where id in (select id from sessions where phase = 'running' order by md5(id::text) limit ${due})`;
}

/** What the sweeper's connection has planned, and keeps. */
async function keptPlan(): Promise<string> {
  const [prepared] = await sweeper.query<{ name: string }>(
    "select name from pg_prepared_statements where statement like '%skip locked%' and generic_plans > 0",
  );
  const rows = await sweeper.query<{ "QUERY PLAN": string }>(
    `explain execute "${prepared?.name}"('now', '-infinity', '500', '{crashed}')`,
  );
  return rows.map((row) => row["QUERY PLAN"]).join("\n");
}

it("a statement that was planned while there were no sessions finds those that are due without reading all", async () => {
  const sweep = async () => (await sweepDue(sweeper, await beginSweep(sweeper, 3_000))).swept;
  expect(await sweep()).toEqual([]);
  await insert();
  await makeDue();
  expect(await sweep()).toHaveLength(due);
  const plan = await keptPlan();
  expect(plan).toContain("Index Scan using sessions_due");
  expect(plan).not.toContain("Seq Scan on sessions");
  expect(plan.match(/Tid Scan on sessions/g), plan).toHaveLength(3);
  const rows = await database.sql`select distinct event_id from events`;
  expect(rows, "events with ids of their own").toHaveLength(due);
});

it("reads a bounded number of blocks for each that is due, and a handful when none is", async () => {
  await database.sql`vacuum analyze sessions`;
  const parameters = ["now", "-infinity", "500", "{crashed}"];
  const nothing = await costOf(database.sql, sweepStatement, parameters);
  expect(nothing.buffers, nothing.plan).toBeLessThan(20);
  await makeDue();
  const { buffers, plan } = await costOf(database.sql, sweepStatement, parameters);
  expect(plan).toContain('"Index Name": "sessions_due"');
  expect(plan).not.toMatch(/Seq Scan"[^{}]*"Relation Name": "sessions"/);
  // The row twice, its five indexes, the event and its four, each with the way down from the root.
  expect(buffers, plan).toBeLessThan(due * 60);
});

it("has events with ids of their own, whatever the plan", async () => {
  await makeDue();
  await sweepDue(sweeper, await beginSweep(sweeper, 3_000));
  const [row] = await database.sql`select count(*)::int as events, count(distinct event_id)::int as ids from events`;
  expect(row).toEqual({ events: 3 * due, ids: 3 * due });
});
