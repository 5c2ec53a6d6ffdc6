/** The checker by hand, on what a real service leaves behind. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { startOwnRedis } from "../support/engines.ts";
import { witness } from "../support/faults.ts";
import { startLoad } from "../support/load.ts";
import { startTestService } from "../support/service.ts";
import { until } from "../support/until.ts";
import { changesChannel, sessionPattern } from "./evidence.ts";
import { logText } from "./read.ts";

const program = fileURLToPath(new URL("./cli.ts", import.meta.url));

function run(...words: string[]): { readonly code: number | null; readonly output: string } {
  const done = spawnSync(process.execPath, ["--import", "tsx", program, ...words], { encoding: "utf8" });
  return { code: done.status, output: done.stdout + done.stderr };
}

it("says nothing but what it has looked at, and each violation once there is one", async () => {
  const redis = await startOwnRedis();
  const folder = mkdtempSync(join(tmpdir(), "session-checker-"));
  const subscriber = await witness(redis.url);
  const service = await startTestService({ REDIS_URL: redis.url });
  try {
    const load = startLoad({ url: service.url, clients: 4, purges: true });
    await until(() => load.acknowledged() >= 200, "200 changes");
    await load.stop();
    expect(await subscriber.all(service.database.url, { stream: { redisUrl: redis.url } })).toEqual([]);
    const log = join(folder, "deliveries.ndjson");
    const subscribed = new Set([changesChannel, sessionPattern]);
    writeFileSync(log, logText({ subscribed, deliveries: subscriber.deliveries }));
    const sound = run("--database-url", service.database.url, "--log", log, "--redis-url", redis.url);
    expect(sound.output).toMatch(/^0 violations in \d+ events of \d+ sessions, \d+ deliveries and \d+ entries/);
    expect(sound.code).toBe(0);

    const [removed] = await service.database.sql<{ id: string }[]>`
      delete from events where position = (select min(position) from events where event_type = 'session.updated')
      returning session_id as id`;
    const damaged = run("--database-url", service.database.url, "--log", log);
    expect(damaged.output).toContain(`${removed?.id}: the history goes from `);
    expect(damaged.output).toMatch(
      /events:session: event \d+ of \S+ came with id \S+, which the history does not have/,
    );
    expect(damaged.code).toBe(1);
    expect(run().output).toContain("--database-url says where the history is");
  } finally {
    await service.stop();
    await subscriber[Symbol.asyncDispose]();
    await redis.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});
