import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import postgres from "postgres";
import { afterEach, describe, expect, it } from "vitest";
import { type RedisServer, redisOnPath, startRedisServer } from "../support/engines.ts";
import { percentile, rounds, short, witness } from "../support/faults.ts";
import { isServed, startLoad } from "../support/load.ts";
import { dataFolder, type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { redisGate } from "../support/redis-gate.ts";
import { agentId, send } from "../support/service.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

/** How many events wait: half of them changes, half reports. */
const backlog = rounds(100_000, 8_000);

/** What a service has seen that has worked for a while. */
const warmUp = rounds(12_000, 4_000);

/** The whole backlog would take some 100 MB, if it were kept; the short one is too small to tell. */
const growthMb = 60;

/** What is promised is 5,000 events/s; the short form runs beside other things. */
const leastRate = short ? 1_500 : 5_000;

async function scene() {
  const folder = dataFolder();
  undo.push(() => folder[Symbol.dispose]());
  const gate = await redisGate();
  undo.push(() => gate[Symbol.asyncDispose]());
  const redis: RedisServer = await startRedisServer();
  undo.push(() => redis.stop());
  const subscriber = await witness(redis.url);
  undo.push(() => subscriber[Symbol.asyncDispose]());
  const service = await startServiceProcess({ settings: { DATA_DIR: folder.path, REDIS_URL: gate.url } });
  undo.push(() => service.stop());
  const sql = postgres(service.databaseUrl ?? "", { max: 1, onnotice: () => {} });
  undo.push(() => sql.end({ timeout: 1 }));
  return { service, gate, redis, subscriber, sql, databaseUrl: service.databaseUrl ?? "" };
}

function memoryMb({ pid }: ServiceProcess): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kilobytes) / 1024;
}

/** Sessions that another process created: a change each. */
async function createMany(sql: postgres.Sql, count: number): Promise<void> {
  await sql`
    with created as (
      insert into sessions (id, agent_id, last_sequence, created_at, updated_at, last_activity_at, phase_since)
      select gen_random_uuid(), ${randomUUID()}, 1, now(), now(), now(), now() from generate_series(1, ${count}::int)
      returning *
    )
    insert into events (event_id, session_id, sequence, session_version, event_type, payload, metadata, created_at)
    select gen_random_uuid(), id, 1, 1, 'session.created', jsonb_build_object('agent_id', agent_id, 'phase', phase,
      'session_type', session_type, 'runtime_backend', runtime_backend),
      jsonb_build_object('request_id', repeat('x', 300)), now()
    from created`;
}

async function reportMany({ url }: ServiceProcess, count: number): Promise<void> {
  const { body } = await send(`${url}/sessions/`, "POST", { agent_id: agentId });
  const event = { event_type: "terminal", payload: { command: "make", output: "x".repeat(300) } };
  for (let left = count; left > 0; left -= 500) {
    const events = Array.from({ length: Math.min(left, 500) }, () => event);
    const answer = await send(`${url}/sessions/${body.id}/events`, "POST", events);
    expect(answer.status).toBe(201);
  }
}

/** The feed has seen everything there is, although Redis has seen nothing. */
async function settled(sql: postgres.Sql): Promise<void> {
  await until(
    async () => {
      const [row] = await sql<{ done: boolean }[]>`
        select settled >= (select max(position) from events) as done from relays where name = 'redis'`;
      return row?.done === true;
    },
    "the feed to have seen everything",
    { withinMs: 60_000, everyMs: 50 },
  );
}

describe.skipIf(redisOnPath() === undefined)("Redis away for long", () => {
  it("nothing grows in memory; when it is back the backlog drains, in order, and requests are served meanwhile", async () => {
    const { service, gate, redis, subscriber, sql, databaseUrl } = await scene();
    await reportMany(service, warmUp / 2);
    await createMany(sql, warmUp / 2);
    await settled(sql);
    // Garbage comes and goes: what stays is the least of several looks.
    const looks = [memoryMb(service)];
    for (let part = 0; part < 10; part++) {
      await reportMany(service, backlog / 20);
      await createMany(sql, backlog / 20);
      looks.push(memoryMb(service));
    }
    await settled(sql);
    const before = Math.min(...looks.slice(0, 3));
    const grown = Math.min(...looks.slice(-4)) - before;

    const load = startLoad({ url: service.url, clients: 8, pauseMs: 20 });
    undo.push(() => load.stop());
    await until(() => load.outcomes.length >= 300, "requests without Redis", { withinMs: 60_000 });
    const usual = load.outcomes.slice(0, 300);
    const [count] = await sql<{ number: number }[]>`select count(*)::int as number from events`;
    const waiting = count?.number ?? 0;
    const began = performance.now();
    const { length } = load.outcomes;
    await gate.open(redis.url);
    await until(() => subscriber.events() >= waiting, "the backlog to drain", { withinMs: 120_000 });
    const seconds = (performance.now() - began) / 1_000;
    await until(() => load.outcomes.length >= length + 100, "requests while it drained");
    const during = load.outcomes.slice(length);
    await load.stop();

    const [usualP99, duringP99] = [percentile(usual, 0.99), percentile(during, 0.99)];
    const rate = waiting / seconds;
    console.log(
      `Redis away for ${waiting} events: ${before.toFixed(0)} MB and ${grown.toFixed(0)} more; drained at ` +
        `${rate.toFixed(0)} events/s; p99 of requests ${duringP99.toFixed(1)} ms meanwhile, ${usualP99.toFixed(1)} before`,
    );
    expect(grown, "megabytes more").toBeLessThan(growthMb);
    expect(rate, "events/s").toBeGreaterThan(leastRate);
    expect(load.outcomes.filter((outcome) => !isServed(outcome))).toEqual([]);
    expect(duringP99, `milliseconds; before: ${usualP99}`).toBeLessThan(usualP99 * 4 + 250);
    expect(load.wrong).toEqual([]);
    expect(await load.audit(databaseUrl)).toEqual([]);
    expect(await subscriber.all(databaseUrl, { stream: { redisUrl: redis.url } })).toEqual([]);
  });
});
