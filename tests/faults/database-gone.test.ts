import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { rounds } from "../support/faults.ts";
import { startLoad } from "../support/load.ts";
import { type PostgresServer, startPostgresServer } from "../support/postgres-server.ts";
import { dataFolder, type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { type Answer, send } from "../support/service.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

let database: PostgresServer;

beforeAll(async () => {
  database = await startPostgresServer();
});

afterEach(async () => {
  // Whatever the test did to it: the next one finds it at work.
  database.thaw();
  await database.start();
  for (const step of undo.splice(0).reverse()) await step();
});

afterAll(async () => {
  await database[Symbol.asyncDispose]();
});

const poolSize = 10;
const agentId = randomUUID();

interface Scene {
  readonly service: ServiceProcess;
  readonly sql: postgres.Sql;
  readonly sessionId: string;
  call(method: string, path: string, body?: unknown): Promise<Answer & { readonly ms: number }>;
  create(agent?: string): Promise<Answer & { readonly ms: number }>;
}

async function scene(settings: Readonly<Record<string, string>> = {}): Promise<Scene> {
  const folder = dataFolder();
  undo.push(() => folder[Symbol.dispose]());
  const service = await startServiceProcess({
    settings: { DATABASE_URL: database.url, DATABASE_POOL_SIZE: String(poolSize), DATA_DIR: folder.path, ...settings },
  });
  undo.push(() => service.stop());
  const sql = postgres(database.url, { max: 12, onnotice: () => {}, backoff: () => 0.1 });
  undo.push(() => sql.end({ timeout: 1 }));
  const call: Scene["call"] = async (method, path, body) => {
    const began = performance.now();
    const answer = await send(`${service.url}${path}`, method, body);
    return { ...answer, ms: performance.now() - began };
  };
  const create: Scene["create"] = (agent = agentId) => call("POST", "/sessions/", { agent_id: agent });
  const created = await create();
  expect(created.status).toBe(201);
  return { service, sql, sessionId: created.body.id, call, create };
}

function calls({ call, create, sessionId }: Scene) {
  return [
    () => create(),
    () => call("GET", `/sessions/${sessionId}`),
    () => call("PATCH", `/sessions/${sessionId}`, { context: { while: "it was away" } }),
    () => call("GET", `/sessions/?agent_id=${agentId}`),
  ];
}

/** Every call is told within 3 s, however many there are; the health answers say what is the matter. */
async function expectUnavailable(at: Scene): Promise<void> {
  const [health, live, ready, ...answers] = await Promise.all([
    at.call("GET", "/health"),
    at.call("GET", "/health/live"),
    at.call("GET", "/health/ready"),
    ...Array.from({ length: 12 }, () => calls(at).map((call) => call())).flat(),
  ]);
  for (const answer of answers) {
    expect(answer.status).toBe(503);
    expect(answer.body.code).toBe("database_unavailable");
    expect(answer.headers.get("retry-after")).toMatch(/^\d+$/);
    expect(answer.ms).toBeLessThan(3_000);
  }
  expect([health.status, health.body.status, health.body.database]).toEqual([503, "unavailable", "down"]);
  expect([live.status, live.body.status]).toEqual([200, "ok"]);
  expect([ready.status, ready.body.status]).toEqual([503, "unavailable"]);
  for (const { ms } of [health, ready]) expect(ms).toBeLessThan(3_000);
  expect(live.ms).toBeLessThan(500);
}

/** Within 2 s every call is served, and with the whole pool. */
async function expectRecovery(at: Scene): Promise<void> {
  const back = performance.now();
  for (const call of calls(at)) {
    await until(async () => (await call()).status < 300, "the call to be served", { withinMs: 2_000 });
  }
  expect(performance.now() - back, "milliseconds until all is served").toBeLessThan(2_000);
  expect((await at.call("GET", "/health/ready")).status).toBe(200);
  await expectWholePool(at);
}

/**
 * Nine requests wait for locked rows, each on a connection of its own: the tenth serves a read at once. Of a kind three wait
 * so, however many there are.
 */
async function expectWholePool({ call, create, sql, service }: Scene): Promise<void> {
  const ids = await Promise.all(Array.from({ length: poolSize - 1 }, async () => (await create()).body.id as string));
  let waiting: Promise<Answer>[] = [];
  await sql.begin(async (holder) => {
    await holder`select 1 from sessions where id = any(${ids}) for update`;
    const kinds = [
      (id: string) => call("PATCH", `/sessions/${id}`, { context: { waited: true } }),
      (id: string) => call("POST", `/sessions/${id}/heartbeat`),
      (id: string) => call("POST", `/sessions/${id}/events`, { event_type: "waited" }),
    ];
    waiting = ids.flatMap((id, at) => kinds[at % kinds.length]?.(id) ?? []);
    await until(
      async () => {
        const [row] = await sql<{ number: number }[]>`
          select count(*)::int as number from pg_stat_activity
          where application_name = 'session-service' and wait_event_type = 'Lock'`;
        return row?.number === ids.length;
      },
      `${ids.length} requests to wait for their rows: the pool has shrunk`,
      { withinMs: 2_000 },
    );
    const read = await call("GET", `/sessions/${ids[0]}`);
    expect(read.status).toBe(200);
  });
  for (const answer of await Promise.all(waiting)) expect(answer.status).toBeLessThan(300);
  expect(service.hasExited()).toBe(false);
}

it("PostgreSQL stopped: each call is a 503 with Retry-After within 3 s, the process lives, and all works when it is back", async () => {
  const at = await scene();
  await database.stop("fast");
  await expectUnavailable(at);
  await database.start();
  await expectRecovery(at);
  expect((await at.call("GET", "/health")).body).toEqual({ status: "ok", database: "up", redis: "up" });
});

it("PostgreSQL gone, its connections open but dead: each call is a 503 within 3 s, and it recovers", async () => {
  const at = await scene();
  await Promise.all(Array.from({ length: poolSize * 3 }, () => at.create()));
  database.orphan();
  await expectUnavailable(at);
  expect(at.service.hasExited(), at.service.stderr()).toBe(false);
  database.thaw();
  await database.start();
  await expectRecovery(at);
});

describe("PostgreSQL frozen", () => {
  it("each call is a 503 with Retry-After within 3 s; when it thaws, all works within 2 s, and with the whole pool", async () => {
    const at = await scene();
    database.freeze();
    await expectUnavailable(at);
    database.thaw();
    await expectRecovery(at);
  });

  it("what was answered 503 is never carried out later, unless it was said that it may be", async () => {
    // Of those that travel together all are sent, and told of the doubt.
    const at = await scene({ COALESCE: "off" });
    const agent = randomUUID();
    const warm = await Promise.all(Array.from({ length: poolSize * 3 }, () => at.create(agent)));
    expect(warm.map(({ status }) => status)).toEqual(warm.map(() => 201));
    database.freeze();
    const answers = await Promise.all(Array.from({ length: 300 }, () => at.create(agent)));
    for (const { status, ms } of answers) {
      expect(status).toBe(503);
      expect(ms).toBeLessThan(3_000);
    }
    const doubtful = answers.filter(({ text }) => text.includes("may or may not"));
    expect(doubtful.length, "most wait for a connection").toBeLessThan(answers.length / 2);
    database.thaw();
    await expectRecovery(at);
    await until(async () => {
      const busy = await at.sql`
          select 1 from pg_stat_activity where application_name = 'session-service' and state <> 'idle' limit 1`;
      return busy.length === 0;
    }, "what was on its way to be done with");
    const [row] = await at.sql<{ number: number }[]>`
      select count(*)::int as number from sessions where agent_id = ${agent}`;
    expect(row?.number).toBeGreaterThanOrEqual(warm.length);
    expect(row?.number, "only what was told so may have been done").toBeLessThanOrEqual(warm.length + doubtful.length);
  });

  const times = rounds(12, 2);
  it(`again and again under load, for a moment or for long, ${times} times: the whole pool is there afterwards`, async () => {
    const at = await scene();
    const load = startLoad({ url: at.service.url, clients: 32, restMs: 5 });
    undo.push(() => load.stop());
    for (let time = 0; time < times; time++) {
      const before = load.acknowledged();
      await until(() => load.acknowledged() > before + 100, "changes to be acknowledged", { withinMs: 5_000 });
      database.freeze();
      // Shorter than a request's patience, about as long, longer.
      const frozenUntil = performance.now() + 2_300 + (time % 5) * 150;
      await until(() => performance.now() > frozenUntil, "the thaw");
      database.thaw();
    }
    const before = load.acknowledged();
    await until(() => load.acknowledged() > before + 100, "changes to be acknowledged", { withinMs: 2_000 });
    await load.stop();
    expect(load.wrong).toEqual([]);
    expect(at.service.hasExited(), at.service.stderr()).toBe(false);
    await expectRecovery(at);
    expect(await load.audit(database.url)).toEqual([]);
  });
});
