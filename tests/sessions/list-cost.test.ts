/** What a page of a filtered list costs: as much as the page holds, however many other sessions there are. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Queries } from "../../src/db/client.ts";
import { type ListPlace, listByAgents, listSessions, type SessionQuery } from "../../src/sessions/list.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { costOf } from "../support/plans.ts";

/** Blocks of 8 KiB; a page of 100 sessions has some of the table for each, and a few of an index for each status. */
const fewBuffers = 500;

const agent = "00000000-0000-0000-0000-000000000007";

const context = { namespace: "default", requestId: "" };

interface Asked {
  readonly text: string;
  readonly parameters: readonly unknown[];
}

describe("a page of 100 out of 60,000 sessions", () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
    // Nearly all run; one in 400 crashed, long ago. Every tenth is of one agent.
    await database.sql`
      insert into sessions (id, agent_id, phase, created_at, updated_at, last_activity_at, phase_since)
      select gen_random_uuid(), ('00000000-0000-0000-0000-' || lpad((n % 10)::text, 12, '0'))::uuid,
        case when n > 50000 then 'running' when n % 400 = 7 then 'crashed' else 'busy' end,
        at, at, at, at
      from generate_series(1, 60000) n, lateral (select timestamptz '2026-01-01T00:00:00Z' + n * interval '1 second') t (at)`;
    await database.sql`vacuum analyze`;
  });
  afterAll(() => database.drop());

  /** The first statement that is asked for. */
  async function firstOf(list: (recorder: Queries) => Promise<unknown>): Promise<Asked> {
    const asked: Asked[] = [];
    const recorder = {
      query: async (text: string, parameters: readonly unknown[]) => {
        asked.push({ text, parameters });
        return [];
      },
    } as unknown as Queries;
    await list(recorder);
    const [first] = asked;
    if (first === undefined) throw new Error("nothing was asked");
    return first;
  }

  const noon: ListPlace = { createdAt: "2026-01-01T08:00:00.000000Z", id: agent };

  const statementOf = (query: Partial<SessionQuery>) =>
    firstOf((recorder) => listSessions(recorder, context, { limit: 100, ...query }));

  it.each<[name: string, query: Partial<SessionQuery>, rows?: number]>([
    ["all", {}],
    ["one status, frequent", { phases: ["running", "busy"] }],
    ["one status, frequent, from a cursor", { phases: ["running", "busy"], after: noon }],
    ["one status, rare", { phases: ["failed", "crashed", "expired", "timed_out"] }],
    ["one status, rare, from a cursor", { phases: ["crashed"], after: noon }, 72],
    ["a status that none has", { phases: ["completed"] }, 0],
    ["two statuses, rare", { phases: ["idle", "crashed"] }],
    ["two statuses, one rare and one frequent", { phases: ["running", "crashed"] }],
    ["three statuses, from a cursor", { phases: ["busy", "crashed", "idle"], after: noon }],
    ["an agent's of one status", { phases: ["running", "busy"], agentId: agent }],
  ])("%s", async (_, query, expected = 101) => {
    const { text, parameters } = await statementOf(query);
    expect(await database.sql.unsafe(text, parameters as string[])).toHaveLength(expected);
    for (const kind of ["generic", "custom"] as const) {
      const { buffers, plan } = await costOf(database.sql, text, parameters, kind);
      expect(buffers, `${kind} ${plan}`).toBeLessThan(fewBuffers);
    }
  });

  it.each<[name: string, after: ListPlace | undefined]>([
    ["ten agents' at once", undefined],
    ["ten agents' at once, from a cursor", noon],
  ])("%s", async (_, after) => {
    const asked = Array.from({ length: 10 }, (_, n) => ({
      context,
      input: { agentId: `${agent.slice(0, -1)}${n}`, limit: 10, after },
    }));
    const { text, parameters } = await firstOf((recorder) => listByAgents(recorder, asked));
    const rows = await database.sql.unsafe<{ number: number; agent_id: string; created_at: Date }[]>(
      text,
      parameters as string[],
    );
    expect(rows.map(({ number }) => number)).toEqual(asked.flatMap((_, n) => Array(11).fill(n + 1)));
    const times = rows.map(({ number, created_at }) => [number, -created_at.getTime()]);
    expect(times).toEqual(times.toSorted(([a = 0, b = 0], [c = 0, d = 0]) => a - c || b - d));
    for (const kind of ["generic", "custom"] as const) {
      const { buffers, plan } = await costOf(database.sql, text, parameters, kind);
      expect(buffers, `${kind} ${plan}`).toBeLessThan(fewBuffers);
    }
  });
});
