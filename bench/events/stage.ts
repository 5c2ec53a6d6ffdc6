/** What every measurement of events stands on: one PostgreSQL, one Redis, services on them, and subscribers. */

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import postgres from "postgres";
import { Agent, request } from "undici";
import { type Engine, startOwnRedis } from "../../tests/support/engines.ts";
import { startPostgresServer } from "../../tests/support/postgres-server.ts";
import { type ServiceProcess, startServiceProcess } from "../../tests/support/process.ts";
import { until } from "../../tests/support/until.ts";
import { newSession, processorMs } from "../load.ts";

export interface Stage extends AsyncDisposable {
  readonly redisUrl: string;
  /** Of every process of PostgreSQL. */
  databasePids(): number[];
  /** A service on a database of its own, ended with the stage. */
  serve(settings?: Readonly<Record<string, string>>): Promise<StagedService>;
}

export interface StagedService {
  readonly url: string;
  readonly pid: number;
  readonly databaseUrl: string;
  stderr(): string;
  stop(): Promise<void>;
}

export async function openStage(): Promise<Stage> {
  const server = await startPostgresServer();
  const redis: Engine = await startOwnRedis();
  const services: ServiceProcess[] = [];
  return {
    redisUrl: redis.url,
    databasePids: () => server.processes().map(({ pid }) => pid),
    async serve(settings = {}) {
      const databaseUrl = await createDatabase(server.url);
      const service = await startServiceProcess({
        settings: { DATABASE_URL: databaseUrl, REDIS_URL: redis.url, ...settings },
      });
      services.push(service);
      return {
        url: service.url,
        pid: service.pid,
        databaseUrl,
        stderr: () => service.stderr(),
        async stop() {
          await service.stop();
        },
      };
    },
    async [Symbol.asyncDispose]() {
      for (const service of services) await service.stop();
      await redis.stop();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function createDatabase(serverUrl: string): Promise<string> {
  const name = `bench_${randomBytes(6).toString("hex")}`;
  const sql = postgres(serverUrl, { max: 1, onnotice: () => {} });
  await sql.unsafe(`create database ${name} encoding 'UTF8' template template0`);
  await sql.end();
  const url = new URL(serverUrl);
  url.pathname = name;
  return url.href;
}

/** How many events there are. */
export async function countEvents(databaseUrl: string): Promise<number> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  const [row] = await sql<{ count: number }[]>`select count(*)::int as count from events`;
  await sql.end();
  return row?.count ?? 0;
}

export interface Arrival {
  readonly at: number;
  readonly message: string;
}

export interface Subscriber extends AsyncDisposable {
  /** Everything received, unread as yet: reading costs time. */
  readonly arrivals: Arrival[];
  /** Waits for as many messages. */
  has(count: number, withinMs?: number): Promise<void>;
}

export async function subscriber(redisUrl: string, channel = "events:session"): Promise<Subscriber> {
  const redis = new Redis(redisUrl);
  const arrivals: Arrival[] = [];
  redis.on("message", (_, message) => arrivals.push({ at: performance.now(), message }));
  await redis.subscribe(channel);
  return {
    arrivals,
    has: (count, withinMs = 120_000) =>
      until(() => arrivals.length >= count, `${count} events to arrive`, { withinMs, everyMs: 5 }),
    async [Symbol.asyncDispose]() {
      redis.disconnect();
    },
  };
}

export interface Written {
  readonly id: string;
  readonly version: number;
  readonly askedAt: number;
  readonly answeredAt: number;
}

export interface Client extends AsyncDisposable {
  create(agentId: string): Promise<Written>;
  /** A new checkpoint: always a change. */
  change(id: string): Promise<Written>;
  /** Gives the milliseconds that it took. */
  read(id: string): Promise<number>;
}

let checkpoints = 0;

/** Requests on kept connections; anything but 200 or 201 is thrown. */
export function client(url: string): Client {
  const dispatcher = new Agent({ connections: 64 });
  const write = async (method: "POST" | "PATCH", path: string, body: object): Promise<Written> => {
    const askedAt = performance.now();
    const headers = { "content-type": "application/json" };
    const answer = await request(`${url}${path}`, { method, dispatcher, headers, body: JSON.stringify(body) });
    const text = await answer.body.text();
    const answeredAt = performance.now();
    if (answer.statusCode >= 300) throw new Error(`${method} ${path} answered ${answer.statusCode}: ${text}`);
    const { id, version } = JSON.parse(text) as { id: string; version: number };
    return { id, version, askedAt, answeredAt };
  };
  return {
    create: (agentId) => write("POST", "/sessions/", newSession(agentId)),
    change: (id) => write("PATCH", `/sessions/${id}`, { checkpoint: { step: ++checkpoints } }),
    async read(id) {
      const askedAt = performance.now();
      const answer = await request(`${url}/sessions/${id}`, { dispatcher });
      await answer.body.text();
      if (answer.statusCode !== 200) throw new Error(`GET answered ${answer.statusCode}`);
      return performance.now() - askedAt;
    },
    async [Symbol.asyncDispose]() {
      await dispatcher.destroy();
    },
  };
}

/** Acts so often a second, whether or not the one before has ended, until it is told to stop; waits for all of them. */
export async function paced(perSecond: number, act: () => Promise<unknown>, isOver: () => boolean): Promise<void> {
  const began = performance.now();
  const failures: unknown[] = [];
  const running = new Set<Promise<unknown>>();
  for (let count = 0; !isOver() && failures.length === 0; await sleep(1)) {
    const due = ((performance.now() - began) * perSecond) / 1_000;
    for (; count < due; count++) {
      const one = act()
        .catch((error: unknown) => failures.push(error))
        .finally(() => running.delete(one));
      running.add(one);
    }
  }
  await Promise.all(running);
  if (failures.length > 0) throw failures[0];
}

/** Gives how many microseconds of processor time the processes have used since. */
export function usage(pids: readonly number[]): () => number {
  const before = processorMs(pids);
  return () => [...processorMs(pids)].reduce((sum, [pid, ms]) => sum + (ms - (before.get(pid) ?? ms)) * 1_000, 0);
}

/** True once so much time has passed. */
export function after(seconds: number): () => boolean {
  const end = performance.now() + seconds * 1_000;
  return () => performance.now() >= end;
}
