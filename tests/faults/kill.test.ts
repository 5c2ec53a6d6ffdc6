import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { startOwnRedis } from "../support/engines.ts";
import { rounds, type Witness, witness } from "../support/faults.ts";
import { type Load, startLoad } from "../support/load.ts";
import { startPostgresServer } from "../support/postgres-server.ts";
import { type DataFolder, dataFolder, type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const times = rounds(25, 2);

async function start(settings: Record<string, string>): Promise<ServiceProcess> {
  const service = await startServiceProcess({ settings });
  undo.push(() => service.stop());
  return service;
}

function folderOfItsOwn(): DataFolder {
  const folder = dataFolder();
  undo.push(() => folder[Symbol.dispose]());
  return folder;
}

/** At a random moment while requests run. */
async function kill(service: ServiceProcess, load: Load): Promise<void> {
  const by = load.acknowledged() + 1 + Math.floor(Math.random() * 300);
  await until(() => load.acknowledged() >= by, "changes to be acknowledged", { everyMs: 1 });
  await sleep(Math.random() * 10);
  service.kill("SIGKILL");
  expect(await service.exited).toEqual({ code: null, signal: "SIGKILL" });
}

/** It may be the turn of the one before it for some seconds yet. */
async function isPublishing(subscriber: Witness): Promise<void> {
  const { length } = subscriber.deliveries;
  await until(() => subscriber.deliveries.length > length, "events to be published");
}

/** Kills the service again and again under load, and looks at what is left. */
async function killOften(settings: Record<string, string>, databaseUrl: string | undefined, folder?: DataFolder) {
  const redis = await startOwnRedis();
  undo.push(() => redis.stop());
  const subscriber = await witness(redis.url);
  undo.push(() => subscriber[Symbol.asyncDispose]());
  let service = await start({ ...settings, REDIS_URL: redis.url });
  const load = startLoad({ url: service.url, clients: 24, purges: true });
  undo.push(() => load.stop());
  for (let time = 1; time <= times; time++) {
    if (folder !== undefined) expect(folder.processes(), "the database runs while the service does").not.toEqual([]);
    if (time % 2 === 1) await isPublishing(subscriber);
    await kill(service, load);
    const areGone = () => folder === undefined || folder.processes().length === 0;
    await until(areGone, "the database's processes to be gone", { withinMs: 15_000 });
    service = await start({ ...settings, REDIS_URL: redis.url });
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
  const url = databaseUrl ?? service.databaseUrl ?? "";
  expect(await load.audit(url)).toEqual([]);
  expect(await subscriber.all(url, { stream: { redisUrl: redis.url } })).toEqual([]);
  expect(subscriber.received()).toBeGreaterThanOrEqual(load.acknowledged());
  expect(await service.stop()).toEqual({ code: 0, signal: null });
}

describe(`kill -9 at ${times} random moments under load: every acknowledged change has one event and reaches Redis, and nothing else does`, () => {
  it("with the embedded database, which goes with the service, and of which no process stays", async () => {
    const folder = folderOfItsOwn();
    await killOften({ DATA_DIR: folder.path }, undefined, folder);
    expect(folder.processes()).toEqual([]);
  });

  it("with a database that lives on, and keeps what was ticked off", async () => {
    const database = await startPostgresServer();
    undo.push(() => database[Symbol.asyncDispose]());
    await killOften({ DATABASE_URL: database.url }, database.url);
  });
});
