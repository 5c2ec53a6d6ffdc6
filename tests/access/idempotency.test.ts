/** Kept answers: what no client can provoke at will, and their end. */

import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { expireKeys, openIdempotency, type RepeatableRequest } from "../../src/access/idempotency.ts";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { startExpiry } from "../../src/jobs/expire-idempotency-keys.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/until.ts";

const request: RepeatableRequest = {
  namespace: "default",
  method: "POST",
  path: "/things",
  key: "key",
  fingerprint: "this",
};
const answer = { status: 201, headers: { etag: '"1"' }, body: "{}" };

describe("kept answers", () => {
  let database: TestDatabase;
  let pool: Database;
  beforeAll(async () => {
    database = await createDatabase();
    pool = openDatabase({ url: database.url, poolSize: 4, prepare: true });
    await database.sql`create table things (n int)`;
  });
  beforeEach(() => database.sql`truncate things, idempotency_keys`);
  afterAll(async () => {
    await pool.close();
    await database.drop();
  });
  const things = async () => (await database.sql`select 1 from things`).length;
  const keys = async () => (await database.sql`select 1 from idempotency_keys`).length;
  /** So many, each a second older than the one before. */
  const keep = (count: number, age: string) => database.sql`
    insert into idempotency_keys select 'default', 'POST', '/things', ${age} || ' ' || n, '', 201, '{}', '{}',
      now() - ${age}::text::interval - n * interval '1 second' from generate_series(1, ${count}::int) n`;

  it("an answer that was committed after it was looked for is given, and what was done meanwhile is undone", async () => {
    const idempotency = openIdempotency(pool, { ttlHours: 24 });
    let runs = 0;
    const repeated = await idempotency.repeatably(request, async (transaction) => {
      runs++;
      await transaction.query("insert into things values (1)");
      await database.sql`insert into idempotency_keys
        values ('default', 'POST', '/things', 'key', 'this', 200, '{"etag":"\\"7\\""}', '"theirs"', now())`;
      return answer;
    });
    expect(repeated).toEqual({ replayed: true, answer: { status: 200, headers: { etag: '"7"' }, body: '"theirs"' } });
    expect(runs).toBe(1);
    expect(await things()).toBe(0);
  });

  it("twins in one process wait for the first without asking the database", async () => {
    let transactions = 0;
    const counted: Database = {
      query: (...asked) => pool.query(...asked),
      transaction(run) {
        transactions++;
        return pool.transaction(run);
      },
      close: () => pool.close(),
    };
    const idempotency = openIdempotency(counted, { ttlHours: 24 });
    const results = await Promise.all(
      Array.from({ length: 20 }, () =>
        idempotency.repeatably(request, async (transaction) => {
          await transaction.query("insert into things select 1 from pg_sleep(0.2)");
          return answer;
        }),
      ),
    );
    expect(results.filter(({ replayed }) => replayed)).toHaveLength(19);
    expect(transactions).toBe(1);
  });

  it("a twin that waited for one that failed runs itself, one after the other", async () => {
    const idempotency = openIdempotency(pool, { ttlHours: 24 });
    let runs = 0;
    let atOnce = 0;
    const attempts = Array.from({ length: 10 }, () =>
      idempotency.repeatably(request, async (transaction) => {
        expect(++atOnce).toBe(1);
        const mine = ++runs;
        await transaction.query("insert into things values (1)").finally(() => atOnce--);
        if (mine < 4) throw new Error("not yet");
        return answer;
      }),
    );
    const results = await Promise.allSettled(attempts);
    expect(results.filter(({ status }) => status === "rejected")).toHaveLength(3);
    expect(runs).toBe(4);
    expect(await things()).toBe(1);
    expect(await keys()).toBe(1);
  });

  it("an answer that is no 2xx is a defect, and not kept", async () => {
    const idempotency = openIdempotency(pool, { ttlHours: 24 });
    const wrong = idempotency.repeatably(request, async (transaction) => {
      await transaction.query("insert into things values (1)");
      return { ...answer, status: 404 };
    });
    await expect(wrong).rejects.toThrow("must be thrown");
    expect([await things(), await keys()]).toEqual([0, 0]);
  });

  it("are removed when they are past their time, the oldest first, a thousand at once", async () => {
    await keep(2_500, "24 hours");
    await keep(10, "23 hours");
    const left: number[] = [];
    for (let more = true; more; left.push(await keys())) more = await expireKeys(pool, { ttlHours: 24 });
    expect(left).toEqual([1_510, 510, 10]);
  });

  it("are removed by several replicas at once, which wait neither for each other nor for a locked row", async () => {
    await keep(3_000, "24 hours");
    await database.sql.begin(async (blocker) => {
      await blocker`select 1 from idempotency_keys where key = '24 hours 3000' for update`;
      await Promise.all(Array.from({ length: 4 }, () => expireKeys(pool, { ttlHours: 24 })));
      while (await expireKeys(pool, { ttlHours: 24 }));
      expect(await keys()).toBe(1);
    });
    await expireKeys(pool, { ttlHours: 24 });
    expect(await keys()).toBe(0);
  });

  it("are removed by the job, again and again", async () => {
    const failures: unknown[] = [];
    const job = startExpiry({ database: pool, ttlHours: 1, everyMs: 5, onError: (error) => failures.push(error) });
    try {
      for (let round = 0; round < 3; round++) {
        await keep(1_200, "61 minutes");
        await keep(1, "10 minutes");
        await until(async () => (await keys()) === 1, "the old ones to be removed");
        await database.sql`truncate idempotency_keys`;
      }
    } finally {
      await job.stop();
    }
    expect(failures).toEqual([]);
  });
});
