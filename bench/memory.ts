/**
 * What the service keeps in memory at full load: `npm run bench:memory -- [--minutes=10] [--embedded]`.
 *
 * Everything is asked for at once, by 32 connections, while the resident memory is read each second: on a PostgreSQL and
 * a Redis of their own, as in production; `--embedded` on those that the service brings along, its Valkey in the same
 * process. There are no streams: what they cost is told by `npm run bench:events`.
 */

import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { dataFolder, type ServiceProcess, startServiceProcess } from "../tests/support/process.ts";
import { type Ids, seed } from "./compare/seed.ts";
import { inspectable, openInspector } from "./cost/inspector.ts";
import { option } from "./cost/options.ts";
import { openStage } from "./events/stage.ts";
import { median } from "./figures.ts";
import { line, title, verdict } from "./lifecycle/print.ts";
import { type Operation, residentMb, runLoad } from "./load.ts";
import { scenarios } from "./scenarios.ts";

/** Connections of each: 32 together. */
const mix = { create: 6, get: 8, patch: 6, list: 6, heartbeat: 6 } as const;
const minutes = option("minutes", 10);
/** Over so long the readings of a minute's end are taken together: it goes up and down with each garbage collection. */
const endSeconds = 15;
const most = { mb: 150, growth: 1.1 };

type Service = Pick<ServiceProcess, "url" | "pid" | "stderr"> & { readonly databaseUrl: string };

/** The resident memory, once a second. */
async function measure({ url, pid }: Service, ids: Ids): Promise<number[]> {
  const runs = (Object.keys(mix) as (keyof typeof mix)[]).map((operation: Operation & keyof typeof mix) =>
    runLoad({ url, operation, ids: ids[scenarios[operation].ids], connections: mix[operation], seconds: minutes * 60 }),
  );
  const readings: number[] = [];
  const reading = (async () => {
    for (let second = 0; second < minutes * 60; second++) {
      await sleep(1_000);
      readings.push(residentMb(pid) ?? 0);
      if (readings.length % 60 === 0) printMinute(readings);
    }
  })();
  const done = await Promise.all(runs);
  await reading;
  const names = Object.keys(mix);
  line("load", ...done.map(({ perSecond }, at) => `${names[at]} ${Math.round(perSecond)}/s`));
  const errors = done.reduce((sum, run) => sum + run.errors, 0);
  if (errors > 0) throw new Error(`${errors} requests failed: the figures would say nothing`);
  return readings;
}

function endOf(readings: readonly number[], minute: number): number {
  return median(readings.slice(minute * 60 - endSeconds, minute * 60));
}

function printMinute(readings: readonly number[]): void {
  const minute = readings.length / 60;
  const last = readings.slice(-60);
  const all = `${Math.round(Math.min(...last))} to ${Math.round(Math.max(...last))} MB`;
  line(`minute ${minute}`, `${Math.round(endOf(readings, minute))} MB at its end`, all);
}

/** What it is made of: V8's heap by its spaces, and what lies beside it. */
async function printParts({ stderr }: Service, when: string): Promise<void> {
  await using inspector = await openInspector(stderr());
  const { memory, spaces } = await inspector.evaluate<{
    memory: Readonly<Record<string, number>>;
    spaces: readonly { readonly space_name: string; readonly space_size: number; readonly space_used_size: number }[];
  }>("({ memory: process.memoryUsage(), spaces: process.getBuiltinModule('node:v8').getHeapSpaceStatistics() })");
  const mb = (bytes = 0) => `${(bytes / 1024 / 1024).toFixed(1)} MB`;
  line(when, ...["rss", "heapTotal", "heapUsed", "external"].map((name) => `${name} ${mb(memory[name])}`));
  for (const { space_name: name, space_size: size, space_used_size: used } of spaces) {
    if (size > 1024 * 1024) line(`  ${name}`, mb(size), `${mb(used)} used`);
  }
}

async function bench(name: string, service: Service): Promise<void> {
  const sql = postgres(service.databaseUrl, { max: 1, onnotice: () => {} });
  const ids = await seed(service.url, [sql]);
  await sql.end();
  title(`${name}, ${minutes} minutes at full load`);
  await printParts(service, "at rest");
  const readings = await measure(service, ids);
  await printParts(service, "at the end");
  const first = endOf(readings, 1);
  const last = endOf(readings, Math.floor(readings.length / 60));
  verdict("size", Math.max(...readings) <= most.mb, `never more than ${most.mb} MB`);
  verdict("growth", last <= first * most.growth, `at most ${most.growth} of that after a minute`);
}

if (process.argv.includes("--embedded")) {
  using folder = dataFolder();
  await using service = await startServiceProcess({ settings: { DATA_DIR: folder.path, ...inspectable } });
  await bench("With the embedded PostgreSQL and Valkey", { ...service, databaseUrl: service.databaseUrl ?? "" });
} else {
  await using stage = await openStage();
  await bench("With a PostgreSQL and a Redis of their own", await stage.serve(inspectable));
}
