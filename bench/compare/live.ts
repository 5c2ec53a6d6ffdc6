/** Figures without a control: how soon a change is with those who listen. Measured as `npm run bench:events` does. */

import { measureLatency, writesPerSecond } from "../events/latency.ts";
import type { Stage } from "../events/stage.ts";
import { measureFeedStreams } from "../events/streams.ts";
import { median, spread } from "../figures.ts";
import { line, ms, title } from "../lifecycle/print.ts";

const streamCounts = [1, 100, 1_000];

/** From a change's answer until its event was on all of so many open streams. */
export async function measureFanOut(stage: Stage) {
  title("Fan-out: from a change's answer until its event was on every open stream, 20 events");
  line("streams", "p50", "all", "memory more");
  const measured = [];
  for (const count of streamCounts) {
    const figures = await measureFeedStreams(stage, count);
    const { reachedAllMs, beforeMb, afterMb } = figures;
    line(String(count), ms(median(reachedAllMs)), spread(reachedAllMs, ms), `${Math.round(afterMb - beforeMb)} MB`);
    measured.push(figures);
  }
  return measured;
}

const rounds = 3;
const seconds = 5;

/** From a change's answer to a subscriber of Redis. */
export async function measureCommitToSubscriber(stage: Stage) {
  const measured = await measureLatency(stage, rounds, seconds);
  title(
    `From a change's answer to a subscriber of Redis, ${writesPerSecond} writes/s, ${rounds} rounds of ${seconds} s`,
  );
  line("", "p50", "p99", "worst");
  for (const [name, side] of [["events", "events"] as const, ["bare PUBLISH", "bare"] as const]) {
    const cell = (key: "p50Ms" | "p99Ms" | "maxMs") => {
      const values = measured.map((round) => round[side][key]);
      return `${ms(median(values))} (${spread(values, ms)})`;
    };
    line(name, cell("p50Ms"), cell("p99Ms"), cell("maxMs"));
  }
  return measured;
}
