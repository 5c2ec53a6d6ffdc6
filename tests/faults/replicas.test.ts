import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { afterEach, describe, expect, it } from "vitest";
import { changesChannel } from "../checker/evidence.ts";
import { redisOnPath, startRedisServer } from "../support/engines.ts";
import { rounds, witness } from "../support/faults.ts";
import { isServed, type Load, startLoad } from "../support/load.ts";
import { startPostgresServer } from "../support/postgres-server.ts";
import { type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const times = rounds(20, 2);

/** Another takes over at the latest so long after the holder fell silent. */
const takeOverMs = 5_000;

interface Lease {
  readonly holder: string;
  readonly token: string;
  readonly position: number;
}

async function scene() {
  const database = await startPostgresServer();
  undo.push(() => database[Symbol.asyncDispose]());
  const redis = await startRedisServer();
  undo.push(() => redis.stop());
  const subscriber = await witness(redis.url);
  undo.push(() => subscriber[Symbol.asyncDispose]());
  const start = async () => {
    const service = await startServiceProcess({ settings: { DATABASE_URL: database.url, REDIS_URL: redis.url } });
    undo.push(() => service.stop());
    undo.push(() => service.kill("SIGCONT"));
    return service;
  };
  const sql = postgres(database.url, { max: 2, onnotice: () => {} });
  undo.push(() => sql.end({ timeout: 1 }));
  const lease = async (): Promise<Lease> => {
    const [row] = await sql<Lease[]>`
      select holder, token::text as token, position::float8 as position from relays where name = 'redis'`;
    if (row === undefined) throw new Error("there is no lease");
    return row;
  };
  return { database, redis, subscriber, start, lease };
}

/** Some changes are made through a replica, and none is refused. */
async function work(load: Load, count: number): Promise<void> {
  const by = load.acknowledged() + count;
  await until(() => load.acknowledged() >= by, `${count} changes`, { withinMs: 60_000 });
}

describe.skipIf(redisOnPath() === undefined)("Two replicas on one database and Redis", () => {
  it(`the one that publishes frozen under load and thawed, ${times} times: the other takes over, no event is lost, none overtakes another`, async () => {
    const at = await scene();
    const first = await at.start();
    await until(async () => (await at.lease()).token !== "1", "the first to have the lease");
    const second = await at.start();
    let [holding, standing]: ServiceProcess[] = [first, second];
    const loads = [first, second].map(({ url }) => startLoad({ url, clients: 8, pauseMs: 5 }));
    for (const load of loads) undo.push(() => load.stop());
    for (let time = 0; time < times; time++) {
      const other = loads[standing === first ? 0 : 1];
      if (holding === undefined || standing === undefined || other === undefined) throw new Error("no replicas");
      await work(other, 50);
      await sleep(Math.random() * 50);
      const before = await at.lease();
      holding.kill("SIGSTOP");
      await until(async () => (await at.lease()).token !== before.token, "the other to take over", {
        withinMs: takeOverMs,
      });
      await work(other, 50);
      const taken = await at.lease();
      await until(async () => (await at.lease()).position > taken.position, "the other to publish");
      // Thawed in the midst of it, with what it had under way.
      holding.kill("SIGCONT");
      [holding, standing] = [standing, holding];
    }
    for (const load of loads) await work(load, 50);
    const { length } = at.subscriber.deliveries;
    for (const load of loads) await work(load, 100);
    for (const load of loads) await load.stop();
    for (const load of loads) {
      expect(load.wrong).toEqual([]);
      expect(load.outcomes.filter(({ status }) => status !== 503).filter((outcome) => !isServed(outcome))).toEqual([]);
      expect(await load.audit(at.database.url)).toEqual([]);
    }
    expect(await at.subscriber.all(at.database.url, { stream: { redisUrl: at.redis.url } })).toEqual([]);
    const inTheEnd = at.subscriber.deliveries.slice(length).filter(({ channel }) => channel === changesChannel);
    const different = new Set(inTheEnd.map(({ message }) => message)).size;
    expect(inTheEnd.length - different, "came twice although nobody was frozen any more: two at work").toBe(0);
    const acknowledged = loads.reduce((sum, load) => sum + load.acknowledged(), 0);
    expect(at.subscriber.received()).toBeGreaterThanOrEqual(acknowledged);
  });
});
