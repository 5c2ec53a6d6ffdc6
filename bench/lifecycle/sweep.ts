/** What a sweep costs beside how much: few due in a large table and in a small one, and very many at once. */

import type { Loop } from "../../src/jobs/loop.ts";
import { startSweeping } from "../../src/jobs/sweep-sessions.ts";
import { sweepStatement } from "../../src/sessions/sweep.ts";
import { costOf } from "../../tests/support/plans.ts";
import { startPostgresServer } from "../../tests/support/postgres-server.ts";
import { median, spread } from "../figures.ts";
import { line, ms, title, verdict } from "./print.ts";
import { openTable, type Table } from "./table.ts";

const expected = { sweepMs: 15, ratioToSmall: 1.2, perSecond: 10_000 };

const few = 100;
const many = 20_000;
const smallTable = 10_000;

/** Sessions that all have timers, none of them due. */
function openSweepTable(serverUrl: string, rows: number): Promise<Table> {
  return openTable(serverUrl, {
    name: "sweep",
    rows,
    poolSize: 2,
    fill: async (sql) => {
      // Made one after the other over a week, with ids in that order, as the service makes them.
      await sql`
    insert into sessions (id, agent_id, phase, context, created_at, updated_at, last_activity_at, phase_since, started_at,
      attempt_started_at, idle_timeout_seconds, timeout_seconds, lease_owner, lease_seconds, lease_expires_at,
      next_check_at)
    select (lpad(to_hex((extract(epoch from made) * 1000)::bigint), 12, '0') || '7000' || substr(md5(i::text), 1, 16))::uuid,
      ('00000000-0000-4000-8000-' || lpad((i % 1000)::text, 12, '0'))::uuid, 'running',
      jsonb_build_object('task', repeat('x', 200)), made, now(), now(), made, made, made, 86400, 1209600,
      case when i % 2 = 0 then 'worker-' || i % 50 end, case when i % 2 = 0 then 3600 end,
      case when i % 2 = 0 then now() + interval '1 h' end, now() + make_interval(secs => 3600 + i % 80000)
    from generate_series(1, ${rows}::int) i
    cross join lateral (select now() - interval '7 days' * (1 - i / ${rows}::float8) as made) m`;
    },
  });
}

/** Makes sessions due, scattered over the table. */
async function makeDue({ sql }: Table, count: number): Promise<void> {
  const changed = await sql`
    update sessions set last_activity_at = now() - interval '2 h', idle_timeout_seconds = 3600,
      next_check_at = now() - interval '1 h' * random(), phase = 'running', lease_owner = null, lease_expires_at = null
    where id in (select id from sessions where phase = 'running' order by md5(id::text || ${Math.random()}) limit ${count})`;
  if (changed.count !== count) throw new Error(`${changed.count} sessions were made due instead of ${count}`);
}

interface Measured {
  readonly ms: number;
  readonly swept: number;
}

/** One sweep of a process: until nothing is due. */
async function sweep({ database }: Table): Promise<Measured> {
  let swept = 0;
  let sweeping: Loop | undefined;
  try {
    return await new Promise<Measured>((resolve, reject) => {
      sweeping = startSweeping({
        finalCheckpoints: "crashes",
        database,
        everyMs: 60_000,
        onTransition: () => swept++,
        appended: () => {},
        onEnd: ({ seconds }) => resolve({ ms: seconds * 1_000, swept }),
        onError: reject,
      });
      sweeping.wake();
    });
  } finally {
    await sweeping?.stop();
  }
}

async function timedSweep(table: Table, count: number): Promise<number> {
  await makeDue(table, count);
  const { ms: took, swept } = await sweep(table);
  if (swept !== count) throw new Error(`${swept} of ${count} due sessions were swept`);
  return took;
}

/** Measures, prints, and says what it was to be. */
export async function benchSweep({ quick }: { readonly quick: boolean }): Promise<void> {
  const rows = quick ? 100_000 : 1_000_000;
  await using server = await startPostgresServer();
  await using small = await openSweepTable(server.url, smallTable);
  await using large = await openSweepTable(server.url, rows);
  await compare(small, large, quick ? 10 : 20);
  await showPlan(large);
  await workOff(large, quick ? 2 : 5);
}

async function compare(small: Table, large: Table, rounds: number): Promise<void> {
  for (const table of [small, large]) await timedSweep(table, few);
  const times = { small: [] as number[], large: [] as number[], none: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    times.small.push(await timedSweep(small, few));
    times.large.push(await timedSweep(large, few));
    times.none.push((await sweep(large)).ms);
  }
  title(`A sweep with ${few} sessions due, ${rounds} rounds by turns`);
  line("", "median", "all");
  line(`of ${small.rows}`, ms(median(times.small)), spread(times.small, ms));
  line(`of ${large.rows}`, ms(median(times.large)), spread(times.large, ms));
  line(`none due of ${large.rows}`, ms(median(times.none)), spread(times.none, ms));
  const ratio = median(times.large) / median(times.small);
  line("large to small", ratio.toFixed(2));
  verdict("sweep", median(times.large) <= expected.sweepMs, `at most ${expected.sweepMs} ms`);
  verdict("large to small", ratio <= expected.ratioToSmall, `at most ${expected.ratioToSmall}`);
}

async function showPlan(table: Table): Promise<void> {
  await makeDue(table, few);
  const { plan, buffers } = await costOf(table.sql, sweepStatement, ["now", "-infinity", "500"]);
  const reads = [...plan.matchAll(/"Node Type": "([^"]+)"[^{}]*?"Relation Name": "sessions"/g)].map(([, node]) => node);
  title(`How the statement reads ${table.rows} sessions: ${[...new Set(reads)].join(", ")}; ${buffers} blocks`);
  verdict("index", plan.includes('"Index Name": "sessions_due"'), "by sessions_due");
  verdict("no scan", !/Seq Scan"[^{}]*"Relation Name": "sessions"/.test(plan), "never reads the whole table");
}

async function workOff(table: Table, rounds: number): Promise<void> {
  const rates: number[] = [];
  for (let round = 0; round < rounds; round++) rates.push((many / (await timedSweep(table, many))) * 1_000);
  const perSecond = (rate: number) => `${Math.round(rate)}/s`;
  title(`${many} due at once, of ${table.rows}, one sweeper, ${rounds} rounds`);
  line("worked off", perSecond(median(rates)), spread(rates, perSecond));
  verdict("worked off", median(rates) >= expected.perSecond, `at least ${expected.perSecond}/s`);
}
