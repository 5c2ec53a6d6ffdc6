/** POST /sessions/{id}/prune removes the checkpoints that no rule keeps, and tells what it really did. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const prune = (id: string, body?: unknown, headers: Record<string, string> = {}) =>
  service.request("POST", `/sessions/${id}/prune`, body, headers);

async function numbersOf(id: string): Promise<number[]> {
  const rows = await service.database.sql<{ number: number }[]>`
    select number from checkpoints where session_id = ${id} order by number`;
  return rows.map(({ number }) => number);
}

const upTo = (last: number) => Array.from({ length: last }, (_, at) => at + 1);

/** A session with so many checkpoints, saved one after the other. */
async function createWith(count: number, fields: object = {}): Promise<string> {
  const id = await service.create(fields);
  for (const n of upTo(count)) await save(id, { n });
  return id;
}

async function save(id: string, checkpoint: object): Promise<void> {
  const answer = await service.request("PATCH", `/sessions/${id}`, { checkpoint });
  expect(answer.status).toBe(200);
}

/** Makes all checkpoints of a session older, and those before them older still: by so many hours each. */
async function spread(id: string, hours: number): Promise<void> {
  await service.database.sql`
    update checkpoints c set created_at = now() - make_interval(hours => ${hours}::int * (s.last_checkpoint - c.number))
    from sessions s where s.id = c.session_id and s.id = ${id}`;
}

describe("a prune by the rules of its body", () => {
  it("keeps the last ones, and answers with the numbers, bytes and counts of what it removed", async () => {
    const id = await createWith(8);
    const answer = await prune(id, { keep_last: 3 });
    expect(answer.status).toBe(200);
    const bytes = 5 * '{"n": 1}'.length;
    expect(answer.body).toEqual({
      dry_run: false,
      deleted: 5,
      bytes,
      kept: 3,
      numbers: [5, 4, 3, 2, 1],
      more: false,
    });
    expect(await numbersOf(id)).toEqual([6, 7, 8]);
  });

  it("removes nothing as a dry run, and tells what it then does", async () => {
    const id = await createWith(4);
    const told = await prune(id, { keep_last: 2, dry_run: true });
    expect(told.body).toMatchObject({ dry_run: true, deleted: 2, kept: 2, numbers: [2, 1] });
    expect(await numbersOf(id)).toEqual(upTo(4));
    const done = await prune(id, { keep_last: 2 });
    expect(done.body).toEqual({ ...told.body, dry_run: false });
    expect((await prune(id, { keep_last: 2 })).body).toMatchObject({ deleted: 0, bytes: 0, kept: 2, numbers: [] });
  });

  it("keeps the last one of a line, however old, and any number with 0", async () => {
    const id = await createWith(3);
    await spread(id, 24 * 400);
    expect((await prune(id, { keep_last: 0 })).body).toMatchObject({ deleted: 0, kept: 3 });
    expect((await prune(id, { keep_last: 1 })).body).toMatchObject({ deleted: 2, kept: 1 });
    expect(await numbersOf(id)).toEqual([3]);
  });

  it("keeps those that are young enough as well", async () => {
    const id = await createWith(6);
    await spread(id, 24);
    expect((await prune(id, { keep_last: 1, keep_days: 4 })).body.numbers).toEqual([2, 1]);
    expect(await numbersOf(id)).toEqual([3, 4, 5, 6]);
  });

  it("keeps the last one of each day as well, for so many days", async () => {
    const id = await createWith(12);
    // Three a day, over four or five days.
    await spread(id, 8);
    expect((await prune(id, { keep_last: 1, keep_daily_days: 30 })).status).toBe(200);
    const days = await service.database.sql<{ day: string }[]>`
      select (created_at at time zone 'UTC')::date::text as day from checkpoints where session_id = ${id}`;
    expect(new Set(days.map(({ day }) => day)).size).toBe(days.length);
    expect(days.length).toBeGreaterThanOrEqual(4);
    expect((await prune(id, { keep_last: 1, keep_daily_days: 2 })).body.kept).toBeLessThan(days.length);
  });

  it("keeps what has a label, and milestones", async () => {
    const id = await createWith(5);
    await service.database.sql`
      update checkpoints set label = case number when 2 then 'before the rewrite' end,
        type = case number when 3 then 'milestone' else 'manual' end
      where session_id = ${id}`;
    expect((await prune(id, { keep_last: 1 })).body).toMatchObject({ deleted: 2, kept: 3, numbers: [4, 1] });
    expect(await numbersOf(id)).toEqual([2, 3, 5]);
  });

  it("counts each line for itself, and keeps its last one", async () => {
    const id = await createWith(6);
    await service.database.sql`
      update checkpoints set checkpoint_ns = case when number in (2, 3) then 'reviewer' else '' end
      where session_id = ${id}`;
    expect((await prune(id, { keep_last: 1 })).body.numbers).toEqual([5, 4, 2, 1]);
    expect(await numbersOf(id)).toEqual([3, 6]);
  });
});

describe("a prune", () => {
  it("without a body goes by the session's own rules, and else by the settings", async () => {
    const id = await createWith(5);
    expect((await prune(id)).body).toMatchObject({ deleted: 0, kept: 5 });
    await service.request("PATCH", `/sessions/${id}`, { checkpoint_retention: { keep_last: 2 } });
    expect((await prune(id)).body).toMatchObject({ deleted: 3, kept: 2 });
    expect(await numbersOf(id)).toEqual([4, 5]);
  });

  it("goes by the session's rules where its body says nothing of them", async () => {
    const id = await createWith(5, { checkpoint_retention: { keep_days: 7 } });
    expect((await prune(id, { keep_last: 1, keep_daily_days: null })).body).toMatchObject({ deleted: 0, kept: 5 });
    expect((await prune(id, { keep_last: 1, keep_days: 0 })).body).toMatchObject({ deleted: 4, kept: 1 });
  });

  it("shows in checkpoint_count at once, makes no version and no event, and leaves the checkpoint that is shown", async () => {
    const id = await createWith(3);
    const before = await service.request("GET", `/sessions/${id}`);
    expect((await prune(id, { keep_last: 1 })).body.deleted).toBe(2);
    const after = await service.request("GET", `/sessions/${id}`);
    expect(after.body).toEqual({ ...before.body, checkpoint_count: 1 });
    const [row] = await service.database.sql`select count(*)::int as n from events where session_id = ${id}`;
    expect(row).toEqual({ n: 4 });
  });

  it("leaves numbers that are never given again", async () => {
    const id = await createWith(3);
    await prune(id, { keep_last: 1 });
    await save(id, { n: 4 });
    expect(await numbersOf(id)).toEqual([3, 4]);
  });

  it("that is sent again with its Idempotency-Key is not done again", async () => {
    const id = await createWith(3);
    const headers = { "idempotency-key": randomUUID() };
    const first = await prune(id, { keep_last: 2 }, headers);
    await save(id, { n: 4 });
    const second = await prune(id, { keep_last: 2 }, headers);
    expect(second.headers.get("idempotent-replayed")).toBe("true");
    expect(second.text).toBe(first.text);
    expect(await numbersOf(id)).toEqual([2, 3, 4]);
  });

  it("that waited for somebody who removes checkpoints too goes by what is there then", async () => {
    const id = await createWith(6);
    let pruned: Promise<Answer> | undefined;
    await service.database.sql.begin(async (tx) => {
      await tx`delete from checkpoints where session_id = ${id} and number = 5`;
      await tx`update sessions set checkpoint_count = checkpoint_count - 1 where id = ${id}`;
      pruned = prune(id, { keep_last: 2 });
      await until(
        async () =>
          (
            await tx`
              select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`
          ).length > 0,
        "the prune to wait",
      );
    });
    expect((await pruned)?.body).toMatchObject({ deleted: 3, kept: 2, numbers: [3, 2, 1] });
    expect(await numbersOf(id)).toEqual([4, 6]);
  });

  it("of thousands tells all it removed, and the first thousand numbers", async () => {
    const id = await createWith(1);
    await service.database.sql`
      with more as (
        insert into checkpoints (session_id, number, id, data, bytes, session_version, created_at)
        select ${id}, n, gen_random_uuid(), '{}', 2, 2, now() from generate_series(2, 3000) n)
      update sessions set last_checkpoint = 3000, checkpoint_count = 3000 where id = ${id}`;
    for (const dryRun of [true, false]) {
      const { body } = await prune(id, { keep_last: 10, dry_run: dryRun });
      expect(body).toMatchObject({ deleted: 2_990, kept: 10, more: false });
      expect(body.numbers).toEqual(upTo(2_990).reverse().slice(0, 1_000));
    }
    expect((await service.request("GET", `/sessions/${id}`)).body.checkpoint_count).toBe(10);
  });
});

describe("a prune that can't be", () => {
  it("is 404 for a session that there is not, or that was deleted", async () => {
    const id = await createWith(2);
    await service.request("DELETE", `/sessions/${id}`);
    for (const missing of [id, randomUUID(), "no-id"]) {
      const answer = await prune(missing, { keep_last: 1 });
      expect([answer.status, answer.body.code]).toEqual([404, "session_not_found"]);
    }
    expect(await numbersOf(id)).toEqual([1, 2]);
  });

  it("is 423 under a legal hold, as a dry run too, and nothing is removed", async () => {
    const id = await createWith(2);
    await service.database.sql`update sessions set legal_hold = true where id = ${id}`;
    for (const body of [{ keep_last: 1 }, { keep_last: 1, dry_run: true }]) {
      const answer = await prune(id, body);
      expect([answer.status, answer.body.code]).toEqual([423, "legal_hold"]);
    }
    expect(await numbersOf(id)).toEqual([1, 2]);
  });

  it("is 412 when the session has another version than If-Match names, and 409 when the lease is over", async () => {
    const id = await createWith(2);
    const stale = await prune(id, { keep_last: 1 }, { "if-match": '"1"' });
    expect([stale.status, stale.body.code]).toEqual([412, "precondition_failed"]);
    const lost = await prune(id, { keep_last: 1 }, { "lease-token": "7" });
    expect([lost.status, lost.body.code]).toEqual([409, "lease_lost"]);
    expect(await numbersOf(id)).toEqual([1, 2]);
    expect((await prune(id, { keep_last: 1 }, { "if-match": '"3"' })).body.deleted).toBe(1);
  });

  it("renews the lease of who names its token, and makes no version", async () => {
    await service.create({ phase: "pending", checkpoint: { n: 1 } });
    const claim = { worker_id: "worker-7", lease_seconds: 3_600 };
    const { id, lease_token, version } = (await service.request("POST", "/sessions/claim", claim)).body;
    const token = { "lease-token": String(lease_token) };
    const leaseAfter = async (body: object) => {
      await service.database.sql`update sessions set lease_expires_at = now() + interval '5 s' where id = ${id}`;
      expect((await prune(id, body, token)).status).toBe(200);
      const { body: session } = await service.request("GET", `/sessions/${id}`);
      expect(session.version).toBe(version);
      return Date.parse(session.lease_expires_at) - Date.now();
    };
    expect(await leaseAfter({ keep_last: 1 })).toBeGreaterThan(3_000_000);
    expect(await leaseAfter({ keep_last: 1, dry_run: true })).toBeLessThan(10_000);
  });

  it.each([
    [{ keep_lats: 1 }, "/keep_lats"],
    [{ keep_last: -1 }, "/keep_last"],
    [{ keep_last: 1.5 }, "/keep_last"],
    [{ keep_last: "1" }, "/keep_last"],
    [{ keep_last: 1e12 }, "/keep_last"],
    [{ keep_days: 36_501 }, "/keep_days"],
    [{ keep_daily_days: true }, "/keep_daily_days"],
    [{ dry_run: "yes" }, "/dry_run"],
    [[], ""],
  ])("is 422 for %j, which names %s", async (body, pointer) => {
    const id = await createWith(2);
    const answer = await prune(id, body);
    expect([answer.status, answer.body.errors.map((one: { pointer: string }) => one.pointer)]).toEqual([
      422,
      [pointer],
    ]);
    expect(await numbersOf(id)).toEqual([1, 2]);
  });
});

describe("the rules of a session", () => {
  it("are shown as they were said, without what is null, and null when nothing is left", async () => {
    const id = await service.create({ checkpoint_retention: { keep_last: 5, keep_days: null } });
    const shown = async () => (await service.request("GET", `/sessions/${id}`)).body.checkpoint_retention;
    expect(await shown()).toEqual({ keep_last: 5 });
    const all = { keep_last: 1, keep_days: 2, keep_daily_days: 3 };
    const changed = await service.request("PATCH", `/sessions/${id}`, { checkpoint_retention: all });
    expect(changed.body).toMatchObject({ checkpoint_retention: all, version: 2 });
    await service.request("PATCH", `/sessions/${id}`, { checkpoint_retention: {} });
    expect(await shown()).toBeNull();
  });

  it.each([
    [{ keep_last: -1 }, "/checkpoint_retention/keep_last"],
    [{ keep_last: 1, for: "ever" }, "/checkpoint_retention/for"],
    [7, "/checkpoint_retention"],
  ])("are 422 as %j", async (rules, pointer) => {
    const answer = await service.request("PATCH", `/sessions/${await service.create()}`, {
      checkpoint_retention: rules,
    });
    expect([answer.status, answer.body.errors[0].pointer]).toEqual([422, pointer]);
  });
});
