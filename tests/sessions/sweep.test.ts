import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { type Phase, phases } from "../../src/sessions/lifecycle.ts";
import { beginSweep, sweepDue } from "../../src/sessions/sweep.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

const replicas = 5;
const graceMs = 3_000;

let database: TestDatabase;
/** A pool for each process that sweeps, and one for clients. */
let pools: Database[];
let clients: Database;
beforeAll(async () => {
  database = await createDatabase();
  const open = (poolSize: number) => openDatabase({ url: database.url, poolSize, prepare: true });
  pools = Array.from({ length: replicas }, () => open(1));
  clients = open(4);
});
beforeEach(async () => {
  await database.sql`delete from sessions`;
  await database.sql`delete from events`;
});
afterAll(async () => {
  await Promise.all([...pools, clients].map((pool) => pool.close()));
  await database.drop();
});

/** Inserts sessions that have been running, untouched, for an hour; their ids. */
async function insert(count: number, fields: Readonly<Record<string, string>>): Promise<string[]> {
  const names = Object.keys(fields).map((name) => `, ${name}`);
  const values = Object.values(fields).map((value) => `, ${value}`);
  const rows = await database.sql.unsafe<{ id: string }[]>(`
    insert into sessions (id, agent_id, last_sequence, created_at, updated_at, last_activity_at, phase_since,
      next_check_at${names.join("")})
    select gen_random_uuid(), gen_random_uuid(), 1, t, t, t, t, t${values.join("")}
    from generate_series(1, ${count}), (select clock_timestamp() - interval '1 h' as t) long_ago
    returning id`);
  return rows.map(({ id }) => id);
}

/** Sweeps as a replica does: until nothing more is due. */
async function sweep(pool: Database): Promise<number> {
  for (let swept = 0; ; ) {
    const result = await sweepDue(pool, await beginSweep(pool, graceMs));
    swept += result.swept.length;
    if (!result.more) return swept;
  }
}

interface Session {
  readonly phase: Phase;
  readonly status_reason: string | null;
  readonly version: number;
  readonly next: Date | null;
}

async function only(): Promise<Session | undefined> {
  const [row] = await database.sql<Session[]>`
    select phase, status_reason, version, next_check_at as next from sessions`;
  return row;
}

async function counts(): Promise<Record<string, number>> {
  const [row] = await database.sql<Record<string, number>[]>`
    select count(*)::int as sessions,
      count(*) filter (where phase = 'expired')::int as expired,
      count(*) filter (where version <> (phase = 'expired')::int + 1)::int as miscounted,
      (select count(*)::int from events) as events,
      (select count(distinct session_id)::int from events) as told
    from sessions`;
  return row ?? {};
}

describe("Sweepers", () => {
  it(`${replicas} of them over 500 due sessions, 20 times: each session changes once, with one event`, async () => {
    for (let round = 0; round < 20; round++) {
      await database.sql`delete from sessions`;
      await database.sql`delete from events`;
      await insert(500, { idle_timeout_seconds: "60" });
      const swept = await Promise.all(pools.map(sweep));
      expect(swept.reduce((sum, count) => sum + count)).toBe(500);
      expect(await counts()).toEqual({ sessions: 500, expired: 500, miscounted: 0, events: 500, told: 500 });
    }
  });

  it("save the contexts of a lost fleet a few at a time, and hold up no timer by it", async () => {
    const [pool] = pools;
    if (pool === undefined) throw new Error("there is no pool");
    const due = { timeout_seconds: "60" };
    const heavy = { ...due, context_bytes: "10000000", is_context_unsaved: "true", context: `'{"a": 1}'` };
    const light = { ...due, context_bytes: "8", is_context_unsaved: "true", context: `'{"a": 2}'` };
    await insert(4, heavy);
    await insert(3, light);
    const rounds: number[] = [];
    for (let more = true; more; ) {
      const result = await sweepDue(pool, await beginSweep(pool, graceMs));
      rounds.push(result.swept.length);
      more = result.more;
    }
    expect(rounds.length).toBeGreaterThan(3);
    expect(rounds.reduce((sum, swept) => sum + swept)).toBe(7);
    expect((await database.sql`select count(*)::int as kept from checkpoints`)[0]).toEqual({ kept: 7 });
  });

  it("work off more than a statement takes, all of them and each once", async () => {
    await insert(3_000, { idle_timeout_seconds: "60" });
    await insert(200, { idle_timeout_seconds: "86400" });
    const swept = await Promise.all(pools.map(sweep));
    expect(swept.reduce((sum, count) => sum + count)).toBe(3_000);
    expect(await counts()).toEqual({ sessions: 3_200, expired: 3_000, miscounted: 0, events: 3_000, told: 3_000 });
  });

  it("racing with activity: no session expires that was active within its time, and none is forgotten", async () => {
    const ids = await insert(400, { idle_timeout_seconds: "1" });
    await database.sql`update sessions set last_activity_at = clock_timestamp(), next_check_at = clock_timestamp()`;
    const active = ids.slice(0, 200);
    const end = performance.now() + 3_000;
    const beat = async () => {
      while (performance.now() < end) {
        // About as far apart as the timeout, so that many come just before it, and many just after.
        const some = active.filter(() => Math.random() < 0.02);
        await clients.query(
          `update sessions set last_activity_at = clock_timestamp()
           where id = any($1::text::uuid[]) and phase = 'running'`,
          [`{${some.join(",")}}`],
        );
      }
    };
    const look = async (pool: Database) => {
      while (performance.now() < end) await sweep(pool);
    };
    await Promise.all([beat(), beat(), ...pools.map(look)]);
    const [row] = await database.sql`
      select count(*) filter (where phase = 'expired' and ended_at < last_activity_at + interval '1 s')::int as early,
        count(*) filter (where phase = 'running' and last_activity_at < clock_timestamp() - interval '2 s')::int as late,
        count(*) filter (where phase = 'expired')::int as expired,
        (select count(*)::int from events) as events
      from sessions`;
    expect(row).toMatchObject({ early: 0, late: 0, events: row?.["expired"] });
    expect(row?.["expired"]).toBeGreaterThanOrEqual(200);
    const unswept = await database.sql`select 1 from sessions where phase = 'running' and next_check_at is null`;
    expect(unswept).toHaveLength(0);
  }, 30_000);

  it("leave a session that somebody is changing, and see what was changed when they look again", async () => {
    await insert(1, { idle_timeout_seconds: "60" });
    await database.sql.begin(async (client) => {
      await client`update sessions set last_activity_at = clock_timestamp()`;
      expect(await sweep(clients)).toBe(0);
    });
    expect(await sweep(clients)).toBe(0);
    const session = await only();
    expect(session).toMatchObject({ phase: "running", version: 1 });
    expect(session?.next?.getTime()).toBeGreaterThan(Date.now() + 50_000);
  });

  it("push on a session that is looked at too early, and forget one that has no timer", async () => {
    const [kept] = await insert(1, { idle_timeout_seconds: "7200" });
    const [free] = await insert(1, {});
    expect(await sweep(clients)).toBe(0);
    const rows = await database.sql`
      select id, version, extract(epoch from next_check_at - last_activity_at)::int as seconds from sessions`;
    expect(new Map(rows.map(({ id, ...rest }) => [id, rest]))).toEqual(
      new Map([
        [kept, { version: 1, seconds: 7200 }],
        [free, { version: 1, seconds: null }],
      ]),
    );
    expect(await database.sql`select 1 from events`).toHaveLength(0);
  });

  it("forget a deleted session, and leave it as it is", async () => {
    await insert(1, { idle_timeout_seconds: "60", deleted_at: "now()" });
    expect(await sweep(clients)).toBe(0);
    expect(await only()).toEqual({ phase: "running", status_reason: null, version: 1, next: null });
  });
});

describe("Of several timers that are due", () => {
  const overdue = {
    timeout_seconds: "40 * 60",
    waiting_timeout_seconds: "30 * 60",
    idle_timeout_seconds: "20 * 60",
    pending_timeout_seconds: "10 * 60",
    claimable_at: "t",
  };

  /** What becomes of a session in each phase whose timers are all due, the idle timeout first; unnamed: nothing. */
  const becomes: Readonly<Partial<Record<Phase, [Phase, string]>>> = {
    pending: ["expired", "pending_timeout"],
    starting: ["timed_out", "timeout"],
    running: ["expired", "idle_timeout"],
    ready: ["expired", "idle_timeout"],
    busy: ["expired", "idle_timeout"],
    waiting_input: ["timed_out", "timeout"],
    stopping: ["timed_out", "timeout"],
    paused: ["expired", "idle_timeout"],
    idle: ["expired", "idle_timeout"],
    stopped: ["expired", "idle_timeout"],
  };

  it.each(phases)("the first one that its phase allows acts on a session that is %s", async (phase) => {
    await insert(1, { ...overdue, phase: `'${phase}'` });
    const [to, reason] = becomes[phase] ?? [phase, null];
    expect(await sweep(clients)).toBe(to === phase ? 0 : 1);
    expect(await only()).toMatchObject({ phase: to, status_reason: reason, next: null });
  });

  it.each([
    ["timed_out", "timeout", { timeout_seconds: "60", idle_timeout_seconds: "60", waiting_timeout_seconds: "60" }],
    ["expired", "idle_timeout", { idle_timeout_seconds: "60", waiting_timeout_seconds: "60" }],
    ["idle", "waiting_timeout", { idle_timeout_seconds: "6000", waiting_timeout_seconds: "60" }],
    ["timed_out", "timeout", { timeout_seconds: "59", waiting_timeout_seconds: "60" }],
    ["expired", "idle_timeout", { timeout_seconds: "61", idle_timeout_seconds: "60" }],
  ])("the earlier one acts, and the graver one of two at the same time: %s, %s", async (phase, reason, fields) => {
    await insert(1, fields);
    expect(await sweep(clients)).toBe(1);
    expect(await only()).toMatchObject({ phase, status_reason: reason });
  });

  it("deletion acts before any other at the same time", async () => {
    await insert(1, { idle_timeout_seconds: "60", expires_at: "t + interval '60 s'" });
    expect(await sweep(clients)).toBe(1);
    const [row] = await database.sql`select deleted_at is not null as deleted, phase from sessions`;
    expect(row).toEqual({ deleted: true, phase: "running" });
  });
});

describe("After a time in which nobody swept", () => {
  const held = (seconds: number) => ({
    lease_owner: "'worker-1'",
    lease_token: "1",
    lease_seconds: String(seconds),
    lease_expires_at: `t + make_interval(secs => ${seconds})`,
  });

  const nobodySwept = (since: string) =>
    database.sql.unsafe(`
    update sweeps set swept_at = clock_timestamp() - interval '${since}', leases_renewed_at = '-infinity'`);

  it("leases count as renewed when it begins again, and run out from then on", async () => {
    await nobodySwept("10 s");
    await insert(1, held(1));
    const first = await beginSweep(clients, graceMs);
    expect(first.renewed_at).toBe(first.as_of);
    expect((await sweepDue(clients, first)).swept).toEqual([]);
    const session = await only();
    expect(session?.next?.getTime()).toBe(Math.trunc(new Date(first.as_of).getTime()) + 1_000);
    let start = first;
    while (new Date(start.as_of).getTime() <= (session?.next?.getTime() ?? 0))
      start = await beginSweep(clients, graceMs);
    expect(start.renewed_at).toBe(first.renewed_at);
    expect((await sweepDue(clients, start)).swept).toMatchObject([{ outcome: "crashed", from: "running" }]);
  });

  it("what else counts from the activity of a session's holder counts from then on, too; of one that nobody holds it does not", async () => {
    await nobodySwept("10 s");
    const [ofHolder] = await insert(1, { ...held(600), idle_timeout_seconds: "600" });
    await insert(1, { idle_timeout_seconds: "600" });
    expect(await sweep(clients)).toBe(1);
    const [row] = await database.sql`select id from sessions where phase = 'running'`;
    expect(row?.["id"]).toBe(ofHolder);
  });

  it("a sweep that was begun and had to be given up is none: while sessions can't be written, nobody renews a lease", async () => {
    await nobodySwept("10 s");
    await insert(1, held(1));
    await beginSweep(clients, graceMs);
    const start = await beginSweep(clients, graceMs);
    expect(start.renewed_at).toBe(start.as_of);
    expect((await sweepDue(clients, start)).swept).toEqual([]);
    expect((await beginSweep(clients, graceMs)).renewed_at).toBe(start.renewed_at);
  });

  it("that was a pause between two sweeps, leases run out as ever", async () => {
    await nobodySwept("2 s");
    await insert(1, held(1));
    expect(await sweep(clients)).toBe(1);
    expect(await only()).toMatchObject({ phase: "crashed", status_reason: "lease_expired" });
  });

  it("a sweeper that froze after it looked at the clock judges by the time before that", async () => {
    const frozen = await beginSweep(clients, graceMs);
    const [id] = await insert(1, held(1));
    await database.sql`
      update sessions set lease_expires_at = ${frozen.as_of}::text::timestamptz + interval '1 microsecond' where id = ${id ?? ""}`;
    expect((await sweepDue(clients, frozen)).swept).toEqual([]);
    expect(await only()).toMatchObject({ phase: "running" });
    expect(await sweep(clients)).toBe(1);
  });

  it(`of ${replicas} that begin at once, no lease that was held runs out`, async () => {
    await nobodySwept("1 day");
    await insert(100, held(600));
    expect(await Promise.all(pools.map(sweep))).toEqual(pools.map(() => 0));
    const [row] = await database.sql`
      select count(*)::int as held, (select leases_renewed_at > clock_timestamp() - interval '1 min' from sweeps) as renewed
      from sessions where lease_owner is not null`;
    expect(row).toEqual({ held: 100, renewed: true });
  });
});

it("An id of an event is never used twice", async () => {
  await insert(600, { idle_timeout_seconds: "60" });
  await insert(300, { expires_at: "t" });
  await Promise.all(pools.map(sweep));
  const rows = await database.sql`select distinct event_id from events`;
  expect(rows).toHaveLength(900);
});
