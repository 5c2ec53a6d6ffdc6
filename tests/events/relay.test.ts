/** From the database to Redis: every committed event, in order for each session, and none that was not committed. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { type Broker, connectBroker } from "../../src/events/broker.ts";
import { changesStream, eventSchema } from "../../src/events/envelope.ts";
import { Feed } from "../../src/events/feed.ts";
import { startRelay } from "../../src/events/relay.ts";
import { createSessions } from "../../src/sessions/create.ts";
import { updateSessions } from "../../src/sessions/update.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { startOwnRedis } from "../support/engines.ts";
import { agentId, type Subscription, startTestService, subscribe, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

describe("the relay", () => {
  let service: TestService;
  let events: Subscription;
  beforeAll(async () => {
    service = await startTestService();
    events = await subscribe(service.redisUrl);
  });
  afterAll(async () => {
    await events[Symbol.asyncDispose]();
    await service.stop();
  });

  it("publishes what the event schema says", async () => {
    const id = await service.create({ session_type: 'odd "type" ünï', status: "pending" });
    await service.request("PATCH", `/sessions/${id}`, { status: "paused" });
    await service.request("PATCH", `/sessions/${id}`, { phase: "stopped" });
    for (const event of await events.ofSession(id, 2)) expect(eventSchema.parse(event)).toEqual(event);
  });

  it("publishes each event once while nothing breaks, in order for each session", async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, () => service.create()));
    await Promise.all(
      ids.map(async (id) => {
        for (let step = 0; step < 10; step++)
          await service.request("PATCH", `/sessions/${id}`, { checkpoint: { step } });
      }),
    );
    for (const id of ids) {
      const its = await events.ofSession(id, 11);
      expect(its.map((event) => event.sequence)).toEqual(Array.from({ length: 11 }, (_, n) => n + 1));
      expect(new Set(its.map((event) => event.event_id)).size).toBe(11);
    }
  });

  it("waits for a transaction that drew an earlier position and commits later", async () => {
    const other = await service.create();
    const late = await service.create();
    await events.ofSession(other, 1);
    await events.ofSession(late, 1);
    let commit = () => {};
    const open = new Promise<void>((resolve) => {
      commit = resolve;
    });
    let drawn = () => {};
    const hasDrawn = new Promise<void>((resolve) => {
      drawn = resolve;
    });
    const transaction = service.database.sql.begin(async (tx) => {
      await tx.unsafe(`insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
        values (gen_random_uuid(), '${late}', 2, 2, 'session.updated', '{"updates":["context"]}', now())`);
      drawn();
      await open;
    });
    await hasDrawn;
    await service.request("PATCH", `/sessions/${other}`, { status: "paused" });
    // The relay looks, sees the gap, and holds what stands behind it: it looks at the locks while it waits.
    await until(
      async () =>
        (
          await service.database
            .sql`select 1 from pg_stat_activity where query like '%pg_locks%' and pid <> pg_backend_pid() and datname = current_database()`
        ).length > 0,
      "the relay to see the gap",
    );
    expect(events.events.filter((event) => event.aggregate_id === other)).toHaveLength(1);
    commit();
    await transaction;
    await events.ofSession(other, 2);
    const inOrder = events.events.filter((event) => [other, late].includes(event.aggregate_id));
    expect(inOrder.slice(-2).map((event) => event.aggregate_id)).toEqual([late, other]);
  });

  it("passes over the positions that a rolled back transaction drew", async () => {
    const id = await service.create();
    await service.database.sql
      .begin(async (tx) => {
        for (let n = 0; n < 40; n++) await tx`select nextval('events_position_seq')`;
        throw new Error("changed my mind");
      })
      .catch(() => {});
    await service.request("PATCH", `/sessions/${id}`, { status: "paused" });
    await events.ofSession(id, 2);
  });
});

describe("two relays on one database", () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
  });
  afterAll(() => database.drop());

  it("take turns: one works, the other takes over within 5 s of its death, and nothing is lost or out of order", async () => {
    const redis = await startOwnRedis();
    const events = await subscribe(redis.url);
    const pool = openDatabase({ url: database.url, poolSize: 4, prepare: true });
    const broker = connectBroker({ url: redis.url, stream: changesStream, streamLength: 0, onError: () => {} });
    await until(() => broker.isUp(), "the broker");
    const published: string[] = [];
    const noting = (name: string): Broker => ({
      ...broker,
      async publish(deliveries) {
        published.push(name);
        await broker.publish(deliveries);
      },
    });
    /** As of a process that has been frozen, or cut off: what it asks is never answered. */
    const mortal = (name: string): Database => ({
      query: (...asked) => (dead.has(name) ? new Promise(() => {}) : pool.query(...asked)),
      transaction: (run) => (dead.has(name) ? new Promise(() => {}) : pool.transaction(run)),
      close: () => pool.close(),
    });
    const dead = new Set<string>();
    const start = (name: string) => {
      const database = mortal(name);
      const feed = new Feed({ database, onError: () => {} });
      return startRelay({
        database,
        broker: noting(name),
        feed,
        takesTurns: true,
        onError: () => {},
      });
    };
    const context = { namespace: "default", requestId: "test" };
    const first = start("first");
    try {
      const [result] = await createSessions(pool, [
        { context, input: { agentId, sessionType: "task", phase: "running", runtimeBackend: "local" } },
      ]);
      const id = result?.outcome === "ok" ? result.session.id : "";
      await events.ofSession(id, 1);
      const second = start("second");
      const change = (step: number) =>
        updateSessions(pool, [{ context, input: { id, checkpoint: `{"step":${step}}` } }]);
      for (let step = 0; step < 5; step++) await change(step);
      await events.ofSession(id, 6);
      expect(new Set(published)).toEqual(new Set(["first"]));
      dead.add("first");
      await change(5);
      first.wake();
      for (let step = 6; step < 10; step++) await change(step);
      // What the first had published and not ticked off yet comes twice.
      const firstDeliveries = () => [...new Map(events.events.map((event) => [event.event_id, event])).values()];
      await until(() => firstDeliveries().length >= 11, "the second to take over", { withinMs: 5_000 });
      expect(firstDeliveries().map((event) => event.sequence)).toEqual(Array.from({ length: 11 }, (_, n) => n + 1));
      expect(published.at(-1)).toBe("second");
      await second.stop(1_000);
    } finally {
      await pool.close();
      await broker.close();
      await events[Symbol.asyncDispose]();
      await redis.stop();
    }
  });
});

describe("a restart", () => {
  it("publishes what was committed while Redis was away, in order, and nothing twice", async () => {
    const redis = await startOwnRedis();
    const port = Number(new URL(redis.url).port);
    await using service = await startTestService({ REDIS_URL: redis.url });
    const id = await service.create();
    await redis.stop();
    for (let step = 0; step < 30; step++) await service.request("PATCH", `/sessions/${id}`, { checkpoint: { step } });
    const again = await startOwnRedis({ port });
    const events = await subscribe(again.url);
    try {
      // The subscriber may have come after the first of them: pub/sub forgets. The rest is there, in order.
      await until(() => events.events.at(-1)?.sequence === 31, "the last event");
      const sequences = events.events.map((event) => event.sequence);
      expect(sequences).toEqual([...new Set(sequences)].sort((a, b) => a - b));
    } finally {
      await events[Symbol.asyncDispose]();
      await again.stop();
    }
  });
});
