/** The consumer of the Redis stream in examples/: with one that died, entries that come twice, and connections that are cut. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { changesStream } from "../../src/events/envelope.ts";
import { type Engine, startOwnRedis } from "../support/engines.ts";
import { redisGate } from "../support/redis-gate.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";
import { connect, type Example, startTypeScript } from "./example.ts";

const group = "example";
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

const start = (redisUrl: string, consumer: string, claimAfterMs = 500) =>
  startTypeScript("examples/stream-consumer.ts", [consumer], {
    REDIS_URL: redisUrl,
    GROUP: group,
    CLAIM_AFTER_MS: String(claimAfterMs),
  });

const change = (id: string, step: number) => service.request("PATCH", `/sessions/${id}`, { checkpoint: { step } });
const counting = (to: number) => Array.from({ length: to }, (_, at) => at + 1);

/** Waits until the group has nothing in hand: what was printed and not acknowledged would be printed again. */
const acknowledged = async () => {
  const direct = connect(redis.url);
  const pending = async () => (await direct.xpending(changesStream, group))[0];
  await until(async () => (await pending()) === 0, "everything to be acknowledged");
  direct.disconnect();
};

const expectAll = async (examples: readonly Example[], id: string, count: number) => {
  const got = () => examples.flatMap((example) => example.sequencesOf(id));
  await until(() => got().length >= count, `${count} events`, { withinMs: 20_000 }).catch((error) => {
    throw new Error(`${error}: ${got()}\n${examples.map((example) => example.stderr()).join("\n")}`);
  });
  expect(got()).toEqual(counting(count));
};

it("handles every entry once and in order, though its connection is cut, and some come twice", {
  timeout: 60_000,
}, async () => {
  await using gate = await redisGate();
  const direct = connect(redis.url);
  const id = await service.create();
  for (let step = 1; step <= 4; step++) await change(id, step);
  await until(
    async () => (await direct.xlen(changesStream)) === 5,
    "the stream to have what came before anybody read it",
  );

  // One that takes two entries, and is never heard of again.
  await direct.xgroup("CREATE", changesStream, group, "0");
  const taken = await direct.xreadgroup("GROUP", group, "the-dead", "COUNT", 2, "STREAMS", changesStream, ">");
  expect(JSON.stringify(taken)).toContain(id);
  await until(
    async () => (await direct.xpending(changesStream, group, "IDLE", 500, "-", "+", 10)).length === 2,
    "its entries to have been idle long enough",
  );

  await gate.open(redis.url);
  await using example = start(gate.url, "first");
  const got = () => example.sequencesOf(id);
  await until(() => got().length >= 5, "what was there, that of the dead included", { withinMs: 20_000 }).catch(
    (error) => {
      throw new Error(`${error}: ${got()}\n${example.stderr()}`);
    },
  );
  expect(got().toSorted((a, b) => a - b)).toEqual(counting(5));

  const begun = got().length;
  await gate.close();
  for (let step = 5; step <= 9; step++) await change(id, step);
  await gate.open(redis.url);
  for (let step = 10; step <= 30; step++) {
    await change(id, step);
    if (step === 20) {
      await gate.close();
      await gate.open(redis.url);
    }
  }
  const [[, repeated = []] = []] = await direct.xrange(changesStream, "-", "+", "COUNT", 1);
  expect(repeated).toContain(id);
  await direct.xadd(changesStream, "*", ...repeated);
  const other = await service.create();
  await expectAll([example], other, 1);
  expect(got().slice(begun)).toEqual(counting(31).slice(begun));
  await acknowledged();
  direct.disconnect();
});

it("begins with what it took itself and did not finish, without waiting for it to be idle", {
  timeout: 60_000,
}, async () => {
  const direct = connect(redis.url);
  const id = await service.create();
  const first = start(redis.url, "second", 3_600_000);
  await expectAll([first], id, 1);
  for (let step = 1; step <= 10; step++) await change(id, step);
  await expectAll([first], id, 11);
  await acknowledged();
  await first.kill();
  const before = await direct.xlen(changesStream);
  for (let step = 11; step <= 20; step++) await change(id, step);
  await until(async () => (await direct.xlen(changesStream)) === before + 10, "the stream to have what came meanwhile");
  const taken = await direct.xreadgroup("GROUP", group, "second", "COUNT", 3, "STREAMS", changesStream, ">");
  expect(JSON.stringify(taken)).toContain(id);
  await using again = start(redis.url, "second", 3_600_000);
  await expectAll([first, again], id, 21);
  direct.disconnect();
});
