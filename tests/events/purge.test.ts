/** What a hard deletion asks for: all of a session goes, once it has been published, and whatever happens meanwhile. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readConfig } from "../../src/config.ts";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { type Service, startService } from "../../src/main.ts";
import { createSessions } from "../../src/sessions/create.ts";
import { deleteSessions } from "../../src/sessions/delete.ts";
import { type PurgePlace, purgeNext } from "../../src/sessions/purge.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { type Engine, startOwnRedis } from "../support/engines.ts";
import { redisGate } from "../support/redis-gate.ts";
import { agentId, send, subscribe } from "../support/service.ts";
import { until } from "../support/until.ts";

let database: TestDatabase;
let redis: Engine;
beforeAll(async () => {
  redis = await startOwnRedis();
});
afterAll(() => redis.stop());
beforeEach(async () => {
  database = await createDatabase();
});
afterEach(() => database.drop());

async function start(redisUrl = redis.url): Promise<Service & { kill(): Promise<void> }> {
  const service = await startService(
    readConfig({ PORT: "0", LOG_LEVEL: "silent", STOP_DELAY_MS: "0", DATABASE_URL: database.url, REDIS_URL: redisUrl }),
    () => {},
  );
  return {
    ...service,
    async kill() {
      service.stop();
      await service.stopped;
    },
  };
}

const create = async (url: string): Promise<string> =>
  (await send(`${url}/sessions/`, "POST", { agent_id: agentId })).body.id;
const removeHard = async (url: string, id: string) => (await send(`${url}/sessions/${id}?hard=true`, "DELETE")).status;

/** Gives a session so many more events, as if they had been reported. */
async function addEvents(id: string, count: number): Promise<void> {
  await database.sql.begin(async (tx) => {
    const [row] = await tx<{ last: number }[]>`
      update sessions set last_sequence = last_sequence + ${count} where id = ${id} returning last_sequence as last`;
    const last = row?.last ?? 0;
    await tx`
      insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
      select gen_random_uuid(), ${id}, n, 1, 'session.progress', '{}', clock_timestamp()
      from generate_series(${last - count + 1}::int, ${last}::int) n`;
  });
}

async function eventsOf(id: string): Promise<{ sequence: number; type: string }[]> {
  return [
    ...(await database.sql<{ sequence: number; type: string }[]>`
      select sequence, event_type as type from events where session_id = ${id} order by sequence`),
  ];
}

const isThere = async (id: string) => (await database.sql`select 1 from sessions where id = ${id}`).length > 0;
const isGone = (id: string) => async () => !(await isThere(id));
const purgedAt = (sequence: number) => [{ sequence, type: "session.purged" }];

/** From now on each statement that removes events takes a while: long enough to do something meanwhile. */
const slowDown = () =>
  database.sql.unsafe(`
    create function take_a_while() returns trigger language plpgsql as 'begin perform pg_sleep(0.15); return null; end';
    create trigger takes_a_while after delete on events for each statement execute function take_a_while()`);

describe("a session with 5,000 events", () => {
  it("is removed in batches; a service that stops leaves the rest to the next one", async () => {
    const first = await start();
    const id = await create(first.url);
    const other = await create(first.url);
    await addEvents(id, 5_000);
    await slowDown();
    expect(await removeHard(first.url, id)).toBe(204);
    await until(async () => (await eventsOf(id)).length < 5_002, "the first batch");
    await first.kill();
    const left = await eventsOf(id);
    expect(left.length % 1_000).toBe(2);
    expect(left.length).toBeGreaterThan(2);
    expect(await isThere(id)).toBe(true);
    expect(left.map((event) => event.sequence)).toEqual(left.map((_, n) => 5_002 - left.length + n + 1));

    const second = await start();
    await until(isGone(id), "the second service to finish");
    expect(await eventsOf(id)).toEqual(purgedAt(5_003));
    expect(await eventsOf(other)).toHaveLength(1);
    expect((await send(`${second.url}/sessions/${other}`, "GET")).status).toBe(200);
    await second.kill();
  });

  it("goes on after its connection is cut in the middle of a batch, of which nothing is half done", async () => {
    const first = await start();
    const id = await create(first.url);
    await addEvents(id, 5_000);
    await slowDown();
    await removeHard(first.url, id);
    await until(async () => {
      const cut = await database.sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where wait_event = 'PgSleep' and datname = current_database()`;
      return cut.length > 0;
    }, "a batch to be cut");
    expect((await eventsOf(id)).length % 1_000).toBe(2);
    await first.kill();
    const second = await start();
    await until(isGone(id), "the session to be gone");
    expect(await eventsOf(id)).toEqual(purgedAt(5_003));
    await second.kill();
  });

  it("stops where a legal hold is set meanwhile, and goes on when it is lifted", async () => {
    const service = await start();
    const id = await create(service.url);
    await addEvents(id, 5_000);
    await slowDown();
    await removeHard(service.url, id);
    await until(async () => (await eventsOf(id)).length < 5_002, "the first batch");
    await database.sql`update sessions set legal_hold = true where id = ${id}`;
    const left = (await eventsOf(id)).length;
    expect(left).toBeGreaterThan(2);
    expect(await removeHard(service.url, id)).toBe(423);
    await using own = ownPool();
    expect(await purgeNext(own.pool)).toEqual({ outcome: "nothing" });
    expect((await eventsOf(id)).length).toBe(left);
    await database.sql`update sessions set legal_hold = false where id = ${id}`;
    expect(await removeHard(service.url, id)).toBe(204);
    await until(isGone(id), "the session to be gone");
    expect(await eventsOf(id)).toEqual(purgedAt(5_003));
    await service.kill();
  });
});

function ownPool(): { readonly pool: Database } & AsyncDisposable {
  const pool = openDatabase({ url: database.url, poolSize: 2, prepare: true });
  return { pool, [Symbol.asyncDispose]: () => pool.close() };
}

describe("two services on one database", () => {
  it("share the work, and remove each session once", async () => {
    const services = [await start(), await start()] as const;
    await using events = await subscribe(redis.url);
    const ids = await Promise.all(Array.from({ length: 12 }, () => create(services[0].url)));
    for (const id of ids) await addEvents(id, 1_500);
    await Promise.all(ids.map((id, n) => removeHard(services[n % 2]?.url ?? "", id)));
    for (const id of ids) await until(isGone(id), `${id} to be gone`);
    for (const id of ids) {
      expect(await eventsOf(id)).toEqual(purgedAt(1_503));
      const purged = () => events.events.filter((event) => event.aggregate_id === id && event.sequence === 1_503);
      await until(() => purged().length > 0, "the removal to be published");
      expect(new Set(purged().map((event) => event.event_id)).size).toBe(1);
    }
    for (const service of services) await service.kill();
  });
});

describe("while Redis is away", () => {
  it("nothing is removed that subscribers have not been told; all of it is when Redis is back", async () => {
    await using gate = await redisGate();
    await gate.open(redis.url);
    const service = await start(gate.url);
    await using own = ownPool();
    // By the back door: it misses nothing that is published.
    await using events = await subscribe(redis.url);
    const id = await create(service.url);
    await events.ofSession(id, 1);
    await gate.close();
    for (let step = 0; step < 5; step++) {
      await send(`${service.url}/sessions/${id}`, "PATCH", { checkpoint: { step } });
    }
    for (let n = 0; n < 3; n++) expect(await removeHard(service.url, id)).toBe(204);
    expect((await send(`${service.url}/sessions/${id}`, "DELETE")).status).toBe(204);
    expect((await send(`${service.url}/sessions/${id}`, "GET")).status).toBe(404);
    for (let n = 0; n < 3; n++) expect(await purgeNext(own.pool)).toEqual({ outcome: "waits" });
    expect(await eventsOf(id)).toHaveLength(7);
    await gate.open(redis.url);
    const seen = await events.ofSession(id, 8);
    expect([...new Set(seen.map((event) => event.sequence))]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(seen.at(-1)?.event_type).toBe("session.purged");
    await until(isGone(id), "the session to be gone");
    expect(await eventsOf(id)).toEqual(purgedAt(8));
    await service.kill();
  });
});

describe("a step of the purge", () => {
  const context = { namespace: "default", requestId: "test" };
  const newSession = async (pool: Database): Promise<string> => {
    const input = { agentId, sessionType: "task", phase: "running", runtimeBackend: "local" } as const;
    const [result] = await createSessions(pool, [{ context, input }]);
    return result?.outcome === "ok" ? result.session.id : "";
  };
  const removeAll = (pool: Database, ids: readonly string[]) =>
    deleteSessions(
      pool,
      ids.map((id) => ({ context, input: { id, hard: true } })),
    );
  const published = (upTo: string) =>
    database.sql.unsafe(`update relays set position = (${upTo}), settled = (${upTo}) where name = 'redis'`);
  const everything = "select max(position) from events";

  it("removes at most 1,000 events, and is done when there is nothing left", async () => {
    await using own = ownPool();
    const id = await newSession(own.pool);
    await addEvents(id, 2_499);
    await removeAll(own.pool, [id]);
    expect(await purgeNext(own.pool)).toEqual({ outcome: "waits" });
    await published(everything);
    let place: PurgePlace | undefined;
    for (const left of [1_501, 501]) {
      const step = await purgeNext(own.pool, place);
      expect(step).toEqual({ outcome: "removed", place: { sessionId: id, sequence: 2_501 - left } });
      if (step.outcome === "removed") place = step.place;
      expect(await eventsOf(id)).toHaveLength(left);
    }
    expect(await purgeNext(own.pool, place)).toEqual({ outcome: "purged" });
    expect(await eventsOf(id)).toEqual(purgedAt(2_502));
    expect(await purgeNext(own.pool)).toEqual({ outcome: "nothing" });
  });

  it("removes a session of which no event is left", async () => {
    await using own = ownPool();
    const id = await newSession(own.pool);
    await removeAll(own.pool, [id]);
    await database.sql`delete from events`;
    expect(await purgeNext(own.pool)).toEqual({ outcome: "purged" });
    expect(await eventsOf(id)).toEqual(purgedAt(3));
  });

  it("leaves an event that was committed late until it is published", async () => {
    await using own = ownPool();
    const id = await newSession(own.pool);
    await addEvents(id, 3);
    await removeAll(own.pool, [id]);
    const late = (await database.sql`select position::text from events where session_id = ${id} and sequence = 2`)[0];
    await published(everything);
    await database.sql.unsafe(
      `update relays set pending = int8multirange(int8range(${late?.["position"]}, ${late?.["position"]}, '[]'))`,
    );
    expect(await purgeNext(own.pool)).toMatchObject({ outcome: "removed" });
    expect((await eventsOf(id)).map((event) => event.sequence)).toEqual([2]);
    expect(await purgeNext(own.pool)).toEqual({ outcome: "waits" });
    await database.sql`update relays set pending = '{}'`;
    expect(await purgeNext(own.pool)).toEqual({ outcome: "purged" });
    expect(await eventsOf(id)).toEqual(purgedAt(6));
  });

  it("passes by sessions that are not published, held or somebody else's, and takes the next", async () => {
    await using own = ownPool();
    const ids = [await newSession(own.pool), await newSession(own.pool), await newSession(own.pool)];
    const [held = "", locked = "", free = ""] = ids;
    const unpublished = await newSession(own.pool);
    for (const id of ids) await removeAll(own.pool, [id]);
    await published(everything);
    await removeAll(own.pool, [unpublished]);
    await database.sql`update sessions set purge_requested_at = '-infinity' where id = ${unpublished}`;
    await database.sql`update sessions set legal_hold = true where id = ${held}`;
    await database.sql.begin(async (tx) => {
      await tx`select 1 from sessions where id = ${locked} for no key update`;
      expect(await purgeNext(own.pool)).toEqual({ outcome: "purged" });
      expect(await isThere(free)).toBe(false);
      expect(await purgeNext(own.pool)).toEqual({ outcome: "waits" });
    });
    expect(await purgeNext(own.pool)).toEqual({ outcome: "purged" });
    expect([await isThere(held), await isThere(locked), await isThere(unpublished)]).toEqual([true, false, true]);
  });
});
