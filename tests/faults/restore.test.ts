import postgres from "postgres";
import { afterEach, describe, expect, it } from "vitest";
import { startOwnRedis } from "../support/engines.ts";
import { rounds, witness } from "../support/faults.ts";
import { startLoad } from "../support/load.ts";
import { startServiceProcess } from "../support/process.ts";
import { send } from "../support/service.ts";
import { until } from "../support/until.ts";
import { dumpAndRestore, startCluster, toolsFolder } from "./postgres-tools.ts";
import { followPages, followStream, readersViolations } from "./readers.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const changes = rounds(5_000, 300);

async function clusterOfItsOwn(): Promise<string> {
  const cluster = await startCluster();
  undo.push(() => cluster[Symbol.asyncDispose]());
  return cluster.url;
}

async function startOn(databaseUrl: string, redisUrl: string) {
  const service = await startServiceProcess({ settings: { DATABASE_URL: databaseUrl, REDIS_URL: redisUrl } });
  undo.push(() => service.stop());
  return service;
}

/** How far the feed has come, and been published. */
async function feedOf(databaseUrl: string): Promise<{ last: number; published: number }> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  try {
    const [row] = await sql<{ last: number; published: number }[]>`
      select (select max(position)::float8 from events) as last, position::float8 as published
      from relays where name = 'redis'`;
    if (row === undefined) throw new Error("there is no feed");
    return row;
  } finally {
    await sql.end({ timeout: 1 });
  }
}

const positionOf = ({ message }: { readonly message: string }) => Number(JSON.parse(message).position);

describe.skipIf(toolsFolder === undefined)("A database dumped and restored into a new cluster (needs pg_dump)", () => {
  it("goes on where it was: no event is lost, none that was ticked off comes again, and old positions are good", async () => {
    const redis = await startOwnRedis();
    undo.push(() => redis.stop());
    const subscriber = await witness(redis.url);
    undo.push(() => subscriber[Symbol.asyncDispose]());
    const oldUrl = await clusterOfItsOwn();
    const before = await startOn(oldUrl, redis.url);
    const load = startLoad({ url: before.url, clients: 16 });
    undo.push(() => load.stop());
    await until(() => load.acknowledged() >= changes, `${changes} changes`, { withinMs: 120_000 });
    // Under load, so that some is not published, and some not ticked off.
    before.kill("SIGKILL");
    await before.exited;
    await load.stop();
    expect(load.wrong).toEqual([]);

    const newUrl = await clusterOfItsOwn();
    dumpAndRestore(oldUrl, newUrl);
    const old = await feedOf(newUrl);
    expect(old).toEqual(await feedOf(oldUrl));
    await subscriber.settle();
    const { length } = subscriber.deliveries;
    const after = await startOn(newUrl, redis.url);
    const newest = async () => (await send(`${after.url}/events?order=desc&limit=1`, "GET")).body[0]?.position;
    await until(async () => (await newest()) === String(old.last), "the relay of the copy to be past the last event");
    const middle = Math.floor(old.last / 2);
    const { body: fromMiddle } = await send(`${after.url}/events?after=${middle}&limit=1`, "GET");
    expect(Number(fromMiddle[0].position)).toBeGreaterThan(middle);
    const readers = [followPages(after.url), followStream(after.url, "/events/stream")];
    const next = startLoad({ url: after.url, clients: 16 });
    undo.push(() => next.stop());
    await until(() => next.acknowledged() >= changes / 2, `${changes / 2} changes`, { withinMs: 120_000 });
    await next.stop();

    expect(next.wrong).toEqual([]);
    expect(await load.audit(newUrl)).toEqual([]);
    expect(await next.audit(newUrl)).toEqual([]);
    expect(await subscriber.all(newUrl, { stream: { redisUrl: redis.url } })).toEqual([]);
    const again = subscriber.deliveries.slice(length).filter((delivery) => positionOf(delivery) <= old.published);
    expect(again, "published and ticked off before, and published again").toEqual([]);
    expect(await readersViolations(readers, newUrl)).toEqual([]);
    for (const reader of readers) await reader.stop();
    expect((await feedOf(newUrl)).last).toBeGreaterThan(old.last);
  });
});
