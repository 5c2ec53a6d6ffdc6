import { Redis } from "ioredis";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type RedisServer, redisOnPath, startRedisServer } from "../support/engines.ts";
import { percentile, rounds, short, type Witness, witness } from "../support/faults.ts";
import { isServed, type Load, type Outcome, startLoad } from "../support/load.ts";
import { type PostgresServer, startPostgresServer } from "../support/postgres-server.ts";
import { type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { startProxy, type TestProxy } from "../support/proxy.ts";
import { type RedisGate, redisGate } from "../support/redis-gate.ts";
import { send } from "../support/service.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

let postgresServer: PostgresServer;

beforeAll(async () => {
  postgresServer = await startPostgresServer();
});

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

afterAll(async () => {
  await postgresServer[Symbol.asyncDispose]();
});

/** How many requests a measurement takes. */
const sample = rounds(4_000, 300);

/** A comparison is made again when a busy machine has spoilt it. */
const attempts = rounds(3, 1);

/** The first of them arrives behind what the fault held back. */
const changesAfterwards = rounds(500, 50);

interface Scene {
  readonly service: ServiceProcess;
  readonly databaseUrl: string;
  readonly gate: RedisGate;
  /** Between the gate and Redis. */
  readonly proxy: TestProxy;
  readonly redis: RedisServer;
  readonly subscriber: Witness;
  readonly load: Load;
  /** Tells Redis what to do, by the back door. */
  command(...words: string[]): Promise<unknown>;
}

interface Fault {
  readonly what: string;
  begin(at: Scene): Promise<unknown>;
  /** @returns the Redis from now on, if it is another one */
  end(at: Scene): Promise<unknown>;
  /** What ready says of Redis meanwhile; a Redis that refuses to write may answer all the same. */
  readonly says?: "up" | "down";
  /** The service has it from the start. */
  readonly fromStart?: boolean;
  /** Events reach subscribers all the same, later than usual. */
  readonly delivers?: boolean;
}

const deadPort = "1";

const faults: Fault[] = [
  {
    what: "absent at start",
    begin: ({ gate }) => gate.close(),
    end: ({ gate, proxy }) => gate.open(urlOf(proxy)),
    says: "down",
    fromStart: true,
  },
  {
    what: "frozen",
    begin: async ({ redis }) => redis.process.kill("SIGSTOP"),
    end: async ({ redis }) => redis.process.kill("SIGCONT"),
    says: "down",
  },
  {
    what: "slow by 200 ms",
    begin: async ({ proxy }) => proxy.delay(100),
    end: async ({ proxy }) => proxy.delay(0),
    says: "up",
    delivers: true,
  },
  {
    what: "with another password",
    async begin({ command }) {
      await command("config", "set", "requirepass", "changed");
      await command("client", "kill", "type", "normal");
    },
    end: ({ command }) => command("config", "set", "requirepass", ""),
    says: "down",
  },
  {
    what: "read-only",
    begin: ({ command }) => command("replicaof", "127.0.0.1", deadPort),
    end: ({ command }) => command("replicaof", "no", "one"),
  },
  {
    what: "out of memory",
    async begin({ command }) {
      await command("config", "set", "maxmemory-policy", "noeviction");
      await command("config", "set", "maxmemory", "1mb");
    },
    end: ({ command }) => command("config", "set", "maxmemory", "0"),
  },
];

function urlOf(proxy: TestProxy): string {
  return `redis://127.0.0.1:${proxy.port}`;
}

async function redisOfItsOwn(): Promise<RedisServer> {
  const redis = await startRedisServer();
  undo.push(() => redis.stop());
  return redis;
}

async function databaseOfItsOwn(): Promise<string> {
  const name = `fault_${Math.random().toString(36).slice(2)}`;
  const admin = postgres(postgresServer.url, { max: 1, onnotice: () => {} });
  await admin.unsafe(`create database ${name}`);
  await admin.end();
  const url = new URL(postgresServer.url);
  url.pathname = name;
  return url.href;
}

/** A service whose Redis is behind a gate, and a slow network behind that. */
async function scene({ open }: { readonly open: boolean }): Promise<Scene> {
  const redis = await redisOfItsOwn();
  const proxy = await startProxy({ host: "127.0.0.1", port: Number(new URL(redis.url).port) });
  undo.push(() => proxy[Symbol.asyncDispose]());
  const gate = await redisGate();
  undo.push(() => gate[Symbol.asyncDispose]());
  if (open) await gate.open(urlOf(proxy));
  const subscriber = await witness(redis.url);
  undo.push(() => subscriber[Symbol.asyncDispose]());
  const control = new Redis(redis.url, { retryStrategy: () => null });
  control.on("error", () => {});
  undo.push(() => control.disconnect());
  const databaseUrl = await databaseOfItsOwn();
  const service = await startServiceProcess({ settings: { DATABASE_URL: databaseUrl, REDIS_URL: gate.url } });
  undo.push(() => service.stop());
  const load = startLoad({ url: service.url, clients: 16, pauseMs: 10, purges: true });
  undo.push(() => load.stop());
  const command = ([name = "", ...words]: string[]) => control.call(name, ...words);
  return { service, databaseUrl, gate, proxy, redis, subscriber, load, command: (...words) => command(words) };
}

async function expectReady({ service }: Scene, redis: "up" | "down"): Promise<void> {
  const expected = String([200, redis === "up" ? "ok" : "degraded", redis]);
  const ready = async () => {
    const { status, body } = await send(`${service.url}/health/ready`, "GET");
    return String([status, body.status, body.redis]);
  };
  await until(async () => (await ready()) === expected, `ready to say ${expected}`, { withinMs: 4_000 });
}

/** Some requests are made, and none is refused. */
async function requests({ load }: Scene, count: number): Promise<Outcome[]> {
  const { length } = load.outcomes;
  await until(() => load.outcomes.length >= length + count, `${count} requests`, { withinMs: 120_000 });
  const outcomes = load.outcomes.slice(length, length + count);
  expect(outcomes.filter((outcome) => !isServed(outcome))).toEqual([]);
  return outcomes;
}

async function expectCaughtUp({ load, subscriber }: Scene): Promise<void> {
  const by = load.acknowledged() + changesAfterwards;
  await until(() => subscriber.received() >= by, "the relay to catch up", { withinMs: 60_000 });
}

/** The same load with the fault and without it, one after the other. */
async function compare(at: Scene, { begin, end, says, fromStart, delivers }: Fault, attempt: number) {
  if (fromStart !== true || attempt > 1) {
    await begin(at);
  }
  if (says !== undefined) await expectReady(at, says);
  const [received, acknowledged] = [at.subscriber.received(), at.load.acknowledged()];
  const faulty = await requests(at, sample);
  if (delivers !== true) {
    const came = at.subscriber.received() - received;
    expect(came, "the fault holds events back").toBeLessThan((at.load.acknowledged() - acknowledged) / 2);
  }
  await end(at);
  await expectReady(at, "up");
  await expectCaughtUp(at);
  const calm = await requests(at, sample);
  return { faulty: percentile(faulty, 0.99), calm: percentile(calm, 0.99) };
}

/** What took its usual time may take a quarter more; the short form's few requests tell only what waited for Redis. */
function isUsual({ faulty, calm }: { readonly faulty: number; readonly calm: number }): boolean {
  return faulty <= (short ? calm * 2.5 + 100 : calm * 1.25);
}

async function expectAllPublished(at: Scene, { forgot = false, redisUrl = at.redis.url } = {}): Promise<void> {
  await at.load.stop();
  expect(at.load.wrong).toEqual([]);
  expect(await at.load.audit(at.databaseUrl)).toEqual([]);
  expect(await at.subscriber.all(at.databaseUrl, { stream: { redisUrl, forgot } })).toEqual([]);
}

async function expectUsualSpeed(at: Scene, fault: Fault): Promise<void> {
  const figures: { faulty: number; calm: number }[] = [];
  while (!figures.some(isUsual) && figures.length < attempts) {
    figures.push(await compare(at, fault, figures.length + 1));
  }
  const told = figures.map(({ faulty, calm }) => `${faulty.toFixed(1)} ms, without ${calm.toFixed(1)} ms`).join("; ");
  console.log(`Redis ${fault.what}: p99 ${told}`);
  expect(figures.some(isUsual), `p99 with the fault ${told}`).toBe(true);
}

describe.skipIf(redisOnPath() === undefined)("Redis", () => {
  it.each(faults.map((fault) => [fault.what, fault] as const))(
    "%s: everything works at its usual speed, and all is published in order afterwards",
    async (_, fault) => {
      const at = await scene({ open: fault.fromStart !== true });
      await requests(at, sample / 4);
      await expectUsualSpeed(at, fault);
      await expectAllPublished(at);
    },
  );

  it("killed: everything works at its usual speed, ready says degraded, and all is published in order by its successor", async () => {
    const at = await scene({ open: true });
    let redis = at.redis;
    await requests(at, sample / 4);
    await expectUsualSpeed(at, {
      what: "killed",
      says: "down",
      async begin({ gate, subscriber }) {
        await gate.close();
        // What it has taken reaches its subscribers; what it has not is for the next one.
        await subscriber.settle();
        await redis.stop();
      },
      async end({ gate, subscriber }) {
        redis = await redisOfItsOwn();
        await subscriber.listen(redis.url);
        await gate.open(redis.url);
      },
    });
    await expectAllPublished(at, { redisUrl: redis.url, forgot: true });
  });
});
