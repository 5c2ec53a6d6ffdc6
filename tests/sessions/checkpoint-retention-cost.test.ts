/** What keeping to the rules costs: by the session that has checkpoints, and by the checkpoint that is removed. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { newestFirst, pruneStatements } from "../../src/sessions/checkpoint-retention.ts";
import { findStatement } from "../../src/sessions/checkpoint-walk.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { costOf, type PlanKind } from "../support/plans.ts";

/** Of these, each hundredth has checkpoints. */
const sessions = 30_000;
const withCheckpoints = sessions / 100;

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
  await database.sql`
    insert into sessions (id, agent_id, created_at, updated_at, last_activity_at, phase_since, context)
    select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, gen_random_uuid(), now(), now(), now(), now(),
      jsonb_build_object('task', repeat('x', 200))
    from generate_series(1, ${sessions}::int) n`;
  await save("n % 100 = 0", 3);
  await database.sql`analyze sessions, checkpoints`;
});
afterAll(() => database.drop());

async function save(which: string, count: number): Promise<void> {
  await database.sql.unsafe(`
    with saved as (
      insert into checkpoints (session_id, number, id, data, bytes, session_version, created_at)
      select id, m, gen_random_uuid(), jsonb_build_object('n', repeat('x', 100)), 110, 1, now() - interval '1 day'
      from generate_series(1, ${sessions}) n
        cross join lateral (select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid as id) s
        cross join generate_series(1, ${count}) m
      where ${which})
    update sessions set last_checkpoint = ${count}, checkpoint_count = ${count}
    where (${which.replaceAll("n ", "right(id::text, 12)::int ")})`);
}

const removals = 200;

const kinds: readonly PlanKind[] = ["generic", "custom"];

it.each(kinds)("a walk looks at the sessions that have checkpoints alone (%s plans)", async (kind) => {
  const first = await costOf(
    database.sql,
    findStatement,
    ["default", "ffffffff-ffff-ffff-ffff-ffffffffffff", "100"],
    kind,
  );
  expect(first.plan).not.toMatch(/Seq Scan"[^{}]*"Relation Name"/);
  // Down the index to the next one, and to its session.
  expect(first.buffers, first.plan).toBeLessThan(withCheckpoints * 14);
});

it.each(kinds)("a step costs the same however many checkpoints a session has (%s plans)", async (kind) => {
  const cost = async (which: string, count: number) => {
    await database.sql`truncate checkpoints`;
    await save("n % 100 = 0", 3);
    await save(which, count);
    await database.sql`vacuum analyze checkpoints`;
    const id = `00000000-0000-4000-8000-${which.slice(4).padStart(12, "0")}`;
    const asked = JSON.stringify({
      before: newestFirst.before,
      lines: [],
      rules: {},
      defaults: { keep_last: 10, keep_days: 0, keep_daily_days: 0 },
      looks: 1_000,
      removals,
      most_bytes: 1_000_000,
    });
    return costOf(database.sql, pruneStatements.sweep, ["default", id, asked], kind);
  };
  const few = await cost("n = 1", 1_000);
  const many = await cost("n = 2", 30_000);
  expect(many.plan).not.toMatch(/Seq Scan"[^{}]*"Relation Name"/);
  // Before version 17 PostgreSQL goes down the index for each one that is removed, and a large index is deeper.
  const [server] = await database.sql`select current_setting('server_version_num')::int < 170000 as is_old`;
  const deeper = server?.["is_old"] ? 3 * removals : 0;
  expect(many.buffers, many.plan).toBeLessThan(few.buffers * 1.2 + 20 + deeper);
});
