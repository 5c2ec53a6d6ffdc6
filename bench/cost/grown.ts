/** A service on a database that holds so many sessions already, each with the event of its creation. */

import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { type ServiceProcess, startServiceProcess } from "../../tests/support/process.ts";
import { openTable } from "../lifecycle/table.ts";
import { sessionFields } from "../scenarios.ts";

export interface Grown extends AsyncDisposable {
  readonly rows: number;
  readonly service: ServiceProcess;
  readonly sql: postgres.Sql;
  /** As many on every size, by chance from all that there are: as many pages of the table are asked for. */
  readonly sessions: readonly string[];
  /** Each has as many sessions at every size, scattered over the table. */
  readonly agents: readonly string[];
  /** Agents that have no sessions yet. */
  readonly creators: readonly string[];
}

/** An agent's sessions: a list gives the same number of rows at every size. */
export const sessionsEach = 20;

const sampled = { sessions: 4_000, agents: 200 };
/** Rows of one statement: it is over within the two minutes after which the tables would be checkpointed midway. */
const batchRows = 250_000;

/** Fills a new database, reads all of it once, and starts a service on it. */
export async function openGrown(serverUrl: string, redisUrl: string, rows: number): Promise<Grown> {
  await using table = await openTable(serverUrl, { name: "grown", rows, poolSize: 1, fill: (sql) => fill(sql, rows) });
  const url = new URL(serverUrl);
  url.pathname = `grown_${rows}`;
  const { sql } = table;
  await sql`vacuum (analyze) events`;
  // Leaves in memory what fits there.
  await sql`select count(*), sum(length(context::text)) from sessions`;
  const ids = await sql<{ id: string }[]>`
    select id from sessions order by md5(id::text) limit ${sampled.sessions}`;
  const agents = await sql<{ agent_id: string }[]>`
    select agent_id from sessions where created_at > now() - interval '7 days' group by agent_id
    order by md5(agent_id::text) limit ${sampled.agents}`;
  const service = await startServiceProcess({ settings: { DATABASE_URL: url.href, REDIS_URL: redisUrl } });
  const own = postgres(url.href, { max: 1, onnotice: () => {} });
  return {
    rows,
    service,
    sql: own,
    sessions: ids.map(({ id }) => id),
    agents: agents.map(({ agent_id }) => agent_id),
    creators: Array.from({ length: sampled.agents }, () => randomUUID()),
    async [Symbol.asyncDispose]() {
      await own.end();
      await service.stop();
    },
  };
}

/** As the service would have left them over a week: ids grow with time, an agent's sessions lie far apart. */
async function fill(sql: postgres.Sql, rows: number): Promise<void> {
  const context = JSON.stringify(sessionFields.context);
  const agents = rows / sessionsEach;
  for (let from = 1; from <= rows; from += batchRows) {
    await sql`
      with made as (
        insert into sessions (id, agent_id, session_type, phase, runtime_backend, context, context_bytes, last_sequence,
          created_at, updated_at, last_activity_at, phase_since, started_at, attempt_started_at)
        select (lpad(to_hex((extract(epoch from made) * 1000)::bigint), 12, '0') || '7000' ||
            substr(md5(i::text), 1, 16))::uuid,
          md5((i % ${agents}::int)::text)::uuid, 'development', 'running', 'local', ${context}::text::jsonb,
          ${context.length}::int, 1, made, made, made, made, made, made
        from generate_series(${from}::int, ${Math.min(from + batchRows - 1, rows)}::int) i
        cross join lateral (select now() - interval '6 days' * (1 - i / ${rows}::float8) as made) m
        returning id, agent_id, created_at
      )
      insert into events (event_id, session_id, sequence, session_version, event_type, payload, metadata, created_at)
      select gen_random_uuid(), id, 1, 1, 'session.created', jsonb_build_object('agent_id', agent_id,
        'session_type', 'development', 'runtime_backend', 'local', 'phase', 'running'),
        jsonb_build_object('request_id', id), created_at
      from made`;
  }
  // All of it has been published long ago.
  await sql`
    update relays set position = last, settled = last from (select max(position) as last from events) e`;
}
