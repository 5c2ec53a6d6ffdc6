/** What was found by an external id is changed and deleted only as long as it has that. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { openSessions } from "../../src/sessions/sessions.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

const context = { namespace: "default", requestId: "" };
const agentId = "00000000-0000-0000-0000-000000000007";

let own: TestDatabase;
let database: Database;
beforeAll(async () => {
  own = await createDatabase();
  database = openDatabase({ url: own.url, poolSize: 4, prepare: true });
});
afterAll(async () => {
  await database.close();
  await own.drop();
});

it.each([true, false])("a session that has another one by now is not found, coalesce=%s", async (coalesce) => {
  const sessions = openSessions(database, { coalesce });
  const created = await sessions.create(context, {
    agentId,
    sessionType: "task",
    phase: "running",
    runtimeBackend: "local",
    settings: { external_id: `before-${coalesce}` },
  });
  const id = created.outcome === "ok" ? created.session.id : "";
  const renamed = { id, settings: { external_id: `after-${coalesce}` } };
  expect(await sessions.update(context, renamed)).toMatchObject({ outcome: "ok", changed: true });
  for (const foundBy of [`before-${coalesce}`, "", "AFTER"]) {
    expect(await sessions.update(context, { id, foundBy, context: "{}", runtimeBackend: "local" })).toEqual({
      outcome: "not_found",
    });
    expect(await sessions.delete(context, { id, foundBy, hard: false })).toEqual({ outcome: "not_found" });
  }
  const foundBy = `after-${coalesce}`;
  expect(await sessions.update(context, { id, foundBy, context: '{"a":1}' })).toMatchObject({ outcome: "ok" });
  // Nor is one that has none any more.
  await sessions.update(context, { id, settings: { external_id: null } });
  expect(await sessions.update(context, { id, foundBy, context: "{}" })).toEqual({ outcome: "not_found" });
  expect(await sessions.delete(context, { id, foundBy, hard: true })).toEqual({ outcome: "not_found" });
  expect(await sessions.delete(context, { id, hard: false })).toMatchObject({ outcome: "ok", changed: true });
});

it("a change of other settings leaves the index of external ids alone: the row is updated in place (HOT)", async () => {
  const sessions = openSessions(database, { coalesce: false });
  const created = await sessions.create(context, {
    agentId,
    sessionType: "task",
    phase: "running",
    runtimeBackend: "local",
    settings: { external_id: "stays" },
  });
  const id = created.outcome === "ok" ? created.session.id : "";
  await database.transaction(async (transaction) => {
    const inside = openSessions(transaction, { coalesce: false });
    // With what the connection has not told yet of the time before.
    const updates = async () => {
      const [row] = await transaction.query<{ all: number; hot: number }>(`
        select pg_stat_get_xact_tuples_updated(oid)::int as all, pg_stat_get_xact_tuples_hot_updated(oid)::int as hot
        from pg_class where relname = 'sessions'`);
      return row ?? { all: 0, hot: 0 };
    };
    const before = await updates();
    for (let attempts = 4; attempts < 9; attempts++) {
      await inside.update(context, { id, foundBy: "stays", settings: { max_attempts: attempts } });
    }
    const after = await updates();
    expect([after.all - before.all, after.hot - before.hot]).toEqual([5, 5]);
  });
});
