/**
 * What a bulk delete does to others: `npm run bench:bulk -- [--rows=100000] [--rounds=5] [--seconds=4] [--connections=8]`.
 *
 * Sessions are deleted softly, a part of them in each round, while others create some: by turns for so many seconds
 * without a job and with it; the job is then let end alone.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { startOwnRedis } from "../tests/support/engines.ts";
import { startPostgresServer } from "../tests/support/postgres-server.ts";
import { startServiceProcess } from "../tests/support/process.ts";
import { option } from "./cost/options.ts";
import { median, spread } from "./figures.ts";
import { line, ms, title, verdict } from "./lifecycle/print.ts";
import { openTable, type Table } from "./lifecycle/table.ts";
import { type Measurement, runLoad } from "./load.ts";

const rows = option("rows", 100_000);
const rounds = option("rounds", 5);
const seconds = option("seconds", 4);
const connections = option("connections", 8);

/** Of the creates there are without a job, at least so many. */
const least = 0.8;

const ownerOf = (round: number) => `00000000-0000-4000-8000-${String(round).padStart(12, "0")}`;
const creators = Array.from({ length: 100 }, (_, n) => ownerOf(1_000 + n));

async function fill(sql: Table["sql"]): Promise<void> {
  await sql`
    insert into sessions (id, agent_id, session_type, runtime_backend, context, context_bytes, last_sequence, created_at,
      updated_at, last_activity_at, phase_since)
    select gen_random_uuid(), ('00000000-0000-4000-8000-' || lpad((n % ${rounds}::int)::text, 12, '0'))::uuid, 'task', 'local',
      jsonb_build_object('text', repeat('lorem ipsum ', 50)), 612, 1, made, made, made, made
    from generate_series(1, ${rows}::int) n
    cross join lateral (select now() - n * interval '1 second' as made) m`;
}

await using server = await startPostgresServer();
const redis = await startOwnRedis();
await using table = await openTable(server.url, { name: "bulk", rows, poolSize: 2, fill });
const databaseUrl = new URL(server.url);
databaseUrl.pathname = `bulk_${rows}`;
const service = await startServiceProcess({ settings: { DATABASE_URL: databaseUrl.href, REDIS_URL: redis.url } });

async function ask<Answer>(path: string, body?: object): Promise<Answer> {
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(`${service.url}${path}`, init);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as Answer;
}

interface Job {
  readonly id: string;
  readonly state: string;
  readonly changed: number;
  readonly created_at: string;
  readonly finished_at: string | null;
}

async function begin(round: number): Promise<Job> {
  const filter = { agent_id: ownerOf(round) };
  const { token } = await ask<{ token: string }>("/sessions/bulk-delete", { filter, dry_run: true });
  return ask<Job>("/sessions/bulk-delete", { filter, token });
}

async function ended({ id }: Job): Promise<Job> {
  for (;;) {
    const job = await ask<Job>(`/jobs/${id}`);
    if (job.finished_at !== null) return job;
    await sleep(100);
  }
}

const create = () => runLoad({ url: service.url, operation: "create", ids: creators, connections, seconds });

title(`${table.rows} sessions deleted by ${rounds} jobs, ${connections} connections that create others`);
line("", "alone: a second, p99", "with the job", "the job");
await create();
const alone: Measurement[] = [];
const beside: Measurement[] = [];
let deleted = 0;
let tookMs = 0;
const figures = ({ perSecond, p99Ms }: Measurement) => `${Math.round(perSecond)}/s, ${ms(p99Ms)}`;
for (let round = 0; round < rounds; round++) {
  const before = await create();
  const job = await begin(round);
  const during = await create();
  const { state } = await ask<Job>(`/jobs/${job.id}`);
  const done = await ended(job);
  deleted += done.changed;
  tookMs += Date.parse(done.finished_at ?? "") - Date.parse(done.created_at);
  alone.push(before);
  beside.push(during);
  line(`round ${round + 1}`, figures(before), figures(during), state === "running" ? "went on" : "had ended meanwhile");
}
const ratios = beside.map(({ perSecond }, at) => perSecond / (alone[at]?.perSecond ?? perSecond));
line("deleted a second", "", "", `${Math.round((deleted / tookMs) * 1_000)}/s`);
line(
  "ratio",
  median(ratios).toFixed(2),
  spread(ratios, (one) => one.toFixed(2)),
);
verdict("creates of others", median(ratios) >= least, `at least ${least} of what they are without a job`);
verdict("whole", deleted === rows, "every session that was meant is deleted, and counted");
const errors = [...alone, ...beside].reduce((sum, run) => sum + run.errors, 0);
verdict("nothing failed", errors === 0, "no request");
await service.stop();
await redis.stop();
