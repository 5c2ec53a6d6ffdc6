/** Which event appears where on Redis. */

import { Redis } from "ioredis";
import { expect, inject, it } from "vitest";
import { startOwnRedis } from "../support/engines.ts";
import { startTestService, subscribe } from "../support/service.ts";
import { until } from "../support/until.ts";

/** A Redis of the test's own: the stream is one for all that share a Redis. */
async function scene(settings: Record<string, string> = {}) {
  const redis = await startOwnRedis();
  const service = await startTestService({ REDIS_URL: redis.url, ...settings });
  const client = new Redis(redis.url);
  return {
    service,
    redis: client,
    async [Symbol.asyncDispose]() {
      client.disconnect();
      await service.stop();
      await redis.stop();
    },
  };
}

async function entries(redis: Redis): Promise<Record<string, string>[]> {
  const rows = await redis.xrange("stream:events:session", "-", "+");
  return rows.map(([, fields]) =>
    Object.fromEntries(fields.flatMap((field, at) => (at % 2 === 0 ? [[field, fields[at + 1] ?? ""]] : []))),
  );
}

it("a session's own channel carries all its events and no others; events:session carries the changes of all", async () => {
  await using service = await startTestService();
  await using changes = await subscribe(inject("redisUrl"));
  const [one, other] = [await service.create(), await service.create()];
  await changes.ofSession(one, 1);
  await using ofOne = await subscribe(inject("redisUrl"), `events:session:${one}`);
  await service.request("POST", `/sessions/${one}/events`, [
    { event_type: "thinking", payload: { iteration: 1 } },
    { event_type: "anything", payload: { "as it": "likes" } },
  ]);
  await service.request("PATCH", `/sessions/${other}`, { status: "paused" });
  await service.request("PATCH", `/sessions/${one}`, { status: "paused" });
  await service.request("DELETE", `/sessions/${one}`);
  const its = await ofOne.ofSession(one, 4);
  expect(its.map((event) => [event.event_type, event.sequence, event.session_version])).toEqual([
    ["session.thinking", 2, 1],
    ["session.anything", 3, 1],
    ["session.updated", 4, 2],
    ["session.deleted", 5, 3],
  ]);
  expect(new Set(ofOne.events.map((event) => event.aggregate_id))).toEqual(new Set([one]));
  const [, ...ofAll] = await changes.ofSession(one, 3);
  await changes.ofSession(other, 2);
  expect(ofAll).toEqual(its.slice(2));
});

it("a purge is told on both channels, and in the stream", async () => {
  await using at = await scene();
  await using changes = await subscribe(at.service.redisUrl);
  const id = await at.service.create();
  await changes.ofSession(id, 1);
  await using its = await subscribe(at.service.redisUrl, `events:session:${id}`);
  await at.service.request("DELETE", `/sessions/${id}?hard=true`);
  const events = await its.ofSession(id, 2);
  expect((await changes.ofSession(id, 3)).slice(1)).toEqual(events);
  expect(events.map((event) => [event.event_type, event.sequence])).toEqual([
    ["session.deleted", 2],
    ["session.purged", 3],
  ]);
  await until(async () => (await entries(at.redis)).length === 3, "three entries");
});

it("the stream carries the changes, in order, with the envelope's keys as flat fields", async () => {
  await using at = await scene();
  await using changes = await subscribe(at.service.redisUrl);
  const id = await at.service.create({ session_type: "task" });
  await at.service.request("POST", `/sessions/${id}/events`, { event_type: "thinking" });
  await at.service.request("PATCH", `/sessions/${id}`, { status: "paused" });
  const published = await changes.ofSession(id, 2);
  await until(async () => (await entries(at.redis)).length === 2, "two entries");
  const found = await entries(at.redis);
  expect(
    found.map(({ payload, metadata, ...fields }) => [fields, JSON.parse(payload ?? ""), JSON.parse(metadata ?? "")]),
  ).toEqual(
    published.map(({ payload, metadata, ...envelope }) => [
      Object.fromEntries(Object.entries(envelope).map(([key, value]) => [key, String(value)])),
      payload,
      metadata,
    ]),
  );
});

it("the stream keeps about as many changes as EVENT_STREAM_MAXLEN says", async () => {
  await using at = await scene({ EVENT_STREAM_MAXLEN: "200" });
  await using changes = await subscribe(at.service.redisUrl);
  for (let round = 0; round < 10; round++) await Promise.all(Array.from({ length: 60 }, () => at.service.create()));
  await until(() => changes.events.length === 600, "all to be published");
  const length = await at.redis.xlen("stream:events:session");
  expect(length).toBeGreaterThanOrEqual(200);
  // Redis trims whole nodes, of 100 entries each.
  expect(length).toBeLessThan(400);
});

it("EVENT_STREAM_MAXLEN=0 makes no stream", async () => {
  await using at = await scene({ EVENT_STREAM_MAXLEN: "0" });
  await using changes = await subscribe(at.service.redisUrl);
  const id = await at.service.create();
  await changes.ofSession(id, 1);
  expect(await at.redis.exists("stream:events:session")).toBe(0);
});

it("RELAY=off leaves the publishing to another process, which is told of each commit", async () => {
  await using at = await scene();
  const settings = { DATABASE_URL: at.service.database.url, REDIS_URL: at.service.redisUrl, RELAY: "off" };
  await using quiet = await startTestService(settings);
  await using changes = await subscribe(at.service.redisUrl);
  const id = await quiet.create();
  await changes.ofSession(id, 1);
  const [row] = await at.service.database.sql`select count(*)::int as sessions from sessions`;
  expect(row?.["sessions"]).toBe(1);
});
