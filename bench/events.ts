/**
 * What the events cost, and how soon they arrive: `npm run bench:events -- [--quick] [latency] [drain] [cost] [streams]`.
 *
 * The service under measure is a process of its own, on a PostgreSQL and a Redis started for it; this process is its
 * client and its subscriber at once, so that both ends are told by one clock. Everything is measured in rounds: how much
 * they differ says how noisy the machine was.
 */

import { cpus, loadavg } from "node:os";
import { type Cost, type CostRound, measureCost } from "./events/cost.ts";
import { type DrainRound, measureDrain, readsPerSecond } from "./events/drain.ts";
import { type Latency, type LatencyRound, measureLatency, writesPerSecond } from "./events/latency.ts";
import { openStage, type Stage } from "./events/stage.ts";
import { measureFeedStreams, measureSessionStreams, type StreamsFigures } from "./events/streams.ts";
import { median, noise, percentile, spread } from "./figures.ts";
import { loader } from "./load.ts";

const quick = process.argv.includes("--quick");
const named = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));

const expected = {
  latencyP50Ms: 5,
  latencyP99Ms: 50,
  drainedPerSecond: 5_000,
  ratioOfCreates: 0.8,
  streamsMb: 80,
  reachedAllMs: 300,
};

const backlog = 30_000;

const parts: Readonly<Record<string, (stage: Stage) => Promise<void>>> = { latency, drain, cost, streams };

async function main(): Promise<void> {
  const unknown = named.filter((name) => parts[name] === undefined);
  if (unknown.length > 0) throw new Error(`${unknown.join(", ")}: there are ${Object.keys(parts).join(", ")}`);
  console.log(`${cpus().length} processors, Node.js ${process.version}, creates and backlog by ${loader}`);
  // What else is at work here slows the service, the databases and this client alike.
  console.log(`Load of the machine before, over the last minute: ${(loadavg()[0] ?? 0).toFixed(1)}`);
  await using stage = await openStage();
  for (const [name, part] of Object.entries(parts)) {
    if (named.length === 0 || named.includes(name)) await part(stage);
  }
}

async function latency(stage: Stage): Promise<void> {
  const [rounds, seconds] = quick ? [3, 3] : [7, 10];
  const measured = await measureLatency(stage, rounds, seconds);
  title(
    `From a change's answer to the subscriber, ${writesPerSecond} writes/s, ${rounds} rounds of ${seconds} s by turns`,
  );
  const row = (side: keyof LatencyRound, key: keyof Latency): string => {
    const values = measured.map((round) => round[side][key]);
    return `${ms(median(values))} (${spread(values, ms)})`;
  };
  line("", "p50", "p99", "worst");
  line("events", row("events", "p50Ms"), row("events", "p99Ms"), row("events", "maxMs"));
  line("bare PUBLISH", row("bare", "p50Ms"), row("bare", "p99Ms"), row("bare", "maxMs"));
  const p50 = median(measured.map(({ events }) => events.p50Ms));
  const p99 = median(measured.map(({ events }) => events.p99Ms));
  verdict("p50", p50 <= expected.latencyP50Ms, `at most ${expected.latencyP50Ms} ms`);
  verdict("p99", p99 <= expected.latencyP99Ms, `at most ${expected.latencyP99Ms} ms`);
}

async function drain(stage: Stage): Promise<void> {
  const rounds = quick ? 1 : 3;
  const measured = await measureDrain(stage, rounds, backlog);
  title(`Redis back after ${backlog} events and more, ${readsPerSecond} reads/s meanwhile, ${rounds} rounds`);
  line("", "events", "first after", "last after", "events/s", "CPU node+pg an event", "published twice");
  const perSecond = (round: DrainRound) => round.events / round.seconds;
  for (const [at, round] of measured.entries()) {
    const { events, firstAfterSeconds, seconds, repeated, nodeUs, postgresUs } = round;
    const times = [ms(firstAfterSeconds * 1_000), ms(seconds * 1_000)];
    const cpu = `${Math.round(nodeUs)}+${Math.round(postgresUs)} µs`;
    const cells = [events, ...times, Math.round(perSecond(round)), cpu, repeated];
    line(`round ${at + 1}`, ...cells.map(String));
  }
  line("", "p50", "p99", "worst", "reads");
  const reads = (name: string, times: readonly number[]) =>
    line(name, ...[0.5, 0.99, 1].map((share) => ms(percentile(times, share))), String(times.length));
  reads(
    "reads before",
    measured.flatMap(({ readsBefore }) => readsBefore),
  );
  reads(
    "reads meanwhile",
    measured.flatMap(({ readsMeanwhile }) => readsMeanwhile),
  );
  const speed = median(measured.map(perSecond));
  verdict("events/s", speed >= expected.drainedPerSecond, `at least ${expected.drainedPerSecond}`);
}

async function cost(stage: Stage): Promise<void> {
  const [rounds, seconds] = quick ? [6, 1] : [20, 2];
  // Many short rounds: what else the machine does comes in bursts of seconds, and shall hit few pairs.
  const measured = await measureCost(stage, rounds, seconds);
  title(`Creates with the relay on and off, 32 connections, ${rounds} rounds of ${seconds} s by turns`);
  const row = (side: "on" | "off"): string[] => {
    const rates = measured.map((round) => round[side].perSecond);
    const middle = (key: keyof Cost) => median(measured.map((round) => round[side][key]));
    const perSecond = `${Math.round(median(rates))} (${spread(rates, (rate) => String(Math.round(rate)))}: ±${noise(rates)} %)`;
    const cpu = `${Math.round(middle("nodeUs"))}+${Math.round(middle("postgresUs"))} µs`;
    return [perSecond, ms(middle("p50Ms")), ms(middle("p99Ms")), cpu];
  };
  line("", "creates/s", "p50", "p99", "CPU node+pg a create");
  line("on", ...row("on"));
  line("off", ...row("off"));
  const ratios = measured.map(({ on, off }: CostRound) => on.perSecond / off.perSecond);
  line("ratio", `${median(ratios).toFixed(2)} (${spread(ratios, (ratio) => ratio.toFixed(2))})`);
  const used = ({ nodeUs, postgresUs }: Cost) => nodeUs + postgresUs;
  const byProcessor = measured.map(({ on, off }) => used(off) / used(on));
  line(
    "ratio by processor time",
    `${median(byProcessor).toFixed(2)} (${spread(byProcessor, (ratio) => ratio.toFixed(2))})`,
  );
  const behind = measured.map((round) => round.behind);
  line("not published yet", `${median(behind)} events at a round's end (${spread(behind, String)})`);
  verdict("ratio", median(ratios) >= expected.ratioOfCreates, `at least ${expected.ratioOfCreates}`);
}

async function streams(stage: Stage): Promise<void> {
  const [feed, session] = quick ? [500, 250] : [2_000, 1_000];
  const measured: (readonly [string, StreamsFigures])[] = [
    [`${feed} streams of everything`, await measureFeedStreams(stage, feed)],
    [`${session} streams of a session each`, await measureSessionStreams(stage, session)],
  ];
  title("Open streams on one process, 20 events");
  line("", "memory before", "with them", "more", "to reach all: p50", "worst");
  for (const [name, { beforeMb, afterMb, reachedAllMs }] of measured) {
    const mb = [beforeMb, afterMb, afterMb - beforeMb].map((value) => `${Math.round(value)} MB`);
    line(name, ...mb, ms(median(reachedAllMs)), ms(Math.max(...reachedAllMs)));
  }
  for (const [name, { beforeMb, afterMb, reachedAllMs }] of measured) {
    verdict(name, afterMb - beforeMb <= expected.streamsMb, `at most ${expected.streamsMb} MB more`);
    verdict(name, Math.max(...reachedAllMs) <= expected.reachedAllMs, `all within ${expected.reachedAllMs} ms`);
  }
}

function title(text: string): void {
  console.log(`\n${text}\n`);
}

function line(name: string, ...cells: readonly string[]): void {
  console.log([name.padEnd(31), ...cells.map((cell) => cell.padEnd(24))].join("  ").trimEnd());
}

function ms(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

function verdict(name: string, holds: boolean, expectation: string): void {
  console.log(`${holds ? "ok    " : "MISSED"}  ${name}: ${expectation}`);
}

await main();
