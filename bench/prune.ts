/**
 * What pruning checkpoints does to others: `npm run bench:prune -- [--rows=1000000] [--seconds=5] [--connections=8]`.
 *
 * So many checkpoints, a hundred a session, of which one each is to stay. They are removed as the service does it by
 * itself, while others save checkpoints: by turns for so many seconds with the prune and without it, until all is removed.
 */

import { startCheckpointRetention } from "../src/jobs/retain-checkpoints.ts";
import { startOwnRedis } from "../tests/support/engines.ts";
import { startPostgresServer } from "../tests/support/postgres-server.ts";
import { startServiceProcess } from "../tests/support/process.ts";
import { option } from "./cost/options.ts";
import { median, percentile, spread } from "./figures.ts";
import { line, ms, title, verdict } from "./lifecycle/print.ts";
import { openTable, type Table } from "./lifecycle/table.ts";
import { type Measurement, runLoad } from "./load.ts";

const rows = option("rows", 1_000_000);
const seconds = option("seconds", 5);
const connections = option("connections", 8);
/** Rounds with the prune and without it; the prune is then let end alone. */
const mostRounds = option("rounds", 60);

const each = 100;
const sessions = Math.ceil(rows / each);
/** Sessions of the others, from which nothing is removed: each turn of the prune begins with the newest session. */
const others = 2_000;

/** At most so many times what it is without the prune. */
const worst = 1.2;

/** Sessions with so many checkpoints each, made one after the other over a week, with ids in that order. */
async function fill(sql: Table["sql"], count: number, checkpoints: number, details: string | null): Promise<void> {
  const batch = 1_000;
  for (let from = 1; from <= count; from += batch) {
    await sql`
      with made as (
        insert into sessions (id, agent_id, session_type, runtime_backend, context, context_bytes, last_sequence, version,
          created_at, updated_at, last_activity_at, phase_since, details, checkpoint, checkpoint_bytes, last_checkpoint,
          checkpoint_count)
        select (lpad(to_hex((extract(epoch from made) * 1000)::bigint), 12, '0') || '7000' ||
            substr(md5(i::text || random()), 1, 16))::uuid,
          md5(i::text)::uuid, 'development', 'local', jsonb_build_object('text', repeat('lorem ipsum ', 50)), 612, 100,
          100, made, made, made, made, ${details}::text::jsonb, '{}', 2, ${checkpoints}, ${checkpoints}
        from generate_series(${from}::int, ${Math.min(from + batch - 1, count)}::int) i
        cross join lateral (select now() - interval '6 days' * (1 - i / ${count}::float8) as made) m
        returning id
      )
      insert into checkpoints (session_id, number, id, data, bytes, session_version, created_at)
      select id, n, gen_random_uuid(), jsonb_build_object('step', n, 'text', repeat('checkpoint of some work ', 11)), 290,
        n, now() - interval '1 hour'
      from made cross join generate_series(1, ${checkpoints}::int) n
      order by n, id`;
  }
}

async function fillAll(sql: Table["sql"]): Promise<void> {
  await fill(sql, sessions, each, null);
  await fill(sql, others, 1, '{"checkpoint_retention": {"keep_last": 0}}');
}

await using server = await startPostgresServer();
const redis = await startOwnRedis();
await using table = await openTable(server.url, { name: "prune", rows, poolSize: 2, fill: fillAll });
const { sql, database } = table;
await sql`vacuum (analyze) checkpoints`;
await sql`checkpoint`;
const [size] = await sql<{ size: string }[]>`select pg_size_pretty(pg_total_relation_size('checkpoints')) as size`;
const databaseUrl = new URL(server.url);
databaseUrl.pathname = `prune_${rows}`;
const service = await startServiceProcess({
  // It removes nothing by itself: it is done here, when it is its turn.
  settings: { DATABASE_URL: databaseUrl.href, REDIS_URL: redis.url, CHECKPOINT_KEEP_LAST: "0" },
});
const ids = (await sql<{ id: string }[]>`select id from sessions where details is not null`).map(({ id }) => id);

const load = (): Promise<Measurement> => runLoad({ url: service.url, operation: "patch", ids, connections, seconds });

async function left(): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select sum(checkpoint_count - 1)::int as count from sessions where details is null`;
  return row?.count ?? 0;
}

const failures: unknown[] = [];

async function withPrune<T>(run: () => Promise<T>): Promise<T> {
  const rules = { keep_last: 1, keep_days: 0, keep_daily_days: 0 };
  const job = startCheckpointRetention({
    database,
    rules,
    onError: (error) => failures.push(error),
    everyMs: 50,
  });
  try {
    return await run();
  } finally {
    await job.stop();
  }
}

title(`${await left()} of ${rows} checkpoints to remove (${size?.size}), ${connections} connections that save others`);
line("", "alone: p99, a second", "with the prune", "left");
await load();
const alone: Measurement[] = [];
const pruning: Measurement[] = [];
const figures = ({ p99Ms, perSecond }: Measurement) => `${ms(p99Ms)}, ${Math.round(perSecond)}/s`;
let remaining = await left();
let removed = 0;
for (let round = 0; remaining > 0 && round < mostRounds; round++) {
  const before = remaining;
  const turns = { alone: load, pruning: () => withPrune(load) };
  // Whoever comes second finds what the first left to write back: by turns.
  const order = round % 2 === 0 ? (["alone", "pruning"] as const) : (["pruning", "alone"] as const);
  for (const turn of order) (turn === "alone" ? alone : pruning).push(await turns[turn]());
  remaining = await left();
  removed += before - remaining;
  const [a, p] = [alone.at(-1), pruning.at(-1)];
  if (a !== undefined && p !== undefined) line(`round ${round + 1}`, figures(a), figures(p), String(remaining));
}
const p99s = (runs: readonly Measurement[]) => runs.map(({ p99Ms }) => p99Ms);
const ratios = pruning.map(({ p99Ms }, at) => p99Ms / (alone[at]?.p99Ms ?? p99Ms));
line("p99, median of the rounds", ms(median(p99s(alone))), ms(median(p99s(pruning))));
line("worst round", ms(percentile(p99s(alone), 1)), ms(percentile(p99s(pruning), 1)));
line("removed a second", "", `${Math.round(removed / (pruning.length * seconds))}/s`);
const ratio = median(p99s(pruning)) / median(p99s(alone));
line(
  "ratio",
  ratio.toFixed(2),
  spread(ratios, (one) => one.toFixed(2)),
);
verdict("p99 of others", ratio <= worst, `at most ${worst} times what it is without the prune`);
verdict("whole", remaining === 0, "all that is too much is removed");
const errors = [...alone, ...pruning].reduce((sum, run) => sum + run.errors, 0);
verdict("nothing failed", errors === 0 && failures.length === 0, "neither requests nor steps of the prune");
const wrong = await sql`
  select s.id from sessions s join (select session_id, count(*) as count from checkpoints group by 1) c
    on c.session_id = s.id and c.count <> s.checkpoint_count`;
verdict("counts", wrong.length === 0, "checkpoint_count is the number of checkpoints of each session");
await service.stop();
await redis.stop();
