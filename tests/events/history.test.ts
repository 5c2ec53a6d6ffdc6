/** What a page of the history costs: as much as the page holds, however long the history is. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventQuery } from "../../src/events/history-query.ts";
import { feedStatement, type Statement, sessionStatement } from "../../src/events/history-statements.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { type Cost, costOf } from "../support/plans.ts";

/** Blocks of 8 KiB; a page of 100 events has a few of the table, and some for each event that an index names. */
const fewBuffers = 200;

const manyEvents = 60_000;

const settled = 59_990;

describe("a page of 100 out of 60,000 events", () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
    // A session of 20,000 events, 400 of 100; nine in ten are updates, one in a thousand is an error.
    await database.sql`
      insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
      select gen_random_uuid(), ('00000000-0000-0000-0000-' || lpad((case when n % 3 = 0 then 0 else 1 + n % 400 end)::text, 12, '0'))::uuid,
        row_number() over (partition by case when n % 3 = 0 then 0 else 1 + n % 400 end order by n), 1,
        case when n % 1000 = 7 then 'session.error' when n % 20 = 3 then 'session.thinking'
          when n % 20 = 5 then 'session.created' else 'session.updated' end,
        jsonb_build_object('updates', jsonb_build_array('context'), 'text', repeat('x', 200)),
        timestamptz '2026-01-01T00:00:00Z' + n * interval '1 second'
      from generate_series(1, ${manyEvents}::int) n order by n`;
    await database.sql`update relays set settled = ${settled}, pending = '{[100,102),[59980,59981)}'`;
    await database.sql`vacuum analyze`;
  });
  afterAll(() => database.drop());

  const all: EventQuery = { namespace: "default", descending: false, limit: 100 };
  const large = { sessionId: "00000000-0000-0000-0000-000000000000", includeDeleted: false };
  const ids = [7, 8, 11].map((n) => `00000000-0000-0000-0000-${String(n).padStart(12, "0")}`);

  /** Runs it, and gives what it read and how many rows came. */
  async function run({ statement, parameters }: Statement): Promise<Cost & { rows: number }> {
    const rows = (await database.sql.unsafe(statement, [...parameters])).filter((row) => row["position"] !== null);
    return { ...(await costOf(database.sql, statement, parameters)), rows: rows.length };
  }

  const deep = { at: 30_000 };
  const noon = "2026-01-01T12:00:00.000000Z";
  const fiveToNoon = "2026-01-01T11:55:00.000000Z";
  const types = ["session.error", "session.thinking"];

  it.each<[name: string, statement: Statement, rows?: number]>([
    ["the first page", feedStatement(all, 0)],
    ["a page after a deep position", feedStatement({ ...all, after: 30_000 }, 0)],
    ["a page from a cursor", feedStatement({ ...all, after: 10, place: deep }, 0)],
    ["the newest first", feedStatement({ ...all, descending: true }, 0)],
    ["the newest first, from a cursor", feedStatement({ ...all, descending: true, place: deep }, 0)],
    ["one type", feedStatement({ ...all, types: ["session.thinking"] }, 0)],
    ["a rare type", feedStatement({ ...all, types: ["session.error"] }, 0), 60],
    ["a frequent type, deep", feedStatement({ ...all, types: ["session.updated"], place: deep }, 0)],
    ["a type that nobody reported", feedStatement({ ...all, types: ["session.nothing"] }, 0), 0],
    ["two types", feedStatement({ ...all, types }, 0)],
    ["two types, the newest first, from a cursor", feedStatement({ ...all, types, descending: true, place: deep }, 0)],
    // Each is read for itself, as far as the page could need.
    ["three sessions", feedStatement({ ...all, limit: 30, sessionIds: ids }, 0), 30],
    ["a long session, deep", feedStatement({ ...all, sessionIds: [large.sessionId], after: 45_000 }, 0)],
    [
      "a long session, backwards",
      feedStatement({ ...all, sessionIds: [large.sessionId], descending: true, place: deep }, 0),
    ],
    ["a range of time", feedStatement({ ...all, createdAfter: fiveToNoon, createdBefore: noon }, 0)],
    ["a range of time, the newest first", feedStatement({ ...all, createdBefore: noon, descending: true }, 0)],
    [
      "a range of time, from a cursor",
      feedStatement(
        {
          ...all,
          createdAfter: "2026-01-01T00:00:00.000000Z",
          place: { at: 30_000, time: { createdAt: noon, upTo: 59_000 } },
        },
        0,
      ),
    ],
    [
      "what no index knows",
      feedStatement({ ...all, types: ["session.updated"], updates: { words: {}, change: true } }, 0),
      1,
    ],
    ["a type in a range of time", feedStatement({ ...all, types: ["session.error"], createdAfter: fiveToNoon }, 0), 2],
    ["the events of a session", sessionStatement({ ...all, ...large })],
    ["the events of a session, the newest first", sessionStatement({ ...all, ...large, descending: true })],
    ["the events of a session, after a position", sessionStatement({ ...all, ...large, after: 45_000 })],
    ["the events of a session, from a cursor", sessionStatement({ ...all, ...large, place: { at: 15_000 } })],
  ])("%s", async (_, statement, expected = 100) => {
    const { buffers, rows, plan } = await run(statement);
    expect(rows).toBe(expected);
    expect(buffers, plan).toBeLessThan(fewBuffers);
  });

  it.each<[name: string, query: Partial<EventQuery>]>([
    ["all", {}],
    ["types", { types: ["session.updated", "session.thinking", "session.created", "session.error"] }],
    ["sessions", { sessionIds: [large.sessionId, ...ids] }],
    ["a range of time", { createdAfter: "2026-01-01T00:00:00.000000Z" }],
    ["what no index knows", { types: ["session.updated"], updates: { words: {}, change: false } }],
  ])("of %s has no event that is not settled, or pending, at either end", async (_, query) => {
    for (const descending of [false, true]) {
      const { statement, parameters } = feedStatement({ ...all, ...query, descending, limit: 128 }, 0);
      const positions = (await database.sql.unsafe(statement, [...parameters])).map((row) => row["position"]);
      expect(positions).toHaveLength(128);
      const [first, second] = descending ? [settled, 59_980] : [1, 100];
      expect(Math.abs(positions[0] - first)).toBeLessThan(5);
      expect(Math.max(...positions)).toBeLessThanOrEqual(settled);
      expect(positions).not.toContain(second);
      expect(positions).not.toContain(101);
    }
  });
});
