import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { afterEach, expect, it } from "vitest";
import { startOwnRedis } from "../support/engines.ts";
import { rounds, witness } from "../support/faults.ts";
import { startPostgresServer } from "../support/postgres-server.ts";
import { startServiceProcess } from "../support/process.ts";
import { agentId, send } from "../support/service.ts";
import { until } from "../support/until.ts";
import { followPages, followStream, type Reader, readersViolations, wander } from "./readers.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

/** For so long the lease is taken away, and everybody writes. */
const runMs = rounds(40_000, 6_000);

/** Longer than the relay waits for an open transaction before it passes by its positions. */
const longestOpenMs = 1_600;

/** It takes the lease away, and does nothing with it. */
const thief = randomUUID();

const changedItsMind = new Error("rolled back");

const below = (limit: number) => Math.floor(Math.random() * limit);

const oneOf = <Item>(items: readonly Item[]) => items[below(items.length)] as Item;

/** A change as the service makes it, with its event; gives the position of that. */
async function change(tx: postgres.TransactionSql, id: string): Promise<number> {
  const [event] = await tx<{ position: number }[]>`
    with s as (
      update sessions set version = version + 1, last_sequence = last_sequence + 1, updated_at = clock_timestamp()
      where id = ${id} returning *
    )
    insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
    select gen_random_uuid(), id, last_sequence, version, 'session.updated', jsonb_build_object('agent_id', agent_id,
      'status', status, 'phase', phase, 'updates', jsonb_build_array('context')), updated_at
    from s returning position::float8 as position`;
  if (event === undefined) throw new Error(`there is no session ${id}`);
  return event.position;
}

/** Changes sessions in transactions of several events, some of which stay open or are rolled back. */
async function changeSessions(sql: postgres.Sql, ids: readonly string[], stopping: AbortSignal): Promise<void> {
  while (!stopping.aborted) {
    const id = oneOf(ids);
    const transaction = sql.begin(async (tx) => {
      for (let left = 1 + below(3); left > 0; left--) {
        await change(tx, id);
        if (below(10) === 0) await sleep(below(50));
      }
      if (below(8) === 0) await sleep(below(longestOpenMs));
      if (below(7) === 0) throw changedItsMind;
    });
    await transaction.catch((error: unknown) => {
      if (error !== changedItsMind) throw error;
    });
    await sleep(below(20));
  }
}

/**
 * Reports of the same sessions over HTTP; half of the requests carry an Idempotency-Key.
 *
 * @returns the ids of the events that were acknowledged
 */
async function report(url: string, ids: readonly string[], stopping: AbortSignal): Promise<string[]> {
  const events = [1, 2, 3].map((iteration) => ({
    event_type: "thinking",
    payload: { iteration, tools_used: ["read"] },
  }));
  const acknowledged: string[] = [];
  while (!stopping.aborted) {
    const headers: Record<string, string> = below(2) === 0 ? { "idempotency-key": randomUUID() } : {};
    const { status, body, text } = await send(`${url}/sessions/${oneOf(ids)}/events`, "POST", events, headers);
    // 503: somebody has had the session's row for too long.
    if (status !== 201 && status !== 503) throw new Error(`reported, answered ${status}: ${text}`);
    if (status === 201) acknowledged.push(...body.map((event: { event_id: string }) => event.event_id));
    await sleep(below(30));
  }
  return acknowledged;
}

/** Takes the lease away: it is free at once, and its holder, which this gives, has yet to notice. */
async function rob(sql: postgres.Sql): Promise<string> {
  const [robbed] = await sql<{ holder: string }[]>`
    update relays set holder = ${thief}, token = relays.token + 1, expires_at = now() - interval '1 second'
    from (select holder from relays where name = 'redis' for update) as former
    where name = 'redis' returning former.holder`;
  if (robbed === undefined) throw new Error("there is no lease");
  return robbed.holder;
}

/** Takes it away when an open transaction has been passed by, which commits once somebody has taken over. */
async function robBeforeCommit(sql: postgres.Sql, id: string): Promise<string> {
  return sql.begin(async (tx) => {
    const position = await change(tx, id);
    const is = async (condition: postgres.PendingQuery<{ holds: boolean }[]>) => (await condition)[0]?.holds === true;
    const isPassedBy = () =>
      is(sql`select pending @> ${position}::bigint and settled > ${position}::bigint as holds from relays`);
    await until(isPassedBy, "an open transaction to be passed by", { withinMs: 30_000 });
    const holder = await rob(sql);
    await until(() => is(sql`select holder <> ${thief} as holds from relays`), "somebody to take over");
    return holder;
  });
}

/** Whether both replicas have lost the lease. */
function haveAllLostIt(robbed: readonly string[]): boolean {
  return new Set(robbed.filter((holder) => holder !== thief)).size > 1;
}

interface FeedEvent {
  readonly id: string;
  readonly session: string;
}

/** How a reader's events differ from the feed's, or from one session's part of it: the first place where they do. */
function unlikeFeed({ name, deliveries }: Reader, feed: readonly FeedEvent[]): string[] {
  const given = deliveries.map(({ message }) => (JSON.parse(message) as { readonly event_id: string }).event_id);
  const at = feed.findIndex(({ id }, place) => given[place] !== id);
  if (at === -1 && given.length === feed.length) return [];
  const place = at === -1 ? feed.length : at;
  return [`${name}: ${given.length} of ${feed.length}; at ${place} ${given[place]} instead of ${feed[place]?.id}.`];
}

it("the lease taken away again and again while transactions overlap: no reader misses an event, gets one twice, or sees one before its predecessor", async () => {
  const database = await startPostgresServer();
  undo.push(() => database[Symbol.asyncDispose]());
  const redis = await startOwnRedis();
  undo.push(() => redis.stop());
  const subscriber = await witness(redis.url);
  undo.push(() => subscriber[Symbol.asyncDispose]());
  const settings = { DATABASE_URL: database.url, REDIS_URL: redis.url };
  const replicas = [await startServiceProcess({ settings }), await startServiceProcess({ settings })];
  for (const replica of replicas) undo.push(() => replica.stop());
  const urls = replicas.map(({ url }) => url);
  const sql = postgres(database.url, { max: 10, onnotice: () => {} });
  undo.push(() => sql.end({ timeout: 5 }));
  const stopping = new AbortController();
  undo.push(() => stopping.abort());

  const ids: string[] = [];
  while (ids.length <= 10) {
    const { body } = await send(`${urls[0]}/sessions/`, "POST", { agent_id: agentId });
    ids.push(body.id);
  }
  const [late = "", watched = ""] = ids;
  const staying = urls.flatMap((url) => [followPages(url), followStream(url, "/events/stream")]);
  const wandering = [wander(urls, "/events/stream"), wander(urls, "/events/stream")];
  const ofOne = wander(urls, `/sessions/${watched}/events/stream`);
  const readers = [...staying, ...wandering, ofOne];
  for (const reader of readers) undo.push(() => reader.stop().catch(() => {}));

  const { signal } = stopping;
  const changing = Promise.all(Array.from({ length: 6 }, () => changeSessions(sql, ids.slice(1), signal)));
  const reporting = Promise.all([...urls, ...urls].map((url) => report(url, ids.slice(1), signal)));
  const robbed: string[] = [];
  const stealing = (async () => {
    const began = performance.now();
    const isOver = () => performance.now() > began + (haveAllLostIt(robbed) ? runMs : runMs + 60_000);
    while (!isOver() && !signal.aborted) {
      await sleep(100 + below(1_200));
      robbed.push(await rob(sql));
      robbed.push(await robBeforeCommit(sql, late));
    }
    stopping.abort();
  })();
  const [, acknowledged] = await Promise.all([changing, reporting, stealing]);

  const atRest = async () => {
    const [row] = await sql<{ rests: boolean }[]>`
      select settled = position and pending = '{}' and settled = (select max(position) from events) as rests from relays`;
    return row?.rests === true;
  };
  await until(atRest, "everything to be settled and published, and nothing to be pending", { withinMs: 30_000 });
  expect(await subscriber.all(database.url, { stream: { redisUrl: redis.url } })).toEqual([]);
  expect(await readersViolations([...staying, ...wandering], database.url)).toEqual([]);
  const feed = await sql<FeedEvent[]>`
    select event_id::text as id, session_id::text as session from events order by position`;
  const ofWatched = feed.filter(({ session }) => session === watched);
  await until(() => ofOne.deliveries.length >= ofWatched.length, ofOne.name);
  for (const reader of readers) await reader.stop();
  const amiss = [...staying, ...wandering].flatMap((reader) => unlikeFeed(reader, feed));
  expect([...amiss, ...unlikeFeed(ofOne, ofWatched)]).toEqual([]);
  const inFeed = new Set(feed.map(({ id }) => id));
  expect(acknowledged.flat().filter((id) => !inFeed.has(id))).toEqual([]);

  // Nobody who stayed was cut off by it, and it was what the title says: else it has proved nothing.
  expect(staying.flatMap(({ endings }) => endings)).toEqual([]);
  for (const { endings } of [...wandering, ofOne]) expect(endings.length).toBeGreaterThan(2);
  expect(haveAllLostIt(robbed)).toBe(true);
});
