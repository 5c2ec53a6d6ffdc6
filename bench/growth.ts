/**
 * What requests cost when there is much: `npm run bench:growth -- [get create …] [--rows=1000000] [--rounds=5]`.
 *
 * The same requests to a service on a database of 10,000 sessions and to one of 1,000,000, by turns, on one server. What
 * is asked for is a sample of the same size on both, so that neither has its pages more at hand than the other.
 */

import { startOwnRedis } from "../tests/support/engines.ts";
import { startPostgresServer } from "../tests/support/postgres-server.ts";
import { type Grown, openGrown } from "./cost/grown.ts";
import { option, words } from "./cost/options.ts";
import { median, spread } from "./figures.ts";
import { line, title, verdict } from "./lifecycle/print.ts";
import { type Measurement, type Operation, runLoad } from "./load.ts";
import { scenarios } from "./scenarios.ts";

const few = 10_000;
const many = option("rows", 1_000_000);
const rounds = option("rounds", 5);
const seconds = option("seconds", 1);
const operations = words<Operation>(["get", "list", "create", "patch", "heartbeat"]);

/** At most so many times what it costs with few sessions. */
const worst = 1.2;

function load(side: Grown, operation: Operation, connections: number, forSeconds: number): Promise<Measurement> {
  const { ids } = scenarios[operation];
  if (ids === "large") throw new Error(`${operation} needs sessions that there are none of here`);
  return runLoad({ url: side.service.url, operation, ids: side[ids], connections, seconds: forSeconds });
}

async function compare(operation: Operation, connections: number, sides: readonly [Grown, Grown]): Promise<void> {
  const measured = sides.map((): Measurement[] => []);
  for (const side of sides) await load(side, operation, connections, 1);
  for (let round = 0; round < rounds; round++) {
    // Whoever comes second finds what the first left to write back: by turns.
    for (const at of round % 2 === 0 ? [0, 1] : [1, 0]) {
      const side = sides[at];
      if (side !== undefined) measured[at]?.push(await load(side, operation, connections, seconds));
    }
  }
  const [small = [], large = []] = measured;
  const errors = [...small, ...large].reduce((sum, run) => sum + run.errors, 0);
  if (errors > 0) throw new Error(`${errors} requests of ${operation} failed: the figures would say nothing`);
  const ratios = small.map((run, at) => {
    const other = large[at] ?? run;
    return connections === 1 ? other.p50Ms / run.p50Ms : run.perSecond / other.perSecond;
  });
  const figure = (runs: readonly Measurement[]) =>
    connections === 1
      ? `p50 ${median(runs.map(({ p50Ms }) => p50Ms)).toFixed(2)} ms`
      : `${Math.round(median(runs.map(({ perSecond }) => perSecond)))}/s`;
  const ratio = median(ratios);
  const name = `${operation}, ${connections} connection${connections === 1 ? "" : "s"}`;
  line(name, figure(small), figure(large), `${ratio.toFixed(2)} (${spread(ratios, (one) => one.toFixed(2))})`);
  verdict(name, ratio <= worst, `at most ${worst} times what it costs with ${few} sessions`);
}

await using server = await startPostgresServer();
const redis = await startOwnRedis();
await using small = await openGrown(server.url, redis.url, few);
await using large = await openGrown(server.url, redis.url, many);
for (const { sql, rows } of [small, large]) {
  const [size] = await sql<{ sessions: string; all: string; buffers: string }[]>`
    select pg_size_pretty(pg_total_relation_size('sessions')) as sessions,
      pg_size_pretty(pg_database_size(current_database())) as all, current_setting('shared_buffers') as buffers`;
  console.log(`${rows} sessions: ${size?.sessions} with indexes, ${size?.all} in all; shared_buffers ${size?.buffers}`);
}
title(`By turns, ${rounds} rounds of ${seconds} s`);
line("", `${few} sessions`, `${many} sessions`, "ratio");
for (const operation of operations) {
  for (const connections of [1, 32]) await compare(operation, connections, [small, large]);
  for (const { sql } of [small, large]) await sql`vacuum (analyze) sessions`;
}
await redis.stop();
