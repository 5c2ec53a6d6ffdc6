import { expect, it } from "vitest";
import { openStream } from "../support/event-source.ts";
import { redisGate } from "../support/redis-gate.ts";
import { startReplica } from "../support/replica.ts";
import { agentId, send, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const times = 9;

/** How long after the answer each of some changes, made here, arrives there: the median, in milliseconds. */
async function medianMs(from: string, to: string): Promise<number> {
  const { body } = await send(`${from}/sessions/`, "POST", { agent_id: agentId });
  let arrivedAt = 0;
  await using all = await openStream(`${to}/events/stream`);
  await using its = await openStream(`${to}/sessions/${body.id}/events/stream`, {
    onEvent: () => {
      arrivedAt = performance.now();
    },
  });
  const taken: number[] = [];
  for (let time = 0; time < times; time++) {
    const before = [all.events.length, its.events.length] as const;
    await send(`${from}/sessions/${body.id}`, "PATCH", { checkpoint: { time } });
    const answeredAt = performance.now();
    await until(() => all.events.length > before[0] && its.events.length > before[1], "the event", { everyMs: 1 });
    taken.push(arrivedAt - answeredAt);
  }
  return taken.sort((a, b) => a - b)[Math.floor(times / 2)] ?? Number.POSITIVE_INFINITY;
}

/** Whether a process of the service takes events to Redis. */
async function hasHolder({ database: { sql } }: TestService): Promise<boolean> {
  const [row] = await sql`select expires_at > clock_timestamp() as held from relays where name = 'redis'`;
  return row?.["held"] === true;
}

it("an event made through one replica reaches the streams of the other: within 300 ms with Redis, within 1 s without", async () => {
  await using gate = await redisGate();
  await using first = await startTestService();
  await until(() => hasHolder(first), "the first to have the lease");
  // Both go through the gate but for the first one's way to a Redis of the run; the lease stays where it is.
  await using second = await startReplica(first, { RELAY: "off" });
  expect(await medianMs(first.url, second.url)).toBeLessThan(300);
  expect(await medianMs(second.url, first.url)).toBeLessThan(300);

  // The gate is closed: there is no Redis for these two.
  await using third = await startTestService({ REDIS_URL: gate.url });
  await until(() => hasHolder(third), "the third to have the lease");
  await using fourth = await startReplica(third, { RELAY: "off" });
  expect(await medianMs(third.url, fourth.url)).toBeLessThan(1_000);
  expect(await medianMs(fourth.url, third.url)).toBeLessThan(1_000);
}, 60_000);

it("a stream of the replica that takes over the lease, or loses it, goes on without a gap or a repeat", async () => {
  await using first = await startTestService();
  await until(() => hasHolder(first), "the first to have the lease");
  await using second = await startReplica(first);
  const id = await first.create();
  await using all = await openStream(`${second.url}/events/stream?after=0`);
  await using its = await openStream(`${second.url}/sessions/${id}/events/stream?after=0`);
  const change = async (url: string, step: number) => {
    const answer = await send(`${url}/sessions/${id}`, "PATCH", { checkpoint: { step } });
    expect(answer.status, answer.text).toBe(200);
  };
  for (let step = 0; step < 40; step++) await change(step % 2 === 0 ? first.url : second.url, step);
  // Another process takes the lease, and is dead at once: one of the two takes it anew.
  await first.database.sql`
    update relays set holder = gen_random_uuid(), token = token + 1, expires_at = now() - interval '1 second'`;
  for (let step = 40; step < 80; step++) await change(step % 2 === 0 ? first.url : second.url, step);
  await until(() => hasHolder(first), "one of them to have the lease again");
  for (let step = 80; step < 120; step++) await change(step % 2 === 0 ? first.url : second.url, step);
  for (const stream of [all, its]) {
    await stream.count(121, 15_000);
    expect(stream.events.map(({ data }) => JSON.parse(data).sequence)).toEqual(
      Array.from({ length: 121 }, (_, n) => n + 1),
    );
  }
}, 60_000);
