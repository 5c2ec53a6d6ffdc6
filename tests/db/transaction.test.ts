/** Transactions of the pool: all or nothing, in time, and never more than their share of the connections. */

import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { startProxy, type TestProxy, through } from "../support/proxy.ts";
import { until } from "../support/until.ts";

const unavailable = { code: "database_unavailable", status: 503, headers: { "retry-after": "1" } };
const insert = "insert into marks values ($1::text)";

describe("a transaction", () => {
  let database: TestDatabase;
  let proxy: TestProxy;
  let pool: Database;
  beforeAll(async () => {
    database = await createDatabase();
    const { hostname, port } = new URL(database.url);
    proxy = await startProxy({ host: hostname, port: Number(port) });
    pool = openDatabase({ url: through(proxy, database.url), poolSize: 4, prepare: true, deadlineMs: 1_000 });
    await database.sql`create table marks (mark text primary key)`;
  });
  beforeEach(() => database.sql`truncate marks`);
  afterAll(async () => {
    await pool.close(100);
    await proxy[Symbol.asyncDispose]();
    await database.drop();
  });
  const marks = async () => (await database.sql`select mark from marks order by mark`).map(({ mark }) => mark);
  const openTransactions = async () => {
    const rows = await database.sql`select state from pg_stat_activity
      where application_name = 'session-service' and datname = current_database() and xact_start is not null`;
    return rows.length;
  };
  /** Something to wait for. */
  const gate = () => {
    let open = () => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    return { opened, open };
  };

  it("commits all of its statements, and gives what its callback gives", async () => {
    const given = await pool.transaction(async (tx) => {
      await tx.query(insert, ["a"]);
      expect(await marks()).toEqual([]);
      return tx.query<{ n: number }>("insert into marks values ('b') returning (select count(*)::int from marks) as n");
    });
    expect(given).toEqual([{ n: 1 }]);
    expect(await marks()).toEqual(["a", "b"]);
  });

  it("runs statements given together one after the other, also those that are not awaited", async () => {
    await pool.transaction(async (tx) => {
      void tx.query("create temporary table steps (n int) on commit drop");
      void tx.query("insert into steps values (1)");
      void tx.query("insert into marks select 'step ' || n from steps");
    });
    expect(await marks()).toEqual(["step 1"]);
  });

  it("rolls back when its callback throws, and throws the same", async () => {
    const mine = new Error("changed my mind");
    const attempt = pool.transaction(async (tx) => {
      await tx.query(insert, ["a"]);
      throw mine;
    });
    await expect(attempt).rejects.toBe(mine);
    expect(await marks()).toEqual([]);
    expect(await openTransactions()).toBe(0);
  });

  it("rolls back after a statement failed, also when its callback makes light of it", async () => {
    const attempt = pool.transaction(async (tx) => {
      await tx.query(insert, ["a"]);
      await tx.query("select 1/0").catch(() => {});
      await tx.query(insert, ["b"]).catch(() => {});
    });
    await expect(attempt).rejects.toThrow("division by zero");
    expect(await marks()).toEqual([]);
  });

  it("refuses statements that come after its end", async () => {
    const late = await pool.transaction(async (tx) => () => tx.query(insert, ["late"]));
    await expect(late()).rejects.toThrow("the transaction is over");
    const failed: { late?: () => Promise<unknown> } = {};
    await pool
      .transaction(async (tx) => {
        failed.late = () => tx.query(insert, ["late"]);
        throw new Error("over");
      })
      .catch(() => {});
    await expect(failed.late?.()).rejects.toThrow("the transaction is over");
    expect(await marks()).toEqual([]);
  });

  it("is undone when a statement does not end in time; its connection holds no lock, and others go on", async () => {
    await database.sql.begin(async (blocker) => {
      await blocker`lock table marks in share mode`;
      const attempt = pool.transaction(async (tx) => {
        await tx.query("select pg_advisory_xact_lock(4711)");
        await tx.query(insert, ["a"]);
      });
      await expect(attempt).rejects.toMatchObject(unavailable);
      await until(async () => (await openTransactions()) === 0, "the transaction's end");
      expect(await pool.query("select pg_try_advisory_lock(4711) as free")).toEqual([{ free: true }]);
    });
    expect(await marks()).toEqual([]);
  });

  it("is undone when its callback takes too long, and says that nothing was changed", async () => {
    const { opened, open } = gate();
    const attempt = pool.transaction(async (tx) => {
      await tx.query(insert, ["a"]);
      await opened;
      await tx.query(insert, ["b"]);
    });
    await expect(attempt).rejects.toMatchObject({
      ...unavailable,
      message: expect.stringMatching(/too long; nothing was changed/),
    });
    expect(await openTransactions()).toBe(0);
    open();
    await pool.query("select 1");
    expect(await marks()).toEqual([]);
  });

  it("is undone when its connection breaks between statements: what comes then is not run on another", async () => {
    for (let round = 0; round < 10; round++) {
      const attempt = pool.transaction(async (tx) => {
        await tx.query(insert, ["before"]);
        proxy.cut();
        // The pool has a connection again, and this transaction must not notice.
        if (round % 2 === 0) await until(() => pool.query("select 1").then(Boolean, () => false), "a new connection");
        await tx.query(insert, ["after"]);
      });
      await expect(attempt).rejects.toMatchObject({
        ...unavailable,
        message: expect.stringMatching(/nothing was changed/),
      });
    }
    expect(await marks()).toEqual([]);
  });

  it("is given up in one deadline when the network swallows its statement: the rollback does not wait for it", async () => {
    let began = 0;
    const attempt = pool.transaction(async (tx) => {
      await tx.query(insert, ["a"]);
      proxy.freeze();
      began = performance.now();
      await tx.query(insert, ["b"]);
    });
    await expect(attempt).rejects.toMatchObject({
      ...unavailable,
      message: expect.stringMatching(/in time; nothing was changed/),
    });
    expect(performance.now() - began).toBeLessThan(1_800);
    proxy.thaw();
    await until(() => pool.query("select 1").then(Boolean, () => false), "a new connection");
    await until(async () => (await openTransactions()) === 0, "the transaction's end");
    expect(await marks()).toEqual([]);
  });

  it("has the server end it when its process falls silent for 5 s", async () => {
    const [limits] = await pool.transaction((tx) =>
      tx.query<{ silent: string; statement: string }>(
        "select current_setting('idle_in_transaction_session_timeout') as silent, current_setting('statement_timeout') as statement",
      ),
    );
    expect(limits).toEqual({ silent: "5s", statement: "900ms" });
  });

  it("whose commit was not answered says that nobody knows", async () => {
    await database.sql.unsafe(`
      create function be_slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.5); return null; end $$;
      create constraint trigger slow after insert on marks deferrable initially deferred for each row
        when (new.mark = 'slow') execute function be_slow()`);
    const attempt = pool.transaction(async (tx) => {
      await tx.query(insert, ["slow"]);
    });
    const isCommitting = async () => {
      const rows =
        await database.sql`select 1 from pg_stat_activity where query = 'commit' and state = 'active' and datname = current_database()`;
      return rows.length > 0;
    };
    const [result] = await Promise.all([
      attempt.catch((error: unknown) => error),
      until(isCommitting, "the commit", { everyMs: 2 }).then(() => proxy.cut()),
    ]);
    expect(result).toMatchObject({ ...unavailable, message: expect.stringMatching(/may or may not be made/) });
  });

  it("whose commit is refused is undone, and says why", async () => {
    await database.sql.unsafe(`
      create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not this one'; end $$;
      create constraint trigger refused after insert on marks deferrable initially deferred for each row
        when (new.mark = 'refused') execute function refuse()`);
    const attempt = pool.transaction((tx) => tx.query(insert, ["refused"]));
    await expect(attempt).rejects.toThrow("not this one");
    expect(await marks()).toEqual([]);
    expect(await openTransactions()).toBe(0);
  });

  it("is run again as a whole when the database undid it to end a deadlock", async () => {
    await database.sql`insert into marks values ('x'), ('y')`;
    const patient = openDatabase({ url: database.url, poolSize: 4, prepare: true, deadlineMs: 10_000 });
    let runs = 0;
    let locked = 0;
    const meeting = gate();
    const both = (first: string, second: string) =>
      patient.transaction(async (tx) => {
        runs++;
        await tx.query("select 1 from marks where mark = $1::text for update", [first]);
        if (++locked === 2) meeting.open();
        await meeting.opened;
        await tx.query("select 1 from marks where mark = $1::text for update", [second]);
        await tx.query("update marks set mark = mark || '!' where mark = $1::text", [first]);
      });
    await Promise.all([both("x", "y"), both("y", "x")]).finally(() => patient.close());
    expect(runs).toBeGreaterThanOrEqual(3);
    expect(await marks()).toEqual(["x!", "y!"]);
  });

  it("has at most half of the connections with its like: statements go on while more wait their turn", async () => {
    const { opened, open } = gate();
    let begun = 0;
    let running = 0;
    let most = 0;
    const transactions = Array.from({ length: 10 }, (_, n) =>
      pool.transaction(async (tx) => {
        begun++;
        most = Math.max(most, ++running);
        await opened;
        await tx.query(insert, [String(n)]);
        running--;
      }),
    );
    await until(() => begun === 2, "two transactions");
    for (let n = 0; n < 20; n++) expect(await pool.query("select 1 as one")).toEqual([{ one: 1 }]);
    expect(begun).toBe(2);
    open();
    await Promise.all(transactions);
    expect(begun).toBe(10);
    expect(most).toBe(2);
    expect(await marks()).toHaveLength(10);
  });

  it("that does not get a connection in time is never begun", async () => {
    const { opened, open } = gate();
    const holding = [1, 2].map(() => pool.transaction(() => opened));
    let ran = false;
    const third = pool.transaction(async () => {
      ran = true;
    });
    await expect(third).rejects.toMatchObject({
      ...unavailable,
      message: expect.stringMatching(/nothing was changed/),
    });
    open();
    await Promise.all(holding);
    await pool.transaction((tx) => tx.query("select 1"));
    expect(ran).toBe(false);
  });

  it("works on a single connection, and without prepared statements", async () => {
    const plain = openDatabase({ url: database.url, poolSize: 1, prepare: false });
    try {
      await Promise.all(["a", "b", "c"].map((mark) => plain.transaction((tx) => tx.query(insert, [mark]))));
      expect(await marks()).toEqual(["a", "b", "c"]);
    } finally {
      await plain.close();
    }
  });

  it("is let end by a pool that is closed, and no other is begun", async () => {
    const closing = openDatabase({ url: database.url, poolSize: 4, prepare: true });
    const { opened, open } = gate();
    const begun = gate();
    const running = closing.transaction(async (tx) => {
      begun.open();
      await opened;
      await tx.query(insert, ["a"]);
    });
    await begun.opened;
    const closed = closing.close();
    await expect(closing.transaction((tx) => tx.query(insert, ["b"]))).rejects.toMatchObject(unavailable);
    open();
    await running;
    await closed;
    expect(await marks()).toEqual(["a"]);
  });
});
