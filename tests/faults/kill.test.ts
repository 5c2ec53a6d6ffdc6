import { afterEach, expect, it } from "vitest";
import { type RedisServer, redisOnPath, startRedisServer } from "../support/engines.ts";
import { rounds, type Witness, witness } from "../support/faults.ts";
import { type Load, startLoad } from "../support/load.ts";
import { type DataFolder, dataFolder, type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const times = rounds(20, 3);
const acknowledgedARound = 300;

async function start(folder: DataFolder, settings: Record<string, string> = {}): Promise<ServiceProcess> {
  const service = await startServiceProcess({ settings: { DATA_DIR: folder.path, ...settings } });
  undo.push(() => service.stop());
  return service;
}

function folderOfItsOwn(): DataFolder {
  const folder = dataFolder();
  undo.push(() => folder[Symbol.dispose]());
  return folder;
}

function loadOn(service: ServiceProcess): Load {
  const load = startLoad({ url: service.url, clients: 24 });
  undo.push(() => load.stop());
  return load;
}

/** Kills the service while requests run, and starts it again on the same folder. */
async function killUnderLoad(
  service: ServiceProcess,
  folder: DataFolder,
  load: Load,
  settings = {},
): Promise<ServiceProcess> {
  const before = load.acknowledged();
  await until(() => load.acknowledged() >= before + acknowledgedARound, `${acknowledgedARound} acknowledged changes`);
  expect(folder.processes(), "the database runs while the service does").not.toEqual([]);
  service.kill("SIGKILL");
  expect(await service.exited).toEqual({ code: null, signal: "SIGKILL" });
  await until(() => folder.processes().length === 0, "the database's processes to be gone", { withinMs: 15_000 });
  const next = await start(folder, settings);
  load.url = next.url;
  return next;
}

it(`kill -9 under load, ${times} times: nothing acknowledged is lost, every change has its event, no process stays`, async () => {
  const folder = folderOfItsOwn();
  let service = await start(folder);
  const load = loadOn(service);
  for (let time = 1; time <= times; time++) {
    service = await killUnderLoad(service, folder, load);
    expect(load.wrong).toEqual([]);
  }
  await load.stop();
  expect(load.acknowledged()).toBeGreaterThanOrEqual(times * acknowledgedARound);
  expect(
    load.outcomes.some(({ status }) => status === undefined),
    "requests were under way when it was killed",
  ).toBe(true);
  expect(await load.audit(service.databaseUrl ?? "")).toEqual([]);
  expect(await service.stop()).toEqual({ code: 0, signal: null });
  expect(folder.processes()).toEqual([]);
});

it.skipIf(redisOnPath() === undefined)(
  `kill -9 under load, ${times} times: a subscriber receives every event at least once, in order for each session`,
  async () => {
    const folder = folderOfItsOwn();
    const redis: RedisServer = await startRedisServer();
    undo.push(() => redis.stop());
    const subscriber: Witness = await witness(redis.url);
    undo.push(() => subscriber[Symbol.asyncDispose]());
    const settings = { REDIS_URL: redis.url };
    let service = await start(folder, settings);
    const load = loadOn(service);
    for (let time = 1; time <= times; time++) {
      service = await killUnderLoad(service, folder, load, settings);
    }
    await load.stop();
    expect(load.wrong).toEqual([]);
    expect(await load.audit(service.databaseUrl ?? "")).toEqual([]);
    expect(await subscriber.all(service.databaseUrl ?? "")).toEqual([]);
    expect(subscriber.received()).toBeGreaterThanOrEqual(load.acknowledged());
  },
);
