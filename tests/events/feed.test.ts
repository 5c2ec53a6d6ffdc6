/** The feed at its own level: from memory and from the database it gives the same, whoever has the lease. */

import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { Feed, type FollowOptions } from "../../src/events/feed.ts";
import { EventsRemovedError } from "../../src/events/feed-pages.ts";
import type { EventRow } from "../../src/events/row.ts";
import { eventColumns } from "../../src/events/row.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/until.ts";

let database: TestDatabase;
let pool: Database;
const feeds: Feed[] = [];
const followed: Followed[] = [];

beforeAll(async () => {
  database = await createDatabase();
  pool = openDatabase({ url: database.url, poolSize: 4, prepare: true });
});
afterEach(async () => {
  for (const one of followed.splice(0)) await one.stop();
  for (const feed of feeds.splice(0)) feed.close();
});
afterAll(async () => {
  await pool.close();
  await database.drop();
});

function newFeed(): Feed {
  const feed = new Feed({ database: pool, onError: () => {} });
  feeds.push(feed);
  return feed;
}

interface Followed {
  readonly events: readonly EventRow[];
  /** The sizes of the pages. */
  readonly pages: readonly number[];
  /** Why it ended, if it did. */
  readonly failed: () => unknown;
  readonly reachedEnd: () => number;
  stop(): Promise<void>;
}

function follow(feed: Feed, options: Omit<FollowOptions, "signal"> = {}): Followed {
  const stopping = new AbortController();
  const events: EventRow[] = [];
  const pages: number[] = [];
  let failure: unknown;
  let ends = 0;
  const atEnd = () => {
    ends++;
  };
  const running = (async () => {
    for await (const page of feed.follow({ atEnd, ...options, signal: stopping.signal })) {
      events.push(...page.events);
      pages.push(page.events.length);
    }
  })().catch((error: unknown) => {
    failure = error;
  });
  const one = {
    events,
    pages,
    failed: () => failure,
    reachedEnd: () => ends,
    async stop() {
      stopping.abort();
      await running;
    },
  };
  followed.push(one);
  return one;
}

/** Commits events, by turns of these sessions, and gives their rows. */
async function write(ids: readonly string[], count: number, from = 1): Promise<EventRow[]> {
  return database.sql.unsafe<EventRow[]>(
    `insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
     select gen_random_uuid(), id::uuid, n, 1, 'session.lunch', '{}', clock_timestamp()
     from generate_series($2::int, $3::int) n cross join unnest(string_to_array($1, ',')) id order by n, id
     returning ${eventColumns("events")}`,
    [ids.join(","), from, from + count - 1],
  );
}

const settle = (upTo: number) =>
  database.sql`update relays set settled = ${upTo} where name = 'redis'`.then(() => upTo);

const positions = (events: readonly EventRow[]) => events.map(({ position }) => position);

const last = (events: readonly EventRow[]) => events.at(-1)?.position ?? 0;

describe("following the feed", () => {
  it("gives the same from memory as from the database, of all sessions and of one", async () => {
    const ids = [randomUUID(), randomUUID()].sort();
    const before = await write(ids, 30);
    const start = (before[0]?.position ?? 0) - 1;
    const feed = newFeed();
    feed.lead(start);
    const live = ids.map((sessionId) => follow(feed, { sessionId }));
    const all = follow(feed);
    await until(() => all.reachedEnd() > 0 && live.every((one) => one.reachedEnd() > 0), "them to be at the end");
    for (let at = 0; at < before.length; at += 7) {
      const batch = before.slice(at, at + 7);
      feed.append(batch, last(batch));
    }
    await settle(last(before));
    const other = newFeed();
    for (const at of [0, 1, 29, 30, 58]) {
      const after = before[at]?.position ?? 0;
      const fromMemory = follow(feed, { after });
      const fromDatabase = follow(other, { after });
      await until(() => fromMemory.reachedEnd() > 0 && fromDatabase.reachedEnd() > 0, "the end");
      expect(positions(fromMemory.events)).toEqual(positions(before.slice(at + 1)));
      expect(fromDatabase.events).toEqual(fromMemory.events.map((event) => expect.objectContaining(event)));
      const itsFromMemory = follow(feed, { after, sessionId: ids[0] });
      const itsFromDatabase = follow(other, { after, sessionId: ids[0] });
      await until(() => itsFromMemory.reachedEnd() > 0 && itsFromDatabase.reachedEnd() > 0, "the end");
      const expected = before.slice(at + 1).filter((event) => event.session_id === ids[0]);
      expect(positions(itsFromMemory.events)).toEqual(positions(expected));
      expect(positions(itsFromDatabase.events)).toEqual(positions(expected));
    }
    expect(positions(all.events)).toEqual(positions(before));
    for (const [at, one] of live.entries())
      expect(positions(one.events)).toEqual(positions(before.filter((event) => event.session_id === ids[at])));
  });

  it("reads 1,200 events of a session in pages, among those of others", async () => {
    const ids = [randomUUID(), randomUUID()].sort();
    const written = await write(ids, 1_200);
    await settle(last(written));
    const feed = newFeed();
    const its = follow(feed, { after: 0, sessionId: ids[1] });
    await until(() => its.reachedEnd() > 0, "the end");
    expect(its.events.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 1_200 }, (_, at) => at + 1));
    expect(its.pages).toEqual([500, 500, 200]);
    const some = follow(feed, { after: its.events[699]?.position ?? 0, sessionId: ids[1] });
    await until(() => some.reachedEnd() > 0, "the end");
    expect(some.events).toEqual(its.events.slice(700));
  });

  it("sees what another process settles, when it looks by itself and when it is told to", async () => {
    const id = randomUUID();
    const feed = newFeed();
    const all = follow(feed);
    const its = follow(feed, { sessionId: id });
    await until(() => all.reachedEnd() > 0 && its.reachedEnd() > 0, "the end");
    const first = await write([id], 10);
    await settle(last(first));
    await until(() => all.events.length === 10 && its.events.length === 10, "what was found by looking");
    const second = await write([id], 10, 11);
    await settle(last(second));
    feed.look();
    await until(() => all.events.length === 20 && its.events.length === 20, "what was told of");
    expect(positions(its.events)).toEqual(positions([...first, ...second]));
  });

  it("goes on without a gap or a repeat when the lease comes and goes", async () => {
    const id = randomUUID();
    const feed = newFeed();
    const start = await feed.now();
    const all = follow(feed, { after: start });
    const its = follow(feed, { after: start, sessionId: id });
    const first = await write([id], 5);
    await settle(last(first));
    const second = await write([id], 5, 6);
    // The lease comes with more than this process has seen: it was settled elsewhere.
    await settle(last(second));
    feed.lead(last(second));
    await until(() => all.events.length === 10 && its.events.length === 10, "what was settled before the lease came");
    const third = await write([id], 5, 11);
    feed.append(third, last(third));
    await until(() => all.events.length === 15 && its.events.length === 15, "what was settled here");
    feed.stopLeading();
    // Its last tick was lost: for the others less is settled than for this process.
    const fourth = await write([id], 5, 16);
    await settle(last(fourth));
    await until(() => all.events.length === 20 && its.events.length === 20, "what was settled elsewhere since");
    for (const one of [all, its])
      expect(positions(one.events)).toEqual(positions([...first, ...second, ...third, ...fourth]));
  });

  it("begins anew with what is settled then, when nobody has followed since the lease went", async () => {
    const id = randomUUID();
    const feed = newFeed();
    feed.lead(await feed.now());
    feed.stopLeading();
    const missed = await write([id], 5);
    await settle(last(missed));
    const all = follow(feed);
    await until(() => all.reachedEnd() > 0, "the end");
    const seen = await write([id], 1, 6);
    await settle(last(seen));
    await until(() => all.events.length > 0, "the next");
    expect(positions(all.events)).toEqual(positions(seen));
  });

  it("fails a client that what it has yet to get was removed from, and gives the rest to whom it matters not", async () => {
    const ids = [randomUUID(), randomUUID()].sort();
    const written = await write(ids, 600);
    await settle(last(written));
    const feed = newFeed();
    const after = (written[0]?.position ?? 0) - 1;
    const one = feed.follow({ after, isClient: true, signal: new AbortController().signal });
    const its = feed.follow({ after, isClient: true, sessionId: ids[0], signal: new AbortController().signal });
    for (const pages of [one, its]) expect((await pages.next()).value?.events).toHaveLength(500);
    const horizon = last(written.slice(0, 1_100));
    await database.sql`update relays set horizon = ${horizon} where name = 'redis'`;
    await database.sql`delete from events where position <= ${horizon}`;
    for (const pages of [one, its]) await expect(pages.next()).rejects.toThrow(EventsRemovedError);
    const rest = follow(feed, { after: horizon, isClient: true });
    await until(() => rest.reachedEnd() > 0, "the end");
    expect(positions(rest.events)).toEqual(positions(written.slice(1_100)));
  });

  it("lets clients read from the database a few at a time, and those who leave give up their turn", async () => {
    const id = randomUUID();
    const written = await write([id], 3);
    await settle(last(written));
    const feed = newFeed();
    const after = (written[0]?.position ?? 0) - 1;
    const holders = Array.from({ length: 8 }, () => {
      const end = new AbortController();
      return { end, pages: feed.follow({ after, isClient: true, signal: end.signal }) };
    });
    for (const { pages } of holders) expect((await pages.next()).value?.events).toHaveLength(3);
    const leaving = follow(feed, { after, isClient: true });
    const next = follow(feed, { after, isClient: true });
    // One that is no client does not wait for them.
    const relay = follow(feed, { after });
    await until(() => relay.events.length === 3, "the page");
    expect([leaving.events.length, next.events.length]).toEqual([0, 0]);
    await leaving.stop();
    await holders[0]?.pages.return();
    await until(() => next.events.length === 3, "its turn");
    expect(leaving.events).toEqual([]);
    for (const { pages } of holders) await pages.return();
  });
});
