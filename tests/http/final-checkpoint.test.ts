/** What a session leaves whose work comes to its end without a word: the context that nobody saved. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const quick = { SWEEP_INTERVAL_MS: "100" };

function actor(service: TestService) {
  const kept = (id: string) => service.database.sql`
    select number, type, data::text as data, bytes, context::text as context, context_bytes, session_version, created_by, id
    from checkpoints where session_id = ${id} order by number`;
  const shown = async (id: string) => (await service.request("GET", `/sessions/${id}`)).body;
  return {
    kept,
    shown,
    patch: (id: string, body: unknown) => service.request("PATCH", `/sessions/${id}`, body),
    ended: (id: string) => until(async () => (await shown(id)).ended_at !== null, "the end of the session"),
  };
}

describe("a session that crashes", () => {
  let service: TestService;
  let act: ReturnType<typeof actor>;
  beforeAll(async () => {
    service = await startTestService(quick);
    act = actor(service);
  });
  afterAll(() => service.stop());

  it("by a timer leaves a recovery point with its context, where that has changed since the last checkpoint", async () => {
    const id = await service.create({ timeout_seconds: 1, context: { a: 1 }, checkpoint: { step: 1 } });
    await act.patch(id, { context: { a: 2 } });
    await act.ended(id);
    const session = await act.shown(id);
    expect(session).toMatchObject({ phase: "timed_out", version: 3, checkpoint: { step: 1 }, checkpoint_count: 2 });
    const rows = await act.kept(id);
    expect(rows).toHaveLength(2);
    expect(rows[1]).toMatchObject({
      number: 2,
      type: "recovery_point",
      data: '{"step": 1}',
      bytes: 11,
      context: '{"a": 2}',
      context_bytes: 8,
      session_version: 3,
      created_by: "sweeper",
    });
    const [event] = await service.database.sql`
      select event_id, sequence from events where session_id = ${id} order by sequence desc limit 1`;
    expect(event).toMatchObject({ event_id: rows[1]?.["id"], sequence: 3 });
  });

  it("on request does so too, also with the context that the request brings, and without a checkpoint before", async () => {
    const id = await service.create();
    expect((await act.patch(id, { status: "crashed", context: { late: true } })).status).toBe(200);
    expect(await act.kept(id)).toMatchObject([
      { number: 1, type: "recovery_point", data: "{}", bytes: 2, context: '{"late": true}', session_version: 2 },
    ]);
    expect(await act.shown(id)).toMatchObject({ checkpoint: null, checkpoint_count: 1, version: 2 });

    const other = await service.create({ context: { a: 1 } });
    expect((await service.request("POST", `/sessions/${other}/crash`, { reason: "why" })).status).toBe(200);
    expect(await act.kept(other)).toMatchObject([{ type: "recovery_point", context: '{"a": 1}' }]);
  });

  it("leaves none where the context is saved, with the checkpoint that it saves itself, or before", async () => {
    const saved = await service.create({ context: { a: 1 } });
    await act.patch(saved, { checkpoint: { step: 1 } });
    await act.patch(saved, { status: "crashed" });
    expect(await act.kept(saved)).toMatchObject([{ type: "manual", context: null }]);

    const both = await service.create({ context: { a: 1 } });
    await act.patch(both, { status: "crashed", context: { a: 2 }, checkpoint: { step: 1 } });
    expect(await act.kept(both)).toMatchObject([{ type: "manual", data: '{"step": 1}' }]);

    const empty = await service.create();
    await act.patch(empty, { status: "crashed" });
    expect(await act.kept(empty)).toEqual([]);
  });

  it("leaves one where only another line saved something, unless that has the context with it", async () => {
    const save = async (fields: object) => {
      const id = await service.create({ context: { a: 1 } });
      const body = { data: { of: "another" }, checkpoint_ns: "reviewer", ...fields };
      expect((await service.request("POST", `/sessions/${id}/checkpoints`, body)).status).toBe(201);
      await act.patch(id, { status: "crashed" });
      return (await act.kept(id)).map(({ type }) => type);
    };
    expect(await save({})).toEqual(["manual", "recovery_point"]);
    expect(await save({ include_context: true })).toEqual(["manual"]);
  });

  it("leaves one for each crash that lost something", async () => {
    const id = await service.create({ context: { a: 1 } });
    const crash = async () => expect((await act.patch(id, { status: "crashed" })).status).toBe(200);
    const goOn = async () => {
      await service.request("POST", `/sessions/${id}/recover`, {});
      expect((await act.patch(id, { phase: "running" })).status).toBe(200);
    };
    await crash();
    await goOn();
    await crash();
    expect(await act.kept(id)).toHaveLength(1);
    await goOn();
    await act.patch(id, { context: { a: 2 } });
    await crash();
    expect((await act.kept(id)).map(({ context }) => context)).toEqual(['{"a": 1}', '{"a": 2}']);
  });

  it("or is set aside otherwise, or completed, leaves none", async () => {
    for (const status of ["paused", "completed"]) {
      const id = await service.create({ context: { a: 1 } });
      await act.patch(id, { status });
      expect(await act.kept(id), status).toEqual([]);
    }
  });
});

describe("with FINAL_CHECKPOINTS=all, a session that completes", () => {
  it("leaves one of type auto", async () => {
    await using service = await startTestService({ ...quick, FINAL_CHECKPOINTS: "all" });
    const act = actor(service);
    const id = await service.create({ context: { a: 1 } });
    await act.patch(id, { status: "completed" });
    expect(await act.kept(id)).toMatchObject([{ type: "auto", data: "{}", context: '{"a": 1}' }]);
  });
});

describe("with FINAL_CHECKPOINTS=off, a session that crashes", () => {
  it("leaves none", async () => {
    await using service = await startTestService({ ...quick, FINAL_CHECKPOINTS: "off" });
    const act = actor(service);
    const [timed, asked] = [
      await service.create({ timeout_seconds: 1, context: { a: 1 } }),
      await service.create({ context: { a: 1 } }),
    ];
    await act.patch(asked, { status: "crashed" });
    await act.ended(timed);
    for (const id of [timed, asked]) expect(await act.kept(id)).toEqual([]);
  });
});
