/** What finding a session by its external id costs: the same, however many other sessions there are. */

import { afterAll, beforeAll, expect, it } from "vitest";
import type { Queries } from "../../src/db/client.ts";
import { createSessions } from "../../src/sessions/create.ts";
import { ownersOf, readByExternalId } from "../../src/sessions/external-id.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { costOf } from "../support/plans.ts";

const context = { namespace: "default", requestId: "" };
const agentId = "00000000-0000-0000-0000-000000000007";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
  // Every second has been deleted: ten of these had the same external id before.
  await database.sql`
    insert into sessions (id, agent_id, phase, created_at, updated_at, last_activity_at, phase_since, external_id, deleted_at)
    select gen_random_uuid(), ${agentId}::uuid, 'busy', at, at, at, at,
      case when n % 2 = 0 then 'live-' || n else 'deleted-' || n % 5000 end, case when n % 2 = 1 then at end
    from generate_series(1, 100000) n, lateral (select timestamptz '2026-01-01T00:00:00Z' + n * interval '1 second') t (at)`;
  await database.sql`vacuum analyze`;
});
afterAll(() => database.drop());

/** The first statement that is asked for. */
async function firstOf(command: (recorder: Queries) => Promise<unknown>) {
  const asked: { text: string; parameters: readonly unknown[] }[] = [];
  const recorder = {
    query: async (text: string, parameters: readonly unknown[]) => {
      asked.push({ text, parameters });
      return [];
    },
  } as unknown as Queries;
  await command(recorder);
  const [first] = asked;
  if (first === undefined) throw new Error("nothing was asked");
  return first;
}

const read = (externalId: string) => firstOf((recorder) => readByExternalId(recorder, context, externalId));
const owners = (...externalIds: string[]) => firstOf((recorder) => ownersOf(recorder, context, externalIds));

it.each([
  ["one that a session has", () => read("live-5000"), 1, 6],
  ["one that only deleted sessions had", () => read("deleted-7"), 0, 6],
  ["one that none ever had", () => read("never"), 0, 6],
  ["who has ten of them", () => owners(...Array.from({ length: 10 }, (_, n) => `live-${n * 100 + 2}`)), 10, 60],
])("%s is found in the index, among 100,000 sessions", async (_, asked, expected, most) => {
  const { text, parameters } = await asked();
  expect(await database.sql.unsafe(text, parameters as string[])).toHaveLength(expected);
  for (const kind of ["generic", "custom"] as const) {
    const { buffers, plan } = await costOf(database.sql, text, parameters, kind);
    expect(buffers, `${kind} ${plan}`).toBeLessThanOrEqual(most);
    expect(plan).toContain("sessions_by_external_id");
    expect(plan).not.toMatch(/"Rows Removed by (Filter|Index Recheck)": [1-9]/);
  }
});

it("one that a session has is refused to another for what looking it up costs", async () => {
  const input = { agentId, sessionType: "task", phase: "running", runtimeBackend: "local" } as const;
  const { text, parameters } = await firstOf((recorder) =>
    createSessions(recorder, [{ context, input: { ...input, settings: { external_id: "live-5000" } } }]),
  );
  const { buffers, plan } = await costOf(database.sql, text, parameters);
  expect(plan).toMatch(/"Tuples Inserted": 0/);
  expect(plan).toMatch(/"Conflicting Tuples": 1/);
  expect(buffers, plan).toBeLessThanOrEqual(30);
});
