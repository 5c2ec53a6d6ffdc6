/** What the rules keep of a session's checkpoints, and how the service removes the rest while others are at work. */

import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from "vitest";
import { readConfig } from "../../src/config.ts";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { startCheckpointRetention } from "../../src/jobs/retain-checkpoints.ts";
import { startService } from "../../src/main.ts";
import {
  type KeepRules,
  newestFirst,
  type PruneMode,
  pruneStep,
  type StepSize,
} from "../../src/sessions/checkpoint-retention.ts";
import { findSessionsToPrune, type WalkPlace } from "../../src/sessions/checkpoint-walk.ts";
import { openSessions } from "../../src/sessions/sessions.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { until } from "../support/until.ts";

let database: TestDatabase;
let pool: Database;
beforeAll(async () => {
  database = await createDatabase();
  pool = openDatabase({ url: database.url, poolSize: 8, prepare: true });
});
afterEach(async () => {
  await database.sql`truncate sessions, checkpoints, events`;
});
afterAll(async () => {
  await pool.close();
  await database.drop();
});

const keepAll: KeepRules = { keep_last: 0, keep_days: 0, keep_daily_days: 0 };
const keepTwo: KeepRules = { ...keepAll, keep_last: 2 };
const inOneGo: StepSize = { looks: 1_000, removals: 1_000, bytes: 1e9 };

interface Checkpoint {
  readonly ns: string;
  readonly hoursAgo: number;
  readonly label: string | null;
  readonly type: string;
}

const plain: Checkpoint = { ns: "", hoursAgo: 0, label: null, type: "manual" };
const several = (count: number): Checkpoint[] => Array.from({ length: count }, () => plain);

/** A session with these checkpoints, numbered from 1. */
async function addSession(
  checkpoints: readonly Checkpoint[],
  { id = randomUUID() as string, namespace = "default", details = null as string | null, now = Date.now() } = {},
): Promise<string> {
  await database.sql`
    insert into sessions (namespace, id, agent_id, created_at, updated_at, last_activity_at, phase_since, details,
      checkpoint, last_checkpoint, checkpoint_count)
    values (${namespace}, ${id}, gen_random_uuid(), now(), now(), now(), now(), ${details}::text::jsonb, '{}',
      ${checkpoints.length}, ${checkpoints.length})`;
  await database.sql`
    insert into checkpoints (namespace, session_id, number, id, checkpoint_ns, type, label, data, bytes, session_version,
      created_at)
    select ${namespace}, ${id}, nth, gen_random_uuid(), c ->> 'ns', c ->> 'type', c ->> 'label', '{}', 2, 1,
      ${new Date(now).toISOString()}::timestamptz - make_interval(hours => (c ->> 'hoursAgo')::int)
    from jsonb_array_elements(${JSON.stringify(checkpoints)}::text::jsonb) with ordinality as t (c, nth)`;
  return id;
}

async function numbersOf(id: string): Promise<number[]> {
  const rows = await database.sql<{ number: number }[]>`
    select number from checkpoints where session_id = ${id} order by number`;
  return rows.map(({ number }) => number);
}

/** Sessions whose count is not that of their checkpoints. */
async function miscounted(): Promise<readonly unknown[]> {
  return database.sql`
    select id, checkpoint_count from sessions s
    where checkpoint_count <> (select count(*) from checkpoints where session_id = s.id)`;
}

/** All steps until the end; what they removed. */
async function pruneWhole(id: string, rules: KeepRules, size: StepSize, mode: PruneMode = "sweep"): Promise<number[]> {
  const removed: number[] = [];
  for (let place = newestFirst, ended = false; !ended; ) {
    const step = await pruneStep(pool, "default", { id, defaults: rules, place, size }, mode);
    if (step.outcome !== "ok") throw new Error(step.outcome);
    expect(step.numbers.length).toBeLessThanOrEqual(size.removals);
    removed.push(...step.numbers);
    ({ place, ended } = step);
  }
  return removed;
}

const hour = 3_600_000;

/** What the rules keep, one checkpoint after the other. */
function keptByModel(checkpoints: readonly Checkpoint[], rules: KeepRules, now: number): number[] {
  const dayOf = ({ hoursAgo }: Checkpoint) => new Date(now - hoursAgo * hour).toISOString().slice(0, 10);
  return checkpoints.flatMap((checkpoint, at) => {
    const later = checkpoints.slice(at + 1).filter(({ ns }) => ns === checkpoint.ns);
    const keeps = [
      later.length === 0,
      rules.keep_last === 0 || later.length < rules.keep_last,
      checkpoint.label !== null || checkpoint.type === "milestone",
      checkpoint.hoursAgo < rules.keep_days * 24,
      checkpoint.hoursAgo < rules.keep_daily_days * 24 && !later.some((one) => dayOf(one) === dayOf(checkpoint)),
    ];
    return keeps.includes(true) ? [at + 1] : [];
  });
}

const histories = fc
  .array(
    fc.record({
      ns: fc.constantFrom("", "", "reviewer", "writer"),
      hoursAgo: fc.integer({ min: 0, max: 24 * 12 }),
      label: fc.constantFrom(null, null, null, null, "before the rewrite"),
      type: fc.constantFrom("manual", "auto", "recovery_point", "manual", "auto", "milestone"),
    }),
    { maxLength: 60, size: "max" },
  )
  .map((all) => all.toSorted((a, b) => b.hoursAgo - a.hoursAgo));
const someRules = fc.record({
  keep_last: fc.constantFrom(0, 1, 1, 2, 3, 10, 100),
  keep_days: fc.constantFrom(0, 0, 1, 3, 30),
  keep_daily_days: fc.constantFrom(0, 0, 2, 7, 30),
});
const sizes = fc.record({
  looks: fc.integer({ min: 1, max: 30 }),
  removals: fc.integer({ min: 1, max: 30 }),
  bytes: fc.constantFrom(1, 5, 1_000),
});

describe("what is kept", () => {
  it("is what a naive model keeps, for any history, rules and size of a step; and a dry run tells the same", async () => {
    await fc.assert(
      fc.asyncProperty(histories, someRules, sizes, async (history, rules, size) => {
        const now = Date.now();
        const id = await addSession(history, { now });
        const kept = keptByModel(history, rules, now);
        const gone = history.map((_, at) => at + 1).filter((number) => !kept.includes(number));
        expect(await pruneWhole(id, rules, size, "look")).toEqual(gone.toReversed());
        expect(await numbersOf(id)).toHaveLength(history.length);
        expect(await pruneWhole(id, rules, size)).toEqual(gone.toReversed());
        expect(await numbersOf(id)).toEqual(kept);
        expect(await miscounted()).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  it("is at least what is kept when a session has more lines than are told apart", async () => {
    const lines = Array.from({ length: 1_500 }, (_, at) => ({ ...plain, ns: `line ${at}` }));
    const id = await addSession([...lines, ...lines, ...lines]);
    await pruneWhole(id, { ...keepAll, keep_last: 1 }, inOneGo);
    const left = await numbersOf(id);
    expect(left.slice(-1_500)).toEqual(Array.from({ length: 1_500 }, (_, at) => at + 3_001));
    expect(left.length).toBeLessThan(4_500);
  });
});

describe("a step", () => {
  it("passes by a session that somebody else has locked, one under a legal hold, and one that is being removed", async () => {
    const [locked, held, going] = await Promise.all([1, 2, 3].map(() => addSession(several(5))));
    await database.sql`update sessions set legal_hold = true where id = ${held ?? ""}`;
    await database.sql`update sessions set deleted_at = now(), purge_requested_at = now() where id = ${going ?? ""}`;
    const step = (id = "") =>
      pruneStep(pool, "default", { id, defaults: keepTwo, place: newestFirst, size: inOneGo }, "sweep");
    await database.sql.begin(async (tx) => {
      await tx`select 1 from sessions where id = ${locked ?? ""} for no key update`;
      expect(await step(locked)).toEqual({ outcome: "not_found" });
    });
    expect(await step(held)).toEqual({ outcome: "legal_hold" });
    expect(await step(going)).toEqual({ outcome: "not_found" });
    expect(await step(locked)).toMatchObject({ outcome: "ok", numbers: [3, 2, 1] });
  });

  it("does nothing when others have removed some since the walk began: what it knew is void", async () => {
    const id = await addSession(several(6));
    const size = { ...inOneGo, looks: 2 };
    const first = await pruneStep(pool, "default", { id, defaults: keepTwo, place: newestFirst, size }, "sweep");
    if (first.outcome !== "ok") throw new Error(first.outcome);
    await database.sql`delete from checkpoints where session_id = ${id} and number = 5`;
    await database.sql`update sessions set checkpoint_count = checkpoint_count - 1 where id = ${id}`;
    const next = await pruneStep(pool, "default", { id, defaults: keepTwo, place: first.place, size }, "sweep");
    expect(next.outcome).toBe("disturbed");
    await pruneWhole(id, keepTwo, size);
    expect(await numbersOf(id)).toEqual([4, 6]);
  });
});

describe("the walk", () => {
  it("comes upon every session that may have too many, once, in all namespaces, and upon no other", async () => {
    const many = several(4);
    const expected = new Set<string>();
    for (const namespace of ["a", "default", "z"]) {
      for (let n = 0; n < 5; n++) expected.add(await addSession(many, { namespace }));
      await addSession(several(2), { namespace });
      await addSession([], { namespace });
      await addSession(many, { namespace, details: '{"checkpoint_retention": {"keep_last": 0}}' });
      expected.add(await addSession(several(2), { namespace, details: '{"checkpoint_retention": {"keep_last": 1}}' }));
    }
    const found: WalkPlace[] = [];
    for (let place: WalkPlace | undefined, more = true; more; ) {
      const next = await findSessionsToPrune(pool, { ...keepAll, keep_last: 3 }, place);
      found.push(...next.sessions);
      place = next.place;
      more = place !== undefined;
    }
    expect(found.map(({ sessionId }) => sessionId).sort()).toEqual([...expected].sort());
  });
});

describe("the retention job", () => {
  it("removes what is too much while others save, several at once too: the counts stay right, the newest stay", async () => {
    const ids = await Promise.all(Array.from({ length: 6 }, () => addSession(several(700))));
    const failures: unknown[] = [];
    const onError = (error: unknown) => failures.push(error);
    const jobs = [1, 2, 3].map(() =>
      startCheckpointRetention({ database: pool, rules: { ...keepAll, keep_last: 10 }, onError, everyMs: 20 }),
    );
    const sessions = openSessions(pool, { coalesce: true });
    let busy = true;
    const saved = new Map(ids.map((id) => [id, 700]));
    const writers = ids.map(async (id) => {
      while (busy) {
        const result = await sessions.update(
          { namespace: "default", requestId: "test" },
          { id, checkpoint: `{"n": ${(saved.get(id) ?? 0) + 1}}` },
        );
        expect(result.outcome).toBe("ok");
        saved.set(id, (saved.get(id) ?? 0) + 1);
        const rows = await database.sql<{ number: number }[]>`
          select number from checkpoints where session_id = ${id} order by number desc limit 10`;
        const last = saved.get(id) ?? 0;
        expect(rows.map(({ number }) => number)).toEqual(Array.from({ length: 10 }, (_, at) => last - at));
        expect(await miscounted()).toEqual([]);
      }
    });
    await until(
      async () => (await database.sql`select 1 from checkpoints where number <= 690`).length === 0,
      "the old ones to go",
    );
    busy = false;
    await Promise.all(writers);
    const left = async () => (await database.sql`select 1 from checkpoints`).length;
    await until(async () => (await left()) === 60, "those saved meanwhile to go");
    for (const job of jobs) await job.stop();
    expect(failures).toEqual([]);
    expect(await miscounted()).toEqual([]);
    for (const id of ids) {
      const last = saved.get(id) ?? 0;
      expect(await numbersOf(id)).toEqual(Array.from({ length: 10 }, (_, at) => last - 9 + at));
    }
  });

  it("goes on with the others when one session can't be pruned, and tells what went wrong", async () => {
    const [bad, good] = await Promise.all([addSession(several(5)), addSession(several(5))]);
    await database.sql`update sessions set details = '{"checkpoint_retention": {"keep_days": 99999999999}}' where id = ${bad}`;
    const failures: unknown[] = [];
    const job = startCheckpointRetention({
      database: pool,
      rules: keepTwo,
      onError: (error) => failures.push(error),
      everyMs: 20,
    });
    await until(async () => (await numbersOf(good)).length === 2, "the good one to be pruned");
    await until(() => failures.length > 0, "the failure to be told");
    await job.stop();
    expect(await numbersOf(bad)).toHaveLength(5);
  });
});

describe("the service", () => {
  it("prunes by itself from its start on, by its settings and by what sessions say of it", async () => {
    const [usual, own] = await Promise.all([
      addSession(several(5)),
      addSession(several(5), { details: '{"checkpoint_retention": {"keep_last": 4}}' }),
    ]);
    const service = await startService(
      readConfig({
        PORT: "0",
        LOG_LEVEL: "silent",
        STOP_DELAY_MS: "0",
        DATABASE_URL: database.url,
        REDIS_URL: inject("redisUrl"),
        CHECKPOINT_KEEP_LAST: "2",
      }),
      () => {},
    );
    await until(async () => (await database.sql`select 1 from checkpoints`).length === 6, "the old ones to go");
    service.stop();
    await service.stopped;
    expect([await numbersOf(usual), await numbersOf(own)]).toEqual([
      [4, 5],
      [2, 3, 4, 5],
    ]);
  });
});
