/**
 * Where the service's time goes: `npm run bench:profile -- [get create …] [--seconds=5] [--top=10]`.
 *
 * Each operation is asked for by 32 connections while V8 writes down what runs, every 200 µs. Leaves
 * `bench/results/<operation>.cpuprofile`, which Chrome's developer tools and speedscope open, and prints the functions that
 * the time was spent in. The profiler takes some of it: rates are for `npm run bench`.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { type Ids, seed } from "./compare/seed.ts";
import { type CpuProfile, type Share, summarize } from "./cost/cpu-profile.ts";
import { type Inspector, inspectable, openInspector } from "./cost/inspector.ts";
import { option, words } from "./cost/options.ts";
import { openStage, type StagedService } from "./events/stage.ts";
import { title } from "./lifecycle/print.ts";
import { type Operation, operations, runLoad } from "./load.ts";
import { scenarios } from "./scenarios.ts";

const samplingUs = 200;
const seconds = option("seconds", 5);
const top = option("top", 10);
const results = fileURLToPath(new URL("./results/", import.meta.url));

async function profile(operation: Operation, service: StagedService, ids: Ids, inspector: Inspector): Promise<void> {
  const run = { url: service.url, operation, ids: ids[scenarios[operation].ids] };
  // What V8 has not compiled yet says little of how it goes on.
  await runLoad({ ...run, seconds: 2 });
  await inspector.send("Profiler.start");
  const { perSecond, errors } = await runLoad({ ...run, seconds });
  const { profile: taken } = await inspector.send<{ profile: CpuProfile }>("Profiler.stop");
  if (errors > 0) throw new Error(`${errors} requests of ${operation} failed: the profile would say nothing`);
  writeFileSync(`${results}${operation}.cpuprofile`, JSON.stringify(taken));
  const { functions, groups, idle } = summarize(taken);
  title(`${operation}: ${Math.round(perSecond)}/s with the profiler on, idle ${percent(idle)}`);
  print(functions.slice(0, top));
  title("  by whose they are");
  print(groups.filter(({ share }) => share >= 0.001));
}

function print(shares: readonly Share[]): void {
  for (const { name, share } of shares) console.log(`${percent(share).padStart(7)}  ${name}`);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

const asked = words(operations);
mkdirSync(results, { recursive: true });
await using stage = await openStage();
const service = await stage.serve(inspectable);
await using inspector = await openInspector(service.stderr());
const sql = postgres(service.databaseUrl, { max: 1, onnotice: () => {} });
const ids = await seed(service.url, [sql]);
await sql`vacuum (analyze) sessions`;
await sql.end();
await inspector.send("Profiler.enable");
await inspector.send("Profiler.setSamplingInterval", { interval: samplingUs });
for (const operation of asked) await profile(operation, service, ids, inspector);
