import { afterEach, describe, expect, it } from "vitest";
import { redisOnPath, startRedisServer } from "../support/engines.ts";
import { short, type Witness, witness } from "../support/faults.ts";
import { type Load, startLoad } from "../support/load.ts";
import { dataFolder, type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { type RedisGate, redisGate } from "../support/redis-gate.ts";
import { send } from "../support/service.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const changes = short ? 150 : 5_000;

interface Scene {
  readonly service: ServiceProcess;
  readonly gate: RedisGate;
}

/** A service whose Redis is behind a gate that is closed as yet. */
async function scene(): Promise<Scene> {
  const gate = await redisGate();
  undo.push(() => gate[Symbol.asyncDispose]());
  const folder = dataFolder();
  undo.push(() => folder[Symbol.dispose]());
  const service = await startServiceProcess({ settings: { DATA_DIR: folder.path, REDIS_URL: gate.url } });
  undo.push(() => service.stop());
  return { service, gate };
}

async function redisOfItsOwn() {
  const redis = await startRedisServer();
  undo.push(() => redis.stop());
  return redis;
}

async function listener(redisUrl: string): Promise<Witness> {
  const subscriber = await witness(redisUrl);
  undo.push(() => subscriber[Symbol.asyncDispose]());
  return subscriber;
}

function loadOn({ service }: Scene): Load {
  const load = startLoad({ url: service.url, clients: 16 });
  undo.push(() => load.stop());
  return load;
}

async function readiness({ service }: Scene): Promise<unknown[]> {
  const { status, body } = await send(`${service.url}/health/ready`, "GET");
  return [status, body.status, body.redis];
}

/** Some changes are made, none is refused; gives how long a request took: the median, in milliseconds. */
async function work(load: Load, count: number): Promise<number> {
  const { length } = load.outcomes;
  const before = load.acknowledged();
  await until(() => load.acknowledged() >= before + count, `${count} changes`, { withinMs: 120_000 });
  const outcomes = load.outcomes.slice(length);
  expect(outcomes.filter(({ status }) => status !== 200 && status !== 201)).toEqual([]);
  return outcomes.map(({ ms }) => ms).sort((a, b) => a - b)[outcomes.length >> 1] ?? 0;
}

/** What took its usual time may take half as long again on a busy machine; a wait for Redis would take far longer. */
function expectUsual(ms: number, usual: number): void {
  expect(ms, `usual: ${usual} ms`).toBeLessThan(usual * 2.5 + 10);
}

async function expectAllPublished({ service }: Scene, load: Load, subscriber: Witness): Promise<void> {
  await load.stop();
  expect(load.wrong).toEqual([]);
  expect(await subscriber.all(service.databaseUrl ?? "")).toEqual([]);
}

describe.skipIf(redisOnPath() === undefined)("Redis", () => {
  it("absent at start: everything works at its usual speed, ready says degraded, and all is published in order when it comes", async () => {
    const at = await scene();
    expect(await readiness(at)).toEqual([200, "degraded", "down"]);
    const load = loadOn(at);
    await work(load, changes);
    const without = await work(load, changes);
    const redis = await redisOfItsOwn();
    const subscriber = await listener(redis.url);
    expect(subscriber.received()).toBe(0);
    await at.gate.open(redis.url);
    await until(async () => (await readiness(at))[1] === "ok", "Redis to be noticed", { withinMs: 2_000 });
    await until(() => subscriber.received() >= load.acknowledged() / 2, "the relay to catch up", { withinMs: 60_000 });
    expectUsual(without, await work(load, changes));
    await expectAllPublished(at, load, subscriber);
  });

  it("killed: everything works at its usual speed, ready says degraded, and all is published in order by its successor", async () => {
    const at = await scene();
    const first = await redisOfItsOwn();
    const subscriber = await listener(first.url);
    await at.gate.open(first.url);
    const load = loadOn(at);
    await work(load, changes);
    const usual = await work(load, changes);
    await until(() => subscriber.received() > 0, "events");
    await at.gate.close();
    // What it has taken reaches its subscribers; what it has not is for the next one.
    await subscriber.settle();
    await first.stop();
    await until(async () => (await readiness(at))[1] === "degraded", "its absence to be noticed", { withinMs: 2_000 });
    expectUsual(await work(load, changes), usual);
    const second = await redisOfItsOwn();
    await subscriber.listen(second.url);
    await at.gate.open(second.url);
    await until(async () => (await readiness(at))[1] === "ok", "its successor to be noticed", { withinMs: 2_000 });
    await work(load, changes);
    await expectAllPublished(at, load, subscriber);
  });

  it("frozen: everything works at its usual speed, ready says degraded, and all is published in order when it thaws", async () => {
    const at = await scene();
    const redis = await redisOfItsOwn();
    await at.gate.open(redis.url);
    const subscriber = await listener(redis.url);
    const load = loadOn(at);
    await work(load, changes);
    const usual = await work(load, changes);
    redis.process.kill("SIGSTOP");
    undo.push(() => redis.process.kill("SIGCONT"));
    await until(async () => (await readiness(at))[1] === "degraded", "its silence to be noticed", { withinMs: 2_000 });
    expectUsual(await work(load, changes), usual);
    redis.process.kill("SIGCONT");
    await until(async () => (await readiness(at))[1] === "ok", "its return to be noticed", { withinMs: 2_000 });
    await work(load, changes);
    await expectAllPublished(at, load, subscriber);
  });
});
