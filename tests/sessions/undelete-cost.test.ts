/** What it costs to take a deletion back does not grow with the sessions that there are. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, it } from "vitest";
import { undeleteStatement } from "../../src/sessions/undelete.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { costOf } from "../support/plans.ts";
import { agentId } from "../support/service.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

it("among 100,000, of which every second was deleted, it reads the session and who has its external id, by their indexes", async () => {
  const ids = [randomUUID(), randomUUID()];
  await database.sql`
    insert into sessions (id, agent_id, created_at, updated_at, last_activity_at, phase_since, deleted_at, external_id)
    select coalesce(case when n % 2 = 0 then (${ids}::uuid[])[n / 2 - 24999] end, gen_random_uuid()), ${agentId}, now(), now(), now(), now(),
      case when n % 2 = 0 then now() end, 'ticket-' || n
    from generate_series(1, 100000) n`;
  await database.sql`vacuum analyze sessions`;
  for (const [at, kind] of (["generic", "custom"] as const).entries()) {
    const id = ids[at] ?? "";
    const input = JSON.stringify([{ id, event_id: randomUUID(), metadata: {}, reason: "undeleted" }]);
    const { buffers, plan } = await costOf(database.sql, undeleteStatement, ["default", `{${id}}`, input], kind);
    expect(buffers, plan).toBeLessThan(200);
    expect(plan).not.toMatch(/"Node Type": "Seq Scan",[^{}]*"Relation Name": "sessions"/);
    const [row] = await database.sql`select deleted_at, phase from sessions where id = ${id}`;
    expect(row, kind).toMatchObject({ deleted_at: null, phase: "stopped" });
  }
}, 60_000);
