import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, it } from "vitest";
import { startOwnRedis } from "../support/engines.ts";
import { rounds, witness } from "../support/faults.ts";
import { type Load, startLoad } from "../support/load.ts";
import { type DataFolder, dataFolder, type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const times = rounds(50, 4);

async function start(folder: DataFolder, redisUrl: string): Promise<ServiceProcess> {
  const service = await startServiceProcess({ settings: { DATA_DIR: folder.path, REDIS_URL: redisUrl } });
  undo.push(() => service.stop());
  return service;
}

/** Kills the service at a random moment while requests run; what it had started goes with it. */
async function killUnderLoad(service: ServiceProcess, folder: DataFolder, load: Load): Promise<void> {
  const by = load.acknowledged() + 1 + Math.floor(Math.random() * 300);
  await until(() => load.acknowledged() >= by, "changes to be acknowledged");
  await sleep(Math.random() * 20);
  expect(folder.processes(), "the database runs while the service does").not.toEqual([]);
  service.kill("SIGKILL");
  expect(await service.exited).toEqual({ code: null, signal: "SIGKILL" });
  await until(() => folder.processes().length === 0, "the database's processes to be gone", { withinMs: 15_000 });
}

it(`kill -9 at ${times} random moments under load: every acknowledged change has one event and reaches Redis, nothing else does, no process stays`, async () => {
  const folder = dataFolder();
  undo.push(() => folder[Symbol.dispose]());
  const redis = await startOwnRedis();
  undo.push(() => redis.stop());
  const subscriber = await witness(redis.url);
  undo.push(() => subscriber[Symbol.asyncDispose]());
  let service = await start(folder, redis.url);
  const load = startLoad({ url: service.url, clients: 24, purges: true });
  undo.push(() => load.stop());
  for (let time = 1; time <= times; time++) {
    await killUnderLoad(service, folder, load);
    service = await start(folder, redis.url);
    load.url = service.url;
    expect(load.wrong).toEqual([]);
  }
  await load.stop();
  expect(load.wrong).toEqual([]);
  expect(load.acknowledged()).toBeGreaterThanOrEqual(times);
  expect(
    load.outcomes.some(({ status }) => status === undefined),
    "requests were under way when it was killed",
  ).toBe(true);
  const databaseUrl = service.databaseUrl ?? "";
  expect(await load.audit(databaseUrl)).toEqual([]);
  expect(await subscriber.all(databaseUrl, { stream: { redisUrl: redis.url } })).toEqual([]);
  expect(subscriber.received()).toBeGreaterThanOrEqual(load.acknowledged());
  expect(await service.stop()).toEqual({ code: 0, signal: null });
  expect(folder.processes()).toEqual([]);
});
