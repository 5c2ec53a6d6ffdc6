import { once } from "node:events";
import { request } from "node:http";
import postgres from "postgres";
import { afterEach, expect, it } from "vitest";
import { startOwnRedis } from "../support/engines.ts";
import {
  type DataFolder,
  dataFolder,
  quietPort,
  type ServiceProcess,
  startServiceProcess,
} from "../support/process.ts";
import { startProxy, through } from "../support/proxy.ts";
import { agentId, send } from "../support/service.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

interface Scene {
  readonly folder: DataFolder;
  readonly service: ServiceProcess;
}

async function scene(settings: Record<string, string> = {}): Promise<Scene> {
  const folder = dataFolder();
  undo.push(() => folder[Symbol.dispose]());
  const service = await startServiceProcess({ settings: { DATA_DIR: folder.path, ...settings } });
  undo.push(() => service.stop());
  return { folder, service };
}

interface Held {
  /** A change that waits for its row, which somebody else has locked. */
  readonly change: Promise<{ status: number; connection: string | null }>;
  release(): Promise<void>;
}

/** A request in flight for as long as the test likes. */
async function hold(service: ServiceProcess): Promise<Held> {
  const created = await send(`${service.url}/sessions/`, "POST", { agent_id: agentId });
  const { id } = created.body;
  const sql = postgres(service.databaseUrl ?? "", { max: 2, onnotice: () => {} });
  undo.push(() => sql.end({ timeout: 1 }).catch(() => {}));
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  let locked = () => {};
  const isLocked = new Promise<void>((resolve) => {
    locked = resolve;
  });
  const holding = sql.begin(async (holder) => {
    await holder`select 1 from sessions where id = ${id} for update`;
    locked();
    await released;
  });
  await isLocked;
  const change = send(`${service.url}/sessions/${id}`, "PATCH", { context: { waited: true } }).then((answer) => ({
    status: answer.status,
    connection: answer.headers.get("connection"),
  }));
  change.catch(() => {});
  await until(async () => {
    const waiting = await sql`select 1 from pg_stat_activity where wait_event_type = 'Lock'`;
    return waiting.length === 1;
  }, "the change to wait for its row");
  return {
    change,
    async release() {
      release();
      await holding;
      // Else the embedded database would have a client left to wait for.
      await sql.end({ timeout: 1 });
    },
  };
}

/** A request that the service has begun to read, and whose body is still on its way. */
async function trickle(url: string): Promise<{ finish(): Promise<number> }> {
  const body = JSON.stringify({ agent_id: agentId });
  const headers = { "content-length": Buffer.byteLength(body), expect: "100-continue" };
  const sent = request(`${url}/sessions/`, { method: "POST", headers });
  const status = new Promise<number>((resolve, reject) => {
    sent.once("response", (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.once("error", reject);
  });
  status.catch(() => {});
  sent.flushHeaders();
  await once(sent, "continue");
  sent.write(body.slice(0, 10));
  return {
    finish() {
      sent.end(body.slice(10));
      return status;
    },
  };
}

async function readiness({ url }: ServiceProcess): Promise<number | undefined> {
  return send(`${url}/health/ready`, "GET").then(
    ({ status }) => status,
    () => undefined,
  );
}

it("SIGINT with requests in flight: they finish, all is over in less than 5 s, and no process stays", async () => {
  const { folder, service } = await scene();
  const held = await hold(service);
  const trickled = await trickle(service.url);
  expect(folder.processes()).not.toEqual([]);
  const began = performance.now();
  service.kill("SIGINT");
  await until(async () => (await readiness(service)) === undefined, "new connections to be refused", {
    withinMs: 1_000,
  });
  await held.release();
  expect(await held.change).toEqual({ status: 200, connection: "close" });
  expect(await trickled.finish()).toBe(201);
  expect(await service.exited).toEqual({ code: 0, signal: null });
  expect(performance.now() - began).toBeLessThan(5_000);
  expect(folder.processes()).toEqual([]);
});

it("SIGINT with a request that never ends: cut off, and all is over in less than 5 s", async () => {
  const { folder, service } = await scene();
  await trickle(service.url);
  const began = performance.now();
  service.kill("SIGINT");
  expect(await service.exited).toEqual({ code: 0, signal: null });
  expect(performance.now() - began).toBeLessThan(5_000);
  expect(folder.processes()).toEqual([]);
});

it("SIGTERM: ready turns 503 while requests are still served, those in flight finish, and the exit code is 0", async () => {
  const { folder, service } = await scene({ STOP_DELAY_MS: "1000" });
  const held = await hold(service);
  expect(await readiness(service)).toBe(200);
  service.kill("SIGTERM");
  await until(async () => (await readiness(service)) === 503, "ready to turn 503", { withinMs: 900 });
  const late = await send(`${service.url}/sessions/`, "POST", { agent_id: agentId });
  expect([late.status, late.headers.get("connection")]).toEqual([201, "close"]);
  await until(async () => (await readiness(service)) === undefined, "new connections to be refused", {
    withinMs: 2_000,
  });
  await held.release();
  expect(await held.change).toEqual({ status: 200, connection: "close" });
  expect(await service.exited).toEqual({ code: 0, signal: null });
  expect(folder.processes()).toEqual([]);
});

it("SIGTERM while Redis hangs: load balancers that ask for readiness are told at once", async () => {
  const redis = await startOwnRedis();
  undo.push(() => redis.stop());
  const proxy = await startProxy({ host: "127.0.0.1", port: Number(new URL(redis.url).port) });
  undo.push(() => proxy[Symbol.asyncDispose]());
  const { service } = await scene({ STOP_DELAY_MS: "3000", REDIS_URL: through(proxy, redis.url) });
  proxy.freeze();
  expect(await readiness(service)).toBe(200);
  service.kill("SIGTERM");
  await until(
    async () => {
      const askedAt = performance.now();
      return (await readiness(service)) === 503 && performance.now() - askedAt < 300;
    },
    "an answer of 503 within 300 ms",
    { withinMs: 2_500 },
  );
  expect(await service.exited).toEqual({ code: 0, signal: null });
});

it("SIGINT with nothing in flight ends at once; the next start takes less than 1 s, and has what was there", async () => {
  const { folder, service } = await scene();
  const created = await send(`${service.url}/sessions/`, "POST", { agent_id: agentId });
  const stopping = performance.now();
  service.kill("SIGINT");
  expect(await service.exited).toEqual({ code: 0, signal: null });
  expect(performance.now() - stopping).toBeLessThan(2_000);
  expect(folder.processes()).toEqual([]);
  // The port is bound just before the engines are started, and liveness answers from then on.
  const port = await quietPort();
  const starting = startServiceProcess({ settings: { DATA_DIR: folder.path, PORT: String(port) } });
  undo.push(async () => (await starting).stop());
  await until(
    () =>
      send(`http://127.0.0.1:${port}/health/live`, "GET").then(
        ({ status }) => status === 200,
        () => false,
      ),
    "the port to be bound",
    { everyMs: 2 },
  );
  const began = performance.now();
  const next = await starting;
  expect(performance.now() - began).toBeLessThan(1_000);
  const read = await send(`${next.url}/sessions/${created.body.id}`, "GET");
  expect([read.status, read.body]).toEqual([200, created.body]);
});
