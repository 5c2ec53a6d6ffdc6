/** What a batch of a bulk job costs: as much as its 100 sessions, however many others there are. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Database, openDatabase, type Queries } from "../../src/db/client.ts";
import { type BulkChange, openBulkJobs } from "../../src/sessions/bulk-jobs.ts";
import { bulkStep } from "../../src/sessions/bulk-step.ts";
import { takeBulkJob } from "../../src/sessions/bulk-work.ts";
import { newId } from "../../src/sessions/context.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { costOf } from "../support/plans.ts";

/** Blocks of 8 KiB for each statement: a session's row, the indexes that lead to it, and what it changes there. */
const fewBuffers = 100 * 25;

const context = { namespace: "default", requestId: "" };

describe("a batch of 100 out of 100,000 sessions", () => {
  let database: TestDatabase;
  let pool: Database;
  beforeAll(async () => {
    database = await createDatabase();
    pool = openDatabase({ url: database.url, poolSize: 2, prepare: true });
    // One in twenty ended, long ago.
    await database.sql`
      insert into sessions (id, agent_id, phase, created_at, updated_at, last_activity_at, phase_since, ended_at)
      select gen_random_uuid(), gen_random_uuid(), case when n % 20 = 7 then 'completed' else 'running' end,
        at, at, at, at, case when n % 20 = 7 then at end
      from generate_series(1, 100000) n, lateral (select timestamptz '2026-01-01T00:00:00Z' + n * interval '1 second') t (at)`;
    await database.sql`vacuum analyze`;
  });
  afterAll(async () => {
    await pool.close();
    await database.drop();
  });

  /** Every statement that a step runs, with its parameters. */
  async function statementsOf(change: BulkChange) {
    const filter = { phases: ["completed"] as const };
    const jobs = openBulkJobs(pool);
    const dry = await jobs.dryRunBulk(context, filter);
    await jobs.startBulk(context, { ...dry, filter, change });
    const job = await takeBulkJob(pool, newId());
    if (job === undefined) throw new Error("there is no job");
    const asked: { readonly text: string; readonly parameters: readonly unknown[] }[] = [];
    const recorded = (queries: Queries): Queries => ({
      query: (text, parameters = []) => {
        asked.push({ text, parameters });
        return queries.query(text, parameters);
      },
    });
    const recorder = {
      ...recorded(pool),
      transaction: (run: (tx: Queries) => unknown) => pool.transaction(async (tx) => run(recorded(tx))),
    };
    const step = await bulkStep(recorder as unknown as Database, job, "crashes");
    expect(step).toMatchObject({ changed: true, job: { id: job.id } });
    await jobs.cancelBulkJob(context, job.id);
    await bulkStep(pool, step.job ?? job, "crashes");
    return asked;
  }

  it.each<[string, BulkChange]>([
    ["an update", { action: "update", settings: { max_attempts: 5 } }],
    ["a deletion", { action: "delete", hard: false }],
  ])("%s", async (_, change) => {
    const asked = await statementsOf(change);
    expect(asked.length).toBeGreaterThanOrEqual(5);
    for (const { text, parameters } of asked) {
      for (const kind of ["generic", "custom"] as const) {
        const { buffers, plan } = await costOf(database.sql, text, parameters, kind);
        expect(buffers, `${kind} ${text} ${plan}`).toBeLessThan(fewBuffers);
      }
    }
  });

  it("and looking for work when there is none reads next to nothing", async () => {
    const asked: string[] = [];
    const recorder = {
      query: async (text: string) => {
        asked.push(text);
        return [];
      },
    } as unknown as Queries;
    await takeBulkJob(recorder, newId());
    const { buffers, plan } = await costOf(database.sql, asked[0] ?? "", [newId()]);
    expect(buffers, plan).toBeLessThan(20);
  });
});
