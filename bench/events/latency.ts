/** How long after its answer a change reaches a subscriber, at a steady pace of writes. */

import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import type { SessionChangeEvent } from "../../src/events/envelope.ts";
import { percentile } from "../figures.ts";
import { after, client, paced, type Stage, subscriber, type Written } from "./stage.ts";

export interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly count: number;
}

export interface LatencyRound {
  /** From the answer's last byte to the subscriber; negative when the event was first. */
  readonly events: Latency;
  /** The same pace of bare PUBLISH by this very process, from the call to the subscriber: what the machine allows. */
  readonly bare: Latency;
}

export const writesPerSecond = 500;

const sessions = 200;

/** Half of the writes create sessions, half change some of them. */
export async function measureLatency(stage: Stage, rounds: number, seconds: number): Promise<LatencyRound[]> {
  const service = await stage.serve();
  await using http = client(service.url);
  const ids = await Promise.all(Array.from({ length: sessions }, async () => (await http.create(randomUUID())).id));
  let turn = 0;
  const write = () => {
    turn++;
    return turn % 2 === 0 ? http.create(randomUUID()) : http.change(ids[(turn >> 1) % sessions] ?? "");
  };
  await paced(writesPerSecond, write, after(2));
  const measured: LatencyRound[] = [];
  for (let round = 0; round < rounds; round++) {
    measured.push({ bare: await bareRound(stage.redisUrl, seconds), events: await eventRound(stage, write, seconds) });
  }
  await service.stop();
  return measured;
}

async function eventRound(stage: Stage, write: () => Promise<Written>, seconds: number): Promise<Latency> {
  await using events = await subscriber(stage.redisUrl);
  const written: Written[] = [];
  await paced(writesPerSecond, async () => written.push(await write()), after(seconds));
  await events.has(written.length);
  const arrivedAt = new Map<string, number>();
  for (const { at, message } of events.arrivals) {
    const event = JSON.parse(message) as SessionChangeEvent;
    const key = `${event.aggregate_id} ${event.session_version}`;
    if (!arrivedAt.has(key)) arrivedAt.set(key, at);
  }
  return latencyOf(
    written.map(({ id, version, answeredAt }) => (arrivedAt.get(`${id} ${version}`) ?? Number.NaN) - answeredAt),
  );
}

async function bareRound(redisUrl: string, seconds: number): Promise<Latency> {
  const channel = "bench:bare";
  await using arrivals = await subscriber(redisUrl, channel);
  const redis = new Redis(redisUrl);
  const calledAt: number[] = [];
  const padding = "x".repeat(400);
  await paced(
    writesPerSecond,
    () => redis.publish(channel, `${calledAt.push(performance.now()) - 1} ${padding}`),
    after(seconds),
  );
  await arrivals.has(calledAt.length);
  redis.disconnect();
  return latencyOf(arrivals.arrivals.map(({ at, message }) => at - (calledAt[Number.parseInt(message, 10)] ?? 0)));
}

function latencyOf(times: readonly number[]): Latency {
  if (times.some(Number.isNaN)) throw new Error("an event that was acknowledged never came");
  return {
    p50Ms: percentile(times, 0.5),
    p99Ms: percentile(times, 0.99),
    maxMs: percentile(times, 1),
    count: times.length,
  };
}
