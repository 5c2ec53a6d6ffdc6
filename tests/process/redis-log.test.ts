import { createServer } from "node:net";
import { afterEach, expect, it } from "vitest";
import { createDatabase } from "../support/database.ts";
import { startOwnRedis } from "../support/engines.ts";
import { dataFolder, startServiceProcess } from "../support/process.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

/** Cuts off whoever connects, until so many have: the service has three connections, of which one tells. */
async function refused(port: number, times: number): Promise<void> {
  let count = 0;
  const server = createServer((socket) => {
    count++;
    socket.resetAndDestroy();
  });
  server.listen(port, "127.0.0.1");
  await until(() => count >= times, "several tries to connect");
  await new Promise((resolve) => server.close(resolve));
}

it("a Redis that is away is one line in the log, each time that it goes", async () => {
  const database = await createDatabase();
  undo.push(() => database.drop());
  const folder = dataFolder();
  undo.push(() => folder[Symbol.dispose]());
  const first = await startOwnRedis();
  const port = Number(new URL(first.url).port);
  let redis: typeof first | undefined = first;
  undo.push(() => redis?.stop());
  const service = await startServiceProcess({
    settings: { DATABASE_URL: database.url, REDIS_URL: first.url, DATA_DIR: folder.path, LOG_LEVEL: "warn" },
  });
  undo.push(() => service.stop());
  const lines = () => service.stderr().split("Redis is away").length - 1;
  const redisIs = async (health: string) =>
    ((await (await fetch(`${service.url}/health/ready`)).json()) as { redis: string }).redis === health;
  for (const time of [1, 2]) {
    await until(() => redisIs("up"), "Redis to be there");
    await redis?.stop();
    redis = undefined;
    await until(() => lines() === time, "a line about it");
    await refused(port, 12);
    expect(lines()).toBe(time);
    redis = await startOwnRedis({ port });
  }
}, 60_000);
