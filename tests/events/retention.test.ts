/** Events go when they are old enough, and never before they have been published, nor under a legal hold. */

import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { readConfig } from "../../src/config.ts";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { namespacesOfEvents, type RetentionPlace, removeOldEvents } from "../../src/events/retention.ts";
import { startRetention } from "../../src/jobs/retain-events.ts";
import { startService } from "../../src/main.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { agentId, send } from "../support/service.ts";
import { until } from "../support/until.ts";

let database: TestDatabase;
let pool: Database;
beforeEach(async () => {
  database = await createDatabase();
  pool = openDatabase({ url: database.url, poolSize: 4, prepare: true });
});
afterEach(async () => {
  await pool.close();
  await database.drop();
});

const days = 30;
const step = (after?: RetentionPlace, namespace = "default") => removeOldEvents(pool, { namespace, days, after });

/** Removes all that may go, in one walk. */
async function walk(): Promise<number> {
  let removed = 0;
  for (let place: RetentionPlace | undefined, more = true; more; ) {
    const done = await step(place);
    removed += done.removed;
    ({ place, more } = done);
  }
  return removed;
}

/** Adds events of one session, the first of them so many days old, each a millisecond younger than the one before. */
async function addEvents(
  count: number,
  { age = 31, session = randomUUID() as string, namespace = "default" } = {},
): Promise<void> {
  await database.sql`
    insert into events (event_id, namespace, session_id, sequence, session_version, event_type, payload, created_at)
    select gen_random_uuid(), ${namespace}, ${session},
      n + (select coalesce(max(sequence), 0) from events where session_id = ${session}), 1, 'session.progress', '{}',
      now() - make_interval(days => ${age}::int) + n * interval '1 millisecond'
    from generate_series(1, ${count}::int) n`;
}

async function addHeldSession(): Promise<string> {
  const id = randomUUID();
  await database.sql`
    insert into sessions (id, agent_id, created_at, updated_at, last_activity_at, phase_since, legal_hold)
    values (${id}, ${agentId}, now(), now(), now(), now(), true)`;
  return id;
}

const publish = (upTo = "select max(position) from events") =>
  database.sql.unsafe(`update relays set position = (${upTo}), settled = (${upTo}) where name = 'redis'`);

async function left(): Promise<number[]> {
  const rows = await database.sql<{ position: number }[]>`select position::int from events order by position`;
  return rows.map((row) => row.position);
}

async function horizon(): Promise<number> {
  const [row] = await database.sql<{ horizon: number }[]>`select horizon::int from relays where name = 'redis'`;
  return row?.horizon ?? -1;
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

describe("a step of the retention", () => {
  it("removes the oldest 1,000, and moves the horizon with them", async () => {
    await addEvents(2_500);
    await publish();
    const first = await step();
    expect(first).toMatchObject({ removed: 1_000, more: true });
    expect([await left(), await horizon()]).toEqual([numbers(1_001, 2_500), 1_000]);
    const second = await step(first.place);
    expect(second).toMatchObject({ removed: 1_000, more: true });
    const third = await step(second.place);
    expect(third).toMatchObject({ removed: 500, more: false });
    expect([await left(), await horizon()]).toEqual([[], 2_500]);
    expect(await step(third.place)).toEqual({ removed: 0, place: third.place, more: false });
  });

  it("keeps what is young enough, by the database's clock", async () => {
    await addEvents(3, { age: 29 });
    await addEvents(3, { age: 31 });
    await addEvents(3, { age: 0 });
    await publish();
    expect(await walk()).toBe(3);
    expect([await left(), await horizon()]).toEqual([[1, 2, 3, 7, 8, 9], 6]);
  });

  it("never moves the horizon back", async () => {
    await addEvents(3);
    await publish();
    await database.sql`update relays set horizon = 99`;
    expect(await walk()).toBe(3);
    expect(await horizon()).toBe(99);
  });

  it("removes nothing that is not published, and goes on from there once it is", async () => {
    await addEvents(1_500);
    await publish("700");
    const first = await step();
    expect(first).toMatchObject({ removed: 700, more: false });
    expect([await left(), await horizon()]).toEqual([numbers(701, 1_500), 700]);
    expect(await step(first.place)).toEqual({ ...first, removed: 0 });
    await publish();
    expect(await step(first.place)).toMatchObject({ removed: 800 });
    expect([await left(), await horizon()]).toEqual([[], 1_500]);
  });

  it("leaves an event that was committed late until it is published", async () => {
    await addEvents(10);
    await publish();
    await database.sql`update relays set pending = '{[4,6)}'`;
    expect(await walk()).toBe(3);
    expect([await left(), await horizon()]).toEqual([numbers(4, 10), 3]);
    await database.sql`update relays set pending = '{}'`;
    expect(await walk()).toBe(7);
    expect(await left()).toEqual([]);
  });

  it("keeps what is under a legal hold, however much, and removes what is younger; all of it when the hold is lifted", async () => {
    const held = await addHeldSession();
    await addEvents(2_500, { age: 60, session: held });
    await addEvents(10, { age: 50 });
    await addEvents(10, { age: 40, session: held });
    await addEvents(10, { age: 35 });
    await publish();
    expect(await walk()).toBe(20);
    expect(await left()).toEqual([...numbers(1, 2_500), ...numbers(2_511, 2_520)]);
    expect(await horizon()).toBe(2_530);
    await database.sql`update sessions set legal_hold = false`;
    expect(await walk()).toBe(2_510);
    expect(await left()).toEqual([]);
  });

  it("keeps to its namespace, in which alone a hold holds", async () => {
    const held = await addHeldSession();
    await addEvents(3, { namespace: "a", session: held });
    await addEvents(3, { namespace: "default", session: held });
    await publish();
    expect(await namespacesOfEvents(pool)).toEqual(["a", "default"]);
    expect(await walk()).toBe(0);
    expect(await step(undefined, "a")).toMatchObject({ removed: 3 });
    expect(await left()).toEqual([4, 5, 6]);
    expect(await namespacesOfEvents(pool)).toEqual(["default"]);
  });

  it("keeps session.purged no longer than others", async () => {
    await database.sql`
      insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
      values (gen_random_uuid(), gen_random_uuid(), 9, 9, 'session.purged', '{}', now() - interval '31 days')`;
    await publish();
    expect(await walk()).toBe(1);
  });

  it("does not lock out those who write, nor the relay, while it waits for a lock itself", async () => {
    await addEvents(10);
    await publish();
    let waiting: Promise<unknown> | undefined;
    await database.sql.begin(async (tx) => {
      await tx`select 1 from events where position = 5 for update`;
      waiting = step();
      await until(
        async () =>
          (
            await database.sql`
              select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`
          ).length > 0,
        "the step to wait",
      );
      await addEvents(1, { age: 0 });
      await publish("select 10");
    });
    expect(await waiting).toMatchObject({ removed: 10 });
    expect(await horizon()).toBe(10);
  });
});

describe("the retention job", () => {
  it("removes batch after batch in every namespace, several at once too, while others write and the relay moves on", async () => {
    await addEvents(12_000, { namespace: "a" });
    await addEvents(12_000);
    await addEvents(500, { age: 1 });
    await publish();
    const failures: unknown[] = [];
    const onError = (error: unknown) => failures.push(error);
    const jobs = numbers(1, 3).map(() => startRetention({ database: pool, days, onError, everyMs: 20 }));
    let busy = true;
    const writers = numbers(1, 2).map(async () => {
      while (busy) {
        await addEvents(5, { age: 0 });
        await publish();
      }
    });
    await until(
      async () => (await database.sql`select 1 from events where created_at < now() - interval '30 days'`).length === 0,
      "all that is old to go",
    );
    busy = false;
    await Promise.all(writers);
    for (const job of jobs) await job.stop();
    expect(failures).toEqual([]);
    expect(await horizon()).toBe(24_000);
    expect((await left()).slice(0, 500)).toEqual(numbers(24_001, 24_500));
  });

  it("removes what becomes old, or published, after its first walk", async () => {
    await addEvents(5);
    const job = startRetention({ database: pool, days, onError: () => {}, everyMs: 20 });
    await publish("3");
    await until(async () => (await left()).length === 2, "the published ones to go");
    await publish();
    await until(async () => (await left()).length === 0, "the others to go");
    await addEvents(5, { age: 30 });
    await publish();
    await until(async () => (await left()).length === 0, "the next ones to go");
    await job.stop();
  });
});

describe("the service", () => {
  it("removes events older than EVENT_RETENTION_DAYS, beginning at its start, and keeps the others", async () => {
    await addEvents(1_500, { age: 3 });
    await addEvents(5, { age: 1 });
    await publish();
    const service = await startService(
      readConfig({
        PORT: "0",
        LOG_LEVEL: "silent",
        STOP_DELAY_MS: "0",
        DATABASE_URL: database.url,
        REDIS_URL: inject("redisUrl"),
        EVENT_RETENTION_DAYS: "2",
      }),
      () => {},
    );
    await send(`${service.url}/sessions/`, "POST", { agent_id: agentId });
    await until(async () => (await left()).length === 6, "the old ones to go");
    service.stop();
    await service.stopped;
  });
});
