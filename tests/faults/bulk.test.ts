import postgres from "postgres";
import { afterEach, describe, expect, it } from "vitest";
import { startOwnRedis } from "../support/engines.ts";
import { rounds, witness } from "../support/faults.ts";
import { startPostgresServer } from "../support/postgres-server.ts";
import { type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { agentId, send } from "../support/service.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const kills = rounds(5, 1);
const count = rounds(10_000, 2_000);

async function stage() {
  const database = await startPostgresServer();
  undo.push(() => database[Symbol.asyncDispose]());
  const redis = await startOwnRedis();
  undo.push(() => redis.stop());
  const subscriber = await witness(redis.url);
  undo.push(() => subscriber[Symbol.asyncDispose]());
  const start = async () => {
    const service = await startServiceProcess({ settings: { DATABASE_URL: database.url, REDIS_URL: redis.url } });
    undo.push(() => service.stop());
    return service;
  };
  const first = await start();
  const sql = postgres(database.url, { max: 1, onnotice: () => {} });
  undo.push(() => sql.end({ timeout: 1 }));
  for (let made = 0; made < count; made += 1_000) {
    const sessions = Array.from({ length: 1_000 }, () => ({ agent_id: agentId }));
    expect((await send(`${first.url}/sessions/batch`, "POST", { sessions })).status).toBe(201);
  }
  return { first, start, sql, allArrived: () => subscriber.all(database.url, { stream: { redisUrl: redis.url } }) };
}

async function begin({ url }: ServiceProcess): Promise<string> {
  const asked = { filter: { all: true }, to: "paused" };
  const dry = await send(`${url}/sessions/bulk-transition`, "POST", { ...asked, dry_run: true });
  expect(dry.body).toMatchObject({ count });
  const begun = await send(`${url}/sessions/bulk-transition`, "POST", { ...asked, token: dry.body.token });
  expect(begun.status, begun.text).toBe(202);
  return begun.body.id;
}

/** Waits until the job has changed some more, or has ended; gives the process that is at it. */
async function progress(sql: postgres.Sql, more: number): Promise<string> {
  const read = async () => (await sql`select changed, holder, state from bulk_jobs`)[0];
  const from = Number((await read())?.["changed"]);
  const isDone = async () => {
    const row = await read();
    return Number(row?.["changed"]) >= from + more || row?.["state"] === "completed";
  };
  await until(isDone, "the job to go on", { withinMs: 20_000, everyMs: 2 });
  return String((await read())?.["holder"]);
}

/** Waits for the end; then all that was done was done once, and is what the job says. */
async function isDoneOnce(url: string, id: string, { sql, allArrived }: Awaited<ReturnType<typeof stage>>) {
  const read = async () => (await send(`${url}/jobs/${id}`, "GET")).body;
  await until(async () => (await read()).finished_at !== null, "the job to end", { withinMs: 60_000 });
  expect(await read()).toMatchObject({ state: "completed", planned: count, changed: count, unchanged: 0, refused: 0 });
  const [sessions] = await sql`
    select count(*)::int as count, count(*) filter (where phase = 'paused' and version = 2)::int as changed from sessions`;
  expect(sessions).toEqual({ count, changed: count });
  const [results] = await sql`
    select count(*)::int as count, count(distinct session_id)::int as sessions, min(number) as first, max(number) as last
    from bulk_results where outcome = 'changed'`;
  expect(results).toEqual({ count, sessions: count, first: 1, last: count });
  const [events] = await sql`select count(*)::int as count from events where event_type = 'session.updated'`;
  expect(events).toEqual({ count });
  expect(await allArrived()).toEqual([]);
}

describe(`a bulk job of ${count} sessions`, () => {
  it(`goes on after ${kills} × kill -9 of the process that is at it: each session is changed once, with one event`, async () => {
    const here = await stage();
    let [working, waiting] = [here.first, await here.start()];
    const id = await begin(working);
    for (let kill = 1; kill <= kills; kill++) {
      const holder = await progress(here.sql, 200);
      working.kill("SIGKILL");
      await working.exited;
      // The only one that is left: it is the next to be killed.
      working = waiting;
      const [row] = await here.sql`select state from bulk_jobs`;
      expect(row).toEqual({ state: "running" });
      await until(
        async () => (await here.sql`select 1 from bulk_jobs where holder <> ${holder}`).length === 1,
        "another process to take the job over",
        { withinMs: 15_000, everyMs: 2 },
      );
      waiting = await here.start();
    }
    await isDoneOnce(waiting.url, id, here);
  });

  it("goes on at once when the service is stopped and started again", async () => {
    const here = await stage();
    const id = await begin(here.first);
    await progress(here.sql, 200);
    expect(await here.first.stop()).toEqual({ code: 0, signal: null });
    const [row] = await here.sql`select state, held_until <= clock_timestamp() as is_free from bulk_jobs`;
    expect(row).toEqual({ state: "running", is_free: true });
    const next = await here.start();
    await isDoneOnce(next.url, id, here);
  });
});
