/** The connection to the database when things go wrong: an answer in time, and back by itself. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { startProxy, type TestProxy, through } from "../support/proxy.ts";
import { until } from "../support/until.ts";

function openDatabaseOfOne(url: string) {
  const pool = openDatabase({ url, poolSize: 1, prepare: true, deadlineMs: 500 });
  return { pool, [Symbol.asyncDispose]: () => pool.close(100) };
}

const unavailable = { code: "database_unavailable", status: 503, headers: { "retry-after": "1" } };

describe("the database's client", () => {
  let database: TestDatabase;
  let proxy: TestProxy;
  let pool: Database;
  beforeAll(async () => {
    database = await createDatabase();
    const { hostname, port } = new URL(database.url);
    proxy = await startProxy({ host: hostname, port: Number(port) });
    pool = openDatabase({ url: through(proxy, database.url), poolSize: 3, prepare: true, deadlineMs: 1_000 });
    await database.sql`create table counts (n int)`;
  });
  afterAll(async () => {
    await pool.close(100);
    await proxy[Symbol.asyncDispose]();
    await database.drop();
  });
  const one = () => pool.query<{ one: number }>("select 1 as one");

  it("prepares a statement once a connection", async () => {
    for (let n = 0; n < 20; n++) await pool.query("select $1::text as n, 'prepared once' as mark", [String(n)]);
    const [row] = await pool.query<{ statements: number }>(
      "select count(*)::int as statements from pg_prepared_statements where statement like '%prepared once%' and statement not like '%pg_prepared%'",
    );
    expect(row?.statements).toBeLessThanOrEqual(1);
  });

  it("gives each of many callers its own rows", async () => {
    const rows = await Promise.all(
      Array.from({ length: 200 }, (_, n) => pool.query<{ n: string }>("select $1::text as n", [n])),
    );
    expect(rows.map(([row]) => row?.n)).toEqual(Array.from({ length: 200 }, (_, n) => String(n)));
  });

  it("a cut connection is an answer at once, and mended at once", async () => {
    for (let round = 0; round < 10; round++) {
      const running = Promise.allSettled(Array.from({ length: 10 }, () => pool.query("select pg_sleep(0.05)")));
      proxy.cut();
      for (const result of await running) {
        if (result.status === "rejected") expect(result.reason).toMatchObject(unavailable);
      }
      await until(
        async () =>
          one().then(
            () => true,
            () => false,
          ),
        "a new connection",
        { withinMs: 2_000 },
      );
    }
  });

  it("a network that swallows is an answer in time; what was waiting is never run later; it is back by itself", async () => {
    await Promise.all(Array.from({ length: 3 }, one));
    proxy.freeze();
    const start = performance.now();
    const inserts = await Promise.allSettled(
      Array.from({ length: 30 }, (_, n) => pool.query("insert into counts values ($1::text::int)", [n])),
    );
    expect(performance.now() - start).toBeLessThan(2_000);
    for (const insert of inserts) expect(insert).toMatchObject({ status: "rejected", reason: unavailable });
    proxy.thaw();
    await until(
      async () =>
        one().then(
          () => true,
          () => false,
        ),
      "it to recover",
      { withinMs: 2_000 },
    );
    // What was on the wire may have been done, and its caller was told so; what had not been sent was not.
    const [row] = await database.sql`select count(*)::int as done from counts`;
    expect(row?.["done"]).toBeLessThanOrEqual(3);
  });

  it("a statement that waits for a lock is given up in time, and holds up no other", async () => {
    await database.sql.begin(async (tx) => {
      await tx`lock table counts in access exclusive mode`;
      const blocked = pool.query("select * from counts");
      const others = await Promise.all(Array.from({ length: 20 }, one));
      expect(others).toHaveLength(20);
      await expect(blocked).rejects.toMatchObject({ ...unavailable, message: expect.stringContaining("in time") });
    });
    expect(await pool.query("select * from counts where n < 0")).toEqual([]);
  });

  it("a statement with a large document has longer, and the next one on its connection no longer than others", async () => {
    await using single = openDatabaseOfOne(database.url);
    const sleep = (text: string) =>
      single.pool.query<{ length: number }>("select length($1::text) as length, pg_sleep(0.8)", [text]);
    const megabytes = "x".repeat(2 * 1024 * 1024);
    expect(await sleep(megabytes)).toMatchObject([{ length: megabytes.length }]);
    await expect(sleep("x")).rejects.toMatchObject(unavailable);
    await single.pool
      .transaction(async (transaction) => {
        await transaction.query("select length($1::text), pg_sleep(0.8)", [megabytes]);
        await expect(transaction.query("select pg_sleep(0.8)")).rejects.toMatchObject(unavailable);
      })
      .catch((error: unknown) => expect(error).toMatchObject(unavailable));
    await expect(sleep("x")).rejects.toMatchObject(unavailable);
  });

  it("runs a statement again that the database undid to end a deadlock", async () => {
    await database.sql.unsafe(
      "create table pairs (id int primary key, n int default 0); insert into pairs values (1), (2)",
    );
    // PostgreSQL looks for deadlocks after a second: within the usual deadline, not within this file's.
    const patient = openDatabase({ url: database.url, poolSize: 2, prepare: true });
    const both = (first: number, second: number) =>
      patient.query(`with a as (update pairs set n = n + 1 where id = ${first} returning pg_sleep(0.2)), b as (update pairs set n = n + 1
        where id = ${second} and exists (select 1 from a) returning 1) select * from b`);
    await Promise.all([both(1, 2), both(2, 1)]).finally(() => patient.close());
    expect(await database.sql`select n from pairs`).toEqual([{ n: 2 }, { n: 2 }]);
  });

  it("tells a missing table from a database that is away", async () => {
    await expect(pool.query("select * from no_such_table")).rejects.toMatchObject({ code: "schema_outdated" });
  });

  it("lets a defect of a statement be seen as one", async () => {
    await expect(pool.query("select 1/0")).rejects.not.toHaveProperty("status");
  });

  it("a server that refuses connections is an answer at once", async () => {
    const nobody = openDatabase({ url: "postgres://nobody@127.0.0.1:1/x", poolSize: 1, prepare: true });
    await expect(nobody.query("select 1")).rejects.toMatchObject(unavailable);
    await nobody.close(0);
  });

  it("works without prepared statements too", async () => {
    const plain = openDatabase({ url: database.url, poolSize: 1, prepare: false });
    try {
      expect(await plain.query("select $1::text as n", ["x"])).toEqual([{ n: "x" }]);
      expect(await plain.query("select name from pg_prepared_statements")).toEqual([]);
    } finally {
      await plain.close();
    }
  });
});
