/**
 * How fast the service is beside a bare control, and what it costs: `npm run bench -- [scenarios] [--quick] [--check]`.
 *
 * Both run at once, each in a process of its own, on databases of one PostgreSQL server, and are asked by turns: what
 * else the machine does hits both alike. The ratio of a round is taken within the round. How much the control's own
 * rounds differ says how noisy the machine was, and so what a ratio is worth.
 */

import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { startOwnRedis } from "../tests/support/engines.ts";
import { type DataFolder, dataFolder } from "../tests/support/process.ts";
import { measureAlone } from "./compare/alone.ts";
import { movement, readBaseline, writeBaseline } from "./compare/baseline.ts";
import { compareFields } from "./compare/fields.ts";
import { measureCommitToSubscriber, measureFanOut } from "./compare/live.ts";
import { measure, RequestsFailed, warmUp } from "./compare/measure.ts";
import { type Options, type Part, readOptions } from "./compare/options.ts";
import { printCell, printHeader } from "./compare/print.ts";
import { type Cell, cellOf } from "./compare/results.ts";
import { openSides, type SideName, type Sides, startService, tidy } from "./compare/sides.ts";
import { measureStarts, memoryOf } from "./compare/starts.ts";
import { verdictsOf } from "./compare/thresholds.ts";
import { openStage } from "./events/stage.ts";
import { median } from "./figures.ts";
import { verdict } from "./lifecycle/print.ts";
import { loader, type Operation } from "./load.ts";
import { scenarios } from "./scenarios.ts";

const results = fileURLToPath(new URL("./results/", import.meta.url));

async function main(): Promise<void> {
  const options = asked();
  if (options === undefined) return;
  const machine = {
    at: new Date().toISOString(),
    node: process.version,
    processors: cpus().length,
    loader,
    // What else is at work here slows all of them alike.
    loadBefore: loadavg()[0] ?? 0,
  };
  console.log(
    `${machine.processors} processors, Node.js ${machine.node}, by ${loader}; load of the machine before, over the last ` +
      `minute: ${machine.loadBefore.toFixed(1)}`,
  );
  const began = performance.now();
  const measured = {
    ...(options.parts.includes("starts") ? { starts: await inFolder(measureStarts) } : {}),
    ...(options.operations.length > 0 ? await inFolder((folder) => compare(folder, options)) : {}),
    ...(await live(options.parts)),
  };
  const cells = measured.cells ?? [];
  const postgres = options.parts.includes("postgres") ? await inFolder((folder) => alone(folder, cells)) : undefined;
  mkdirSync(results, { recursive: true });
  writeFileSync(
    `${results}latest.json`,
    `${JSON.stringify({ machine, options, ...measured, postgres }, undefined, 2)}\n`,
  );
  console.log(`\nTook ${Math.round((performance.now() - began) / 1_000)} s; all of it is in bench/results/latest.json`);
  if (options.writesBaseline) writeBaseline(cells);
  const failures = measured.failures ?? [];
  const holds = options.form !== "check" || check(cells, failures);
  if (!holds || failures.length > 0) process.exitCode = 1;
}

/** @returns undefined when that is not understood: it has been said then */
function asked(): Options | undefined {
  try {
    return readOptions(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 2;
    return undefined;
  }
}

async function live(parts: readonly Part[]) {
  if (!parts.includes("streams") && !parts.includes("latency")) return {};
  await using stage = await openStage();
  return {
    ...(parts.includes("streams") ? { streams: await measureFanOut(stage) } : {}),
    ...(parts.includes("latency") ? { latency: await measureCommitToSubscriber(stage) } : {}),
  };
}

async function alone(folder: DataFolder, cells: readonly Cell[]) {
  // Events that pgbench makes are nobody's to publish.
  await using sides = await openSides(folder, await startService(folder, { RELAY: "off" }));
  return await measureAlone(sides, cells);
}

async function inFolder<T>(run: (folder: DataFolder) => Promise<T>): Promise<T> {
  using folder = dataFolder();
  return await run(folder);
}

async function compare(folder: DataFolder, options: Options) {
  await using redis = options.embeddedBroker ? undefined : await startRedis();
  console.log(`Redis: ${redis?.kind ?? "the embedded Valkey"}`);
  const settings = redis === undefined ? {} : { REDIS_URL: redis.url };
  const service = await startService(folder, settings);
  await using sides = await openSides(folder, service, { withOff: options.offAt.length > 0, settings });
  await compareFields(sides);
  const atRest = memoryOf("at rest", service, folder);
  console.log(
    `\n${options.rounds} rounds of ${options.seconds} s by turns, ${sides.ids.sessions.length} sessions at first\n`,
  );
  printHeader(options.operations);
  const baseline = readBaseline();
  const cells: Cell[] = [];
  const failures: string[] = [];
  for (const operation of options.operations) {
    for (const connections of options.connections) {
      try {
        for (const cell of await compareOne(sides, operation, connections, options)) {
          printCell(cell, movement(cell, baseline));
          cells.push(cell);
        }
      } catch (error) {
        if (!(error instanceof RequestsFailed)) throw error;
        failures.push(`${operation} at ${connections}: ${error.message}`);
        console.log(failures.at(-1));
      }
    }
    if (scenarios[operation].litters) await tidy(sides.all);
  }
  const noises = cells.length === 0 ? [0] : cells.map(({ noise }) => noise);
  console.log(
    `\nNoise: the control's own rounds differ by ±${median(noises)} % in the middle, ±${Math.max(...noises)} % at most; ` +
      `load of the machine after: ${(loadavg()[0] ?? 0).toFixed(1)}`,
  );
  return { cells, failures, memory: { atRest, afterLoad: memoryOf("after the load", service, folder) } };
}

/** As in production: a process of its own. Undefined where none is installed. */
async function startRedis(): Promise<(AsyncDisposable & { readonly url: string; readonly kind: string }) | undefined> {
  if (spawnSync("redis-server", ["--version"]).error !== undefined) return undefined;
  const redis = await startOwnRedis();
  return { url: redis.url, kind: "redis-server", [Symbol.asyncDispose]: () => redis.stop() };
}

async function compareOne(sides: Sides, operation: Operation, connections: number, options: Options): Promise<Cell[]> {
  const asked: SideName[] = ["service", ...(options.offAt.includes(connections) ? (["off"] as const) : []), "control"];
  const plan = { ...options, operation, connections, sides: asked };
  if (connections === options.connections[0]) await warmUp(sides, { ...plan, sides: ["service", "off", "control"] });
  const rounds = await measure(sides, plan);
  return (["service", "off"] as const).flatMap((side) => cellOf(operation, connections, side, rounds) ?? []);
}

function check(cells: readonly Cell[], failures: readonly string[]): boolean {
  const failed = failures.map((name) => ({ name, holds: false, expectation: "no request fails" }));
  const verdicts = [...cells.flatMap(verdictsOf), ...failed];
  for (const { name, holds, expectation } of verdicts) verdict(name, holds, expectation);
  return verdicts.every(({ holds }) => holds);
}

await main();
