/** Bulk jobs by the commands that do them: who is at one, what is kept, and what goes wrong. */

import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { startBulkJobs } from "../../src/jobs/run-bulk-jobs.ts";
import { type BulkChange, openBulkJobs } from "../../src/sessions/bulk-jobs.ts";
import { bulkStep } from "../../src/sessions/bulk-step.ts";
import {
  type HeldJob,
  JobLost,
  keepProgress,
  releaseBulkJob,
  removeOldJobs,
  takeBulkJob,
} from "../../src/sessions/bulk-work.ts";
import { newId } from "../../src/sessions/context.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { agentId } from "../support/service.ts";
import { until } from "../support/until.ts";

let database: TestDatabase;
let pool: Database;
beforeEach(async () => {
  database = await createDatabase();
  pool = openDatabase({ url: database.url, poolSize: 4, prepare: true });
});
afterEach(async () => {
  await pool.close();
  await database.drop();
});

const context = { namespace: "default", requestId: "request-1", correlationId: "deploy-42" };

/** Adds sessions, made n seconds ago: newest first. */
async function add(count: number, contextBytes = 2): Promise<string[]> {
  const rows = await database.sql<{ id: string }[]>`
    insert into sessions (id, agent_id, created_at, updated_at, last_activity_at, phase_since, context_bytes)
    select gen_random_uuid(), ${agentId}, now() - make_interval(secs => n), now(), now(), now(), ${contextBytes}
    from generate_series(1, ${count}::int) n
    returning id`;
  return rows.map(({ id }) => id);
}

async function ask(change: BulkChange = { action: "delete", hard: false }): Promise<string> {
  const jobs = openBulkJobs(pool);
  const dry = await jobs.dryRunBulk(context, {});
  const job = await jobs.startBulk(context, { ...dry, filter: {}, change });
  return job?.id ?? "";
}

async function take(holder = newId()): Promise<HeldJob> {
  const job = await takeBulkJob(pool, holder);
  if (job === undefined) throw new Error("there is no job to be taken");
  return job;
}

const jobRow = async (id: string) => (await database.sql`select * from bulk_jobs where id = ${id}`)[0];

describe("a job", () => {
  it("is with one process at a time, until that has not been heard of for ten seconds", async () => {
    await ask();
    const job = await take();
    expect(await takeBulkJob(pool, newId())).toBeUndefined();
    const [row] = await database.sql`
      select extract(epoch from held_until - clock_timestamp())::float as seconds from bulk_jobs`;
    expect(row?.["seconds"]).toBeGreaterThan(9);
    expect(row?.["seconds"]).toBeLessThan(10.1);
    await database.sql`update bulk_jobs set held_until = clock_timestamp()`;
    expect(await take()).toMatchObject({ id: job.id, place: undefined });
  });

  it("is free at once for others when its process stops", async () => {
    await ask();
    await releaseBulkJob(pool, await take());
    expect(await takeBulkJob(pool, newId())).toBeDefined();
  });

  it("is taken by one of many that come for it at once", async () => {
    for (let time = 0; time < 2; time++) {
      const id = await ask();
      const taken = await Promise.all(Array.from({ length: 50 }, () => takeBulkJob(pool, newId())));
      expect(taken.flatMap((job) => job?.id ?? [])).toEqual([id]);
    }
  });

  it("keeps nothing, and changes nothing, for a process that it was taken from", async () => {
    await add(3);
    const id = await ask();
    const lost = await take();
    await database.sql`update bulk_jobs set held_until = clock_timestamp()`;
    const job = await take();
    await expect(bulkStep(pool, lost, "crashes")).rejects.toThrow(JobLost);
    await expect(keepProgress(pool, lost, { results: [], place: undefined, state: "failed" })).rejects.toThrow(JobLost);
    expect(await database.sql`select 1 from sessions where deleted_at is not null`).toHaveLength(0);
    expect(await database.sql`select 1 from events`).toHaveLength(0);
    expect(await bulkStep(pool, job, "crashes")).toMatchObject({ job: undefined, changed: true });
    expect(await jobRow(id)).toMatchObject({ state: "completed", changed: 3 });
  });

  it("goes on after the batch that was committed last", async () => {
    const ids = await add(250);
    const id = await ask();
    const { job } = await bulkStep(pool, await take(), "crashes");
    expect(job).toBeDefined();
    expect(await jobRow(id)).toMatchObject({ state: "running", changed: 100 });
    await database.sql`update bulk_jobs set held_until = clock_timestamp()`;
    let next: HeldJob | undefined = await take();
    expect(next.context).toEqual(context);
    while (next !== undefined) ({ job: next } = await bulkStep(pool, next, "crashes"));
    expect(await jobRow(id)).toMatchObject({ state: "completed", changed: 250, held_until: null });
    const results = await database.sql`select session_id, number from bulk_results order by number`;
    expect(results.map((row) => row["session_id"])).toEqual(ids);
    expect(results.map((row) => row["number"])).toEqual(ids.map((_, at) => at + 1));
  });

  it("changes few sessions at a time that are large", async () => {
    await add(10, 1_500_000);
    const id = await ask({ action: "update", settings: { max_attempts: 2 } });
    const { job } = await bulkStep(pool, await take(), "crashes");
    expect(job).toBeDefined();
    expect(await jobRow(id)).toMatchObject({ changed: 2 });
  });

  it("changes few sessions at a time to what is large", async () => {
    await add(5);
    const text = JSON.stringify({ log: "x".repeat(1_500_000) });
    const id = await ask({ action: "update", details: [["metadata", text]] });
    let job: HeldJob | undefined = await take();
    ({ job } = await bulkStep(pool, job, "crashes"));
    expect(await jobRow(id)).toMatchObject({ state: "running", changed: 2 });
    while (job !== undefined) ({ job } = await bulkStep(pool, job, "crashes"));
    expect(await jobRow(id)).toMatchObject({ state: "completed", changed: 5 });
  });

  it("tells of the transitions that it makes", async () => {
    const [id = ""] = await add(1);
    await ask({ action: "transition", state: { word: "paused", entry: "paused", means: ["paused"] } });
    const step = await bulkStep(pool, await take(), "crashes");
    expect(step.transitions).toMatchObject([{ context, from: "running", session: { id, phase: "paused" } }]);
  });

  it("is begun within 15 minutes of its dry run by the database's clock, and not before it", async () => {
    const jobs = openBulkJobs(pool);
    const asOf = async (shift: string) => {
      const [row] = await database.sql`
        select to_char(clock_timestamp() + ${shift}::interval, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at`;
      return String(row?.["at"]);
    };
    const start = async (shift: string, jobId = newId()) =>
      jobs.startBulk(context, {
        jobId,
        asOf: await asOf(shift),
        count: 0,
        filter: {},
        change: { action: "delete", hard: false },
      });
    expect(await start("-15 minutes")).toBeUndefined();
    expect(await start("1 minute")).toBeUndefined();
    const job = await start("-14 minutes");
    expect(job).toMatchObject({ state: "queued" });
    expect(await start("-16 minutes", job?.id)).toEqual(job);
  });

  it("is cancelled at once before it was begun", async () => {
    const id = await ask();
    const jobs = openBulkJobs(pool);
    expect(await jobs.cancelBulkJob(context, id)).toMatchObject({ state: "cancelled", started_at: null });
    expect(await takeBulkJob(pool, newId())).toBeUndefined();
  });

  it("that was cancelled when its process was killed ends with the next one", async () => {
    await add(2);
    const id = await ask();
    await take();
    await openBulkJobs(pool).cancelBulkJob(context, id);
    await database.sql`update bulk_jobs set held_until = clock_timestamp()`;
    expect(await bulkStep(pool, await take(), "crashes")).toMatchObject({ job: undefined, changed: false });
    expect(await jobRow(id)).toMatchObject({ state: "cancelled", changed: 0 });
  });
});

describe("the loop", () => {
  it("says that a job has failed which can't be done, and goes on with the next", async () => {
    await add(1);
    const bad = await ask();
    await database.sql`update bulk_jobs set filter = '{"createdBefore": "never"}'`;
    const good = await ask();
    const failed: (string | undefined)[] = [];
    const loop = startBulkJobs({
      database: pool,
      finalCheckpoints: "crashes",
      onTransition: () => {},
      appended: () => {},
      purgeRequested: () => {},
      onError: (_, id) => failed.push(id),
    });
    await until(async () => (await jobRow(good))?.["state"] === "completed", "the other job to be done");
    await loop.stop();
    expect(await jobRow(bad)).toMatchObject({
      state: "failed",
      error: expect.stringMatching(/^It is .*\.$/),
      changed: 0,
    });
    expect(failed).toEqual([bad]);
  });

  it("leaves a job to others when it is stopped in the middle", async () => {
    await add(1_000);
    const id = await ask();
    const loop = startBulkJobs({
      database: pool,
      finalCheckpoints: "crashes",
      onTransition: () => {},
      appended: () => {},
      purgeRequested: () => {},
      onError: () => {},
    });
    await until(async () => Number((await jobRow(id))?.["changed"]) > 0, "a batch to be done", { everyMs: 1 });
    await loop.stop();
    expect(await jobRow(id)).toMatchObject({ state: "running" });
    expect(await takeBulkJob(pool, newId())).toMatchObject({ id });
  });
});

describe("what is kept of a job", () => {
  it("goes 30 days after its end, a batch at a time, and no other does", async () => {
    const [old, young, running] = [await ask(), await ask(), await ask()];
    await database.sql`
      update bulk_jobs set state = 'completed', finished_at = now() - interval '30 days 1 minute' where id = ${old}`;
    await database.sql`
      update bulk_jobs set state = 'completed', finished_at = now() - interval '29 days' where id = ${young}`;
    await database.sql`
      insert into bulk_results (job_id, number, session_id, outcome)
      select job, n, gen_random_uuid(), 'changed'
      from unnest(${[old, young]}::uuid[]) job cross join generate_series(1, 2500) n`;
    let batches = 1;
    while (await removeOldJobs(pool)) batches++;
    expect(batches).toBe(4);
    expect((await database.sql`select id from bulk_jobs order by created_at`).map((row) => row["id"])).toEqual([
      young,
      running,
    ]);
    const left = await database.sql`select job_id, count(*)::int as count from bulk_results group by 1`;
    expect(left).toMatchObject([{ job_id: young, count: 2_500 }]);
  });
});
