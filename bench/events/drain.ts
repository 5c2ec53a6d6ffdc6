/** How fast what piled up while Redis was away is published once it is back, and what requests notice of it. */

import { randomUUID } from "node:crypto";
import type { SessionChangeEvent } from "../../src/events/envelope.ts";
import { redisGate } from "../../tests/support/redis-gate.ts";
import { runLoad } from "../load.ts";
import { after, client, countEvents, paced, type Stage, type Subscriber, subscriber, usage } from "./stage.ts";

export interface DrainRound {
  readonly events: number;
  /** From Redis's return to the last event at a subscriber. */
  readonly seconds: number;
  /** From Redis's return to the first event: finding it again is part of the time above. */
  readonly firstAfterSeconds: number;
  /** More messages than events: published again after a failure. */
  readonly repeated: number;
  /** Microseconds of processor time an event, that of the reads included: in the service, and in PostgreSQL. */
  readonly nodeUs: number;
  readonly postgresUs: number;
  /** Milliseconds that reads took before, at rest, and while it drained. */
  readonly readsBefore: readonly number[];
  readonly readsMeanwhile: readonly number[];
}

export const readsPerSecond = 50;

const sessions = 500;

export async function measureDrain(stage: Stage, rounds: number, backlog: number): Promise<DrainRound[]> {
  await using gate = await redisGate();
  const service = await stage.serve({ REDIS_URL: gate.url });
  await using http = client(service.url);
  const ids = await Promise.all(Array.from({ length: sessions }, async () => (await http.create(randomUUID())).id));
  const read = () => http.read(ids[Math.floor(Math.random() * sessions)] ?? "");
  const measured: DrainRound[] = [];
  let published = 0;
  for (let round = 0; round < rounds; round++) {
    let events = await countEvents(service.databaseUrl);
    while (events - published < backlog) {
      await runLoad({ url: service.url, operation: "patch", ids, seconds: 1 });
      events = await countEvents(service.databaseUrl);
    }
    const readsBefore: number[] = [];
    await paced(readsPerSecond, async () => readsBefore.push(await read()), after(5));
    await using arrivals = await subscriber(stage.redisUrl);
    const readsMeanwhile: number[] = [];
    let isOver = false;
    const reading = paced(
      readsPerSecond,
      async () => readsMeanwhile.push(await read()),
      () => isOver,
    );
    const usedBy = { node: usage([service.pid]), postgres: usage(stage.databasePids()) };
    const openedAt = performance.now();
    await gate.open(stage.redisUrl);
    // As many messages as events, and as many more as came twice.
    for (let missing = events - published; missing > 0; missing = events - published - distinct(arrivals)) {
      await arrivals.has(arrivals.arrivals.length + missing);
    }
    const [first, last] = [arrivals.arrivals.at(0)?.at ?? 0, arrivals.arrivals.at(-1)?.at ?? 0];
    const used = { node: usedBy.node(), postgres: usedBy.postgres() };
    isOver = true;
    await reading;
    measured.push({
      events: events - published,
      seconds: (last - openedAt) / 1_000,
      firstAfterSeconds: (first - openedAt) / 1_000,
      repeated: arrivals.arrivals.length - (events - published),
      nodeUs: used.node / (events - published),
      postgresUs: used.postgres / (events - published),
      readsBefore,
      readsMeanwhile,
    });
    published = events;
    await gate.close();
  }
  await service.stop();
  return measured;
}

function distinct({ arrivals }: Subscriber): number {
  return new Set(arrivals.map(({ message }) => (JSON.parse(message) as SessionChangeEvent).event_id)).size;
}
