/** What figures cost: as much as is counted, however many sessions and events there are. */

import type postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Queries } from "../../src/db/client.ts";
import {
  countedEventsOfSession,
  countedSessions,
  type Figures,
  type FiguresQuery,
  groupNames,
  readFigures,
  sharedFigures,
} from "../../src/sessions/metrics.ts";
import { costOf } from "../support/plans.ts";
import { startTestService, type TestService } from "../support/service.ts";

const context = { namespace: "default", requestId: "a-test" };
const agent = "00000000-0000-0000-0000-000000000007";
const someSession = "00000000-0000-7000-8000-000000000009";
const more = 10_000;

/** The service's statement, and its parameters, for whoever looks into its plan. */
async function statementOf(query: FiguresQuery): Promise<{ text: string; parameters: readonly unknown[] }> {
  const asked: { text: string; parameters: readonly unknown[] }[] = [];
  const recorder = {
    query: async (text: string, parameters: readonly unknown[]) => {
      asked.push({ text, parameters });
      return [{}];
    },
  } as unknown as Queries;
  await readFigures(recorder, context, query);
  const [first] = asked;
  if (first === undefined) throw new Error("nothing was asked");
  return first;
}

/** Sessions of the last hours, one in 1,000 of them an agent's, evenly, each with its first event. */
async function fill(sql: postgres.Sql, count: number): Promise<void> {
  await sql`
    insert into sessions (id, agent_id, created_at, updated_at, last_activity_at, phase_since)
    select case n when 9 then ${someSession}::text::uuid else gen_random_uuid() end,
      ('00000000-0000-0000-0000-' || lpad((n % 1000)::text, 12, '0'))::uuid, at, at, at, at
    from generate_series(1, ${count}) n, lateral (select now() - n * interval '0.1 s') t (at)
    order by n desc`;
  await sql`
    insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
    select gen_random_uuid(), id, 1, 1, 'session.created', '{}', created_at from sessions order by created_at`;
}

describe(`with ${countedSessions + more} sessions`, { timeout: 60_000 }, () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ SWEEP_INTERVAL_MS: "60000", RELAY: "off" });
    // Statistics come when a test asks for them.
    await service.database.sql`alter table sessions set (autovacuum_enabled = off)`;
    await service.database.sql`alter table events set (autovacuum_enabled = off)`;
    await fill(service.database.sql, countedSessions + more);
  }, 120_000);
  afterAll(() => service.stop());

  const figures = async (query: string) => {
    const answer = await service.request("GET", `/metrics/sessions${query}`);
    expect(answer.status, answer.text).toBe(200);
    return answer.body;
  };

  it("figures are of the newest, say so, and say since when", async () => {
    const body = await figures("");
    expect(body).toMatchObject({ complete: false, total: countedSessions, groups: [{ share: 1 }] });
    const [row] = await service.database.sql`
      select count(*)::int as count from sessions where created_at >= ${body.counted_since}::text::timestamptz`;
    expect(row?.["count"]).toBe(countedSessions);
    expect(Date.parse(body.since)).toBeLessThan(Date.parse(body.counted_since));
    expect(body.events).toMatchObject({ complete: true, counted_since: body.since, total: countedSessions + more });
  });

  it("figures of a shorter stretch, and of an agent, are of all", async () => {
    const short = await figures("?since=10m");
    expect(short).toMatchObject({ complete: true, counted_since: short.since });
    expect(short.total).toBeLessThan(6_001);
    const agents = await figures(`?agent_id=${agent}`);
    expect(agents).toMatchObject({ complete: true, total: (countedSessions + more) / 1_000 });
    expect(agents.events.total).toBe(agents.total);
  });

  it("figures read no more than they are of, with statistics and without", async () => {
    const { sql } = service.database;
    const ago = (ms: number) => ({ at: new Date(Date.now() - ms).toISOString() });
    for (const statistics of [false, true]) {
      if (statistics) await sql`vacuum analyze`;
      for (const groupBy of groupNames) {
        for (const [query, most] of [
          [{ groupBy, since: ago(10_000) }, 500],
          [{ groupBy, since: ago(86_400_000), agentId: agent }, 2_500],
        ] as const) {
          const { text, parameters } = await statementOf(query);
          // The seconds that were not asked for.
          const values = parameters.map((value) => value ?? "0");
          const { buffers, plan } = await costOf(sql, text, values);
          expect(buffers, plan).toBeLessThan(most);
        }
      }
    }
  });

  it(`of a session with more events ${countedEventsOfSession} are counted, and the answer says so`, async () => {
    await service.database.sql`
      insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
      select gen_random_uuid(), ${someSession}, n, 1, 'session.tool_call', '{}', now()
      from generate_series(2, ${countedEventsOfSession + 10}) n`;
    const { events } = (await service.request("GET", `/sessions/${someSession}/metrics`)).body;
    expect(events).toEqual({
      total: countedEventsOfSession,
      by_type: { "session.tool_call": countedEventsOfSession },
      complete: false,
    });
  });
});

it("who asks for the same at the same time shares one answer, and who asks later gets a new one", async () => {
  let asked = 0;
  const answers: ((rows: unknown[]) => void)[] = [];
  const database = {
    query: () => {
      asked++;
      return new Promise<unknown[]>((resolve) => answers.push(resolve));
    },
  } as unknown as Queries;
  const figures = sharedFigures(database);
  const query = { groupBy: "status", since: { secondsAgo: 60 } } as const;
  const waiting = [figures(context, query), figures(context, query), figures(context, { ...query, groupBy: "phase" })];
  expect(asked).toBe(2);
  for (const answer of answers) answer([{ total: 1 } as Figures]);
  expect(await Promise.all(waiting)).toEqual([{ total: 1 }, { total: 1 }, { total: 1 }]);
  void figures(context, query);
  expect(asked).toBe(3);
});
