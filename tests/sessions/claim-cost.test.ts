/** A claim reads the oldest of those that wait, and not all of them, whatever the statistics of the table say. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { claimStatements } from "../../src/sessions/claim.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { costOf } from "../support/plans.ts";

const agent = "00000000-0000-4000-8000-000000000001";

const asked = JSON.stringify([
  { event_id: "00000000-0000-4000-8000-000000000000", metadata: {}, worker_id: "w", lease_seconds: 30 },
]);

async function insert({ sql }: TestDatabase, phase: string, count: number): Promise<void> {
  await sql`
    insert into sessions (id, agent_id, session_type, runtime_backend, phase, created_at, updated_at, last_activity_at,
      phase_since, claimable_at, details)
    select gen_random_uuid(), ('00000000-0000-4000-8000-' || lpad((i % 3)::text, 12, '0'))::uuid, 'task', 'local', ${phase},
      now(), now(), now(), now(),
      case when ${phase} = 'pending' then now() - interval '1 h' * random() end, '{"labels": {"team": "search"}}'
    from generate_series(1, ${count}::int) i`;
}

/** What becomes of a table before its claims, and what its statistics know of it. */
const pasts: Readonly<Record<string, (database: TestDatabase) => Promise<unknown>>> = {
  "no statistics at all": async (database) => {
    await insert(database, "completed", 5_000);
    await insert(database, "pending", 20_000);
  },
  "statistics from when none waited": async (database) => {
    await insert(database, "completed", 25_000);
    await database.sql.unsafe("analyze sessions");
    await insert(database, "pending", 20_000);
  },
  "statistics of now": async (database) => {
    await insert(database, "completed", 5_000);
    await insert(database, "pending", 20_000);
    await database.sql.unsafe("analyze sessions");
  },
  "statistics from when all waited": async (database) => {
    await insert(database, "pending", 20_000);
    await database.sql.unsafe("analyze sessions");
    await insert(database, "completed", 20_000);
  },
};

describe.each(Object.keys(pasts))("with %s", (past) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
    // Else the statistics could be made meanwhile.
    await database.sql.unsafe("alter table sessions set (autovacuum_enabled = false)");
    await pasts[past]?.(database);
  }, 60_000);
  afterAll(() => database.drop());

  it.each(["any", "agent"])("a claim of one of 20,000 that wait reads little (%s)", async (kind) => {
    const parameters = ["default", asked, "task", "local", '{"team":"search"}'];
    const statement = kind === "any" ? claimStatements.ofAny : claimStatements.ofAgent;
    const { buffers, plan } = await costOf(
      database.sql,
      statement,
      kind === "any" ? parameters : [...parameters, agent],
    );
    expect(buffers, plan).toBeLessThan(100);
  });
});
