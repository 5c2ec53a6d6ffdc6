/** The subscribers in examples/, each in its language, on a Redis whose connections are cut, and on one that loses. */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { changesChannel, sessionChannel } from "../../src/events/envelope.ts";
import { type Engine, startOwnRedis } from "../support/engines.ts";
import { redisGate } from "../support/redis-gate.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";
import { connect, type Example, missing, pythonWithRedis, startExample } from "./example.ts";

const counting = (to: number) => Array.from({ length: to }, (_, at) => at + 1);

/** What a test lacks here, for its title. */
const needs = (lacks: string) => (lacks === "" ? "" : ` (needs ${lacks})`);

const needsOfShell = missing("redis-cli", "curl", "python3").join(", ");
const languages = [
  { name: "TypeScript", command: [process.execPath, "--import", "tsx", "examples/subscriber.ts"], lacks: "" },
  {
    name: "Python",
    command: [pythonWithRedis ?? "python3", "examples/subscriber.py"],
    lacks: pythonWithRedis === undefined ? "python3 with redis" : "",
  },
  { name: "shell", command: ["sh", "examples/subscriber.sh"], lacks: needsOfShell },
];

/** Waits until a channel has this many subscribers. */
const listening = async (url: string, to: string, count: number) => {
  const client = connect(url);
  try {
    const listeners = async () => Number((await client.pubsub("NUMSUB", to))[1]);
    await until(async () => (await listeners()) === count, `${count} subscribers of ${to}`, { withinMs: 20_000 });
  } finally {
    client.disconnect();
  }
};

describe.each(languages)("the subscriber in $name", ({ command, lacks }) => {
  let redis: Engine;
  let service: TestService;
  beforeAll(async () => {
    redis = await startOwnRedis();
    service = await startTestService({ REDIS_URL: redis.url });
  });
  afterAll(async () => {
    await service.stop();
    await redis.stop();
  });

  const start = (redisUrl: string, ...args: string[]) =>
    startExample([...command, ...args], { REDIS_URL: redisUrl, SERVICE_URL: service.url });

  const change = async (id: string, step: number): Promise<void> => {
    const { status } = await service.request("PATCH", `/sessions/${id}`, {
      checkpoint: { step, text: 'ünï "\\n" \t' },
    });
    expect(status).toBe(200);
  };

  const expectAll = async (example: Example, expected: ReadonlyMap<string, number>) => {
    const complete = () => [...expected].every(([id, count]) => example.sequencesOf(id).length >= count);
    await until(complete, "every event", { withinMs: 20_000 }).catch((error) => {
      throw new Error(`${error}: ${JSON.stringify([...expected].map(([id, count]) => [count, example.sequencesOf(id)]))}
        ${example.stderr()}`);
    });
    for (const [id, count] of expected) expect(example.sequencesOf(id), example.stderr()).toEqual(counting(count));
  };

  it.skipIf(lacks !== "")(
    `prints every event once and in order, though its connection is cut, and some are sent twice${needs(lacks)}`,
    { timeout: 60_000 },
    async () => {
      await using gate = await redisGate();
      await gate.open(redis.url);
      const publisher = connect(redis.url);
      const observer = connect(redis.url);
      const messages: string[] = [];
      observer.on("message", (_, message) => messages.push(message));
      await observer.subscribe(changesChannel);
      await using example = start(gate.url);
      await listening(redis.url, changesChannel, 2);

      const early = await service.create();
      const idle = await service.create();
      await change(early, 1);
      await expectAll(
        example,
        new Map([
          [early, 2],
          [idle, 1],
        ]),
      );

      await gate.close();
      await listening(redis.url, changesChannel, 1);
      const late = await service.create();
      for (let step = 2; step <= 5; step++) await change(early, step);
      await change(late, 1);
      await until(() => messages.length === 9, "the events that it misses");
      await gate.open(redis.url);
      // No pause: some of these come while it subscribes and catches up.
      for (let step = 6; step <= 30; step++) await change(early, step);
      await listening(redis.url, changesChannel, 2);

      for (const message of messages.slice(0, 3)) await publisher.publish(changesChannel, message);
      await change(idle, 1);
      await change(late, 2);
      const all = new Map([
        [early, 31],
        [idle, 2],
        [late, 3],
      ]);
      await expectAll(example, all);
      await publisher.publish(changesChannel, messages.at(-1) ?? "");
      await change(late, 3);
      await expectAll(example, new Map([...all, [late, 4]]));
      expect(
        example
          .printed()
          .filter(({ id }) => id === early)
          .at(-1),
      ).toMatchObject({
        type: "session.updated",
        payload: { status: "active", updates: ["checkpoint"] },
      });
      publisher.disconnect();
      observer.disconnect();
    },
  );

  it.skipIf(lacks !== "")(
    `notices that a number was skipped, and reads what lies between${needs(lacks)}`,
    { timeout: 60_000 },
    async () => {
      const lossy = await startOwnRedis();
      const source = connect(redis.url);
      const sink = connect(lossy.url);
      let received = 0;
      let dropped = 0;
      const passOn = async (message: string) => {
        const { session_version: version, payload } = JSON.parse(message);
        // Of the changes between the first and the last, two in three are lost; some come three times.
        if (version > 1 && payload.status !== "completed" && version % 3 !== 0) dropped++;
        else for (let times = 0; times <= version % 4; times += 2) await sink.publish(changesChannel, message);
        received++;
      };
      let passing = Promise.resolve();
      source.on("message", (_, message) => {
        passing = passing.then(() => passOn(message));
      });
      await source.subscribe(changesChannel);
      await using example = start(lossy.url);
      await listening(lossy.url, changesChannel, 1);

      const ids = await Promise.all(counting(3).map(() => service.create()));
      for (let step = 1; step <= 12; step++) {
        await Promise.all(ids.map((id) => change(id, step)));
        // What a runtime reports is in the history too, but not among the changes.
        for (const id of ids)
          await service.request("POST", `/sessions/${id}/events`, { event_type: "thinking", payload: {} });
      }
      for (const id of ids) await service.request("PATCH", `/sessions/${id}`, { status: "completed" });
      await until(() => received === 3 * 14, "every change to be passed on or lost");
      await passing;
      expect(dropped).toBeGreaterThan(15);
      const printed = (id: string) => example.printed().filter((event) => event.id === id);
      await until(() => ids.every((id) => printed(id).length >= 14), "every change", { withinMs: 20_000 }).catch(
        (error) => {
          throw new Error(`${error}: ${JSON.stringify(ids.map((id) => example.sequencesOf(id)))}\n${example.stderr()}`);
        },
      );
      for (const id of ids) {
        expect(printed(id).map(({ type }) => type)).toEqual(["session.created", ...Array(13).fill("session.updated")]);
        const { body: history } = await service.request("GET", `/sessions/${id}/events?limit=1000&order=asc`);
        const changes = history.filter((event: { event_type: string }) => event.event_type !== "session.thinking");
        expect(example.sequencesOf(id)).toEqual(changes.map((event: { sequence: number }) => event.sequence));
      }
      source.disconnect();
      sink.disconnect();
      await lossy.stop();
    },
  );

  it.skipIf(lacks !== "")(
    `follows a single session with all that its runtime reports, though its connection is cut${needs(lacks)}`,
    { timeout: 60_000 },
    async () => {
      await using gate = await redisGate();
      await gate.open(redis.url);
      const id = await service.create();
      const its = sessionChannel(id);
      await using example = start(gate.url, id);
      await listening(redis.url, its, 1);
      const report = async (word: string) => {
        const answer = await service.request("POST", `/sessions/${id}/events`, { event_type: word, payload: {} });
        expect(answer.status, answer.text).toBe(201);
      };
      await report("thinking");
      await change(id, 1);
      await until(() => example.printed().length === 2, "what it heard").catch((error) => {
        throw new Error(`${error}\n${example.stderr()}`);
      });
      await gate.close();
      await listening(redis.url, its, 0);
      // More than a page.
      for (let times = 0; times < 3; times++) {
        const reports = Array(500).fill({ event_type: "terminal", payload: {} });
        expect((await service.request("POST", `/sessions/${id}/events`, reports)).status).toBe(201);
      }
      await change(id, 2);
      await gate.open(redis.url);
      await report("completion");
      await until(() => example.printed().length >= 1_504, "the rest", { withinMs: 30_000 });
      expect(example.sequencesOf(id)).toEqual(counting(1_505).slice(1));
      const types = example.printed().map(({ type }) => type.replace("session.", ""));
      expect([types.slice(0, 3), types.slice(-3)]).toEqual([
        ["thinking", "updated", "terminal"],
        ["terminal", "updated", "completion"],
      ]);
    },
  );
});

it.skipIf(needsOfShell !== "")(
  `the subscriber in shell goes on where it was when it is started again with the same STATE_DIR${needs(needsOfShell)}`,
  { timeout: 60_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "session-subscriber-"));
    const redis = await startOwnRedis();
    const service = await startTestService({ REDIS_URL: redis.url });
    const start = () =>
      startExample(["sh", "examples/subscriber.sh"], {
        REDIS_URL: redis.url,
        SERVICE_URL: service.url,
        STATE_DIR: folder,
      });
    try {
      await using first = start();
      await listening(redis.url, changesChannel, 1);
      const id = await service.create();
      await until(() => first.sequencesOf(id).length === 1, "what the first one heard");
      // What was printed is remembered a moment later.
      await until(() => readFileSync(join(folder, "position"), "utf8").trim() !== "", "where it was to be remembered");
      await first.kill();
      await listening(redis.url, changesChannel, 0);
      await service.request("PATCH", `/sessions/${id}`, { checkpoint: { step: 1 } });
      await using second = start();
      await until(() => second.printed().length > 0, "what it missed");
      await service.request("PATCH", `/sessions/${id}`, { checkpoint: { step: 2 } });
      await until(() => second.sequencesOf(id).length === 2, "what it hears");
      expect(second.sequencesOf(id)).toEqual([2, 3]);
    } finally {
      await service.stop();
      await redis.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
