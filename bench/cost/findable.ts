/** A service on a database that holds so many sessions of 10,000 agents, to be found by all that lists know. */

import type postgres from "postgres";
import { type ServiceProcess, startServiceProcess } from "../../tests/support/process.ts";
import { openTable } from "../lifecycle/table.ts";

export interface Findable extends AsyncDisposable {
  readonly rows: number;
  readonly service: ServiceProcess;
  readonly sql: postgres.Sql;
}

export const agentCount = 10_000;
/** The oldest, as many at every size, carry one label. */
export const labelled = 2_000;
/** Rows of one statement. */
const batchRows = 100_000;

export const agentOf = (n: number) => `00000000-0000-4000-8000-${String(n % agentCount).padStart(12, "0")}`;

/** Fills a new database, reads all of it once, and starts a service on it. */
export async function openFindable(serverUrl: string, redisUrl: string, rows: number): Promise<Findable> {
  const table = await openTable(serverUrl, { name: "findable", rows, poolSize: 1, fill: (sql) => fill(sql, rows) });
  const { sql } = table;
  await sql`vacuum (analyze) session_labels`;
  // Leaves in memory what fits there.
  await sql`select count(*), sum(length(context::text)) from sessions`;
  const url = new URL(serverUrl);
  url.pathname = `findable_${rows}`;
  const service = await startServiceProcess({ settings: { DATABASE_URL: url.href, REDIS_URL: redisUrl } });
  return {
    rows,
    service,
    sql,
    async [Symbol.asyncDispose]() {
      await service.stop();
      await table[Symbol.asyncDispose]();
    },
  };
}

/** An agent's sessions lie far apart; one in ten has come to its end, one in four is a task. */
async function fill(sql: postgres.Sql, rows: number): Promise<void> {
  const context = JSON.stringify({ task: "some words of an agent's work, ".repeat(10) });
  for (let from = 1; from <= rows; from += batchRows) {
    await sql`
      with made as (
        insert into sessions (id, agent_id, session_type, phase, runtime_backend, external_id, context, context_bytes,
          details, created_at, updated_at, last_activity_at, phase_since)
        select ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid,
          ('00000000-0000-4000-8000-' || lpad((i % ${agentCount}::int)::text, 12, '0'))::uuid,
          case when i % 4 = 0 then 'task' else 'conversation' end, case when i % 10 = 0 then 'completed' else 'running' end,
          'local', 'ticket-' || i, ${context}::text::jsonb, ${context.length}::int,
          case when i <= ${labelled}::int then '{"labels": {"team": "old"}}'::jsonb end, made, made, made, made
        from generate_series(${from}::int, ${Math.min(from + batchRows - 1, rows)}::int) i
        cross join lateral (select now() - interval '6 days' * (1 - i / ${rows}::float8) as made) m
        returning id, created_at, details
      )
      insert into session_labels (session_id, key, value, created_at)
      select id, key, value, created_at from made, jsonb_each_text(details -> 'labels')`;
  }
}

export const heavyAgent = "00000000-0000-4000-8000-ffffffffffff";

/** So many sessions of one agent, each with a context of 100 KB. */
export async function fillHeavy(sql: postgres.Sql, count: number): Promise<void> {
  await sql`
    insert into sessions (id, agent_id, context, context_bytes, created_at, updated_at, last_activity_at, phase_since)
    select gen_random_uuid(), ${heavyAgent}, jsonb_build_object('text', text), length(text) + 12, now(), now(), now(), now()
    from generate_series(1, ${count}::int) n
    cross join lateral (select string_agg(md5((n * 10000 + part)::text), '') as text from generate_series(1, 3125) part) t`;
  await sql`vacuum (analyze) sessions`;
}
