/** Every checkpoint that a session ever showed is kept: in the statement that saved it. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { coalescing } from "../support/coalescing.ts";
import { agentId, startTestService, type TestService } from "../support/service.ts";

describe.each(coalescing)("with coalescing %s, a checkpoint that is saved", (coalesce) => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ COALESCE: coalesce });
  });
  afterAll(() => service.stop());

  const patch = (id: string, body: unknown, headers: Record<string, string> = {}) =>
    service.request("PATCH", `/sessions/${id}`, body, headers);
  const kept = (id: string) => service.database.sql`
    select number, id, type, checkpoint_ns, created_by, data::text as data, bytes, session_version, created_at::text
    from checkpoints where session_id = ${id} order by number`;
  const shown = async (id: string) => (await service.request("GET", `/sessions/${id}`)).body;
  const marked = async (id: string) =>
    (await service.database.sql`select is_context_unsaved as unsaved from sessions where id = ${id}`)[0]?.["unsaved"];

  it("by POST or PATCH, alone or with other fields, is a row of its own, with the next number", async () => {
    const id = await service.create({ checkpoint: { step: 1 } });
    await patch(id, { checkpoint: { step: 2 } }, { "x-actor": "worker-7" });
    await patch(id, { checkpoint: { step: 3 }, context: { a: 1 } });
    await patch(id, { checkpoint: { step: 4 }, status: "paused" });
    await patch(id, { checkpoint: { step: 5 }, name: "named" });
    const rows = await kept(id);
    expect(rows.map(({ number, data }) => [number, data])).toEqual(
      [1, 2, 3, 4, 5].map((step) => [step, `{"step": ${step}}`]),
    );
    expect(rows.map((row) => row["session_version"])).toEqual([1, 2, 3, 4, 5]);
    expect(rows.every((row) => row["bytes"] === 11 && row["type"] === "manual" && row["checkpoint_ns"] === "")).toBe(
      true,
    );
    expect(await shown(id)).toMatchObject({ checkpoint: { step: 5 }, checkpoint_count: 5, context_bytes: 8 });
  });

  it("has the id of the event that tells of it, and its time", async () => {
    const id = await service.create({ checkpoint: { step: 1 } });
    await patch(id, { checkpoint: { step: 2 } });
    const events = await service.database.sql`
      select event_id, created_at::text from events where session_id = ${id} order by sequence`;
    expect((await kept(id)).map((row) => [row["id"], row["created_at"]])).toEqual(
      events.map((event) => [event["event_id"], event["created_at"]]),
    );
  });

  it("is none when nothing changes, when it is cleared, or when something else changes", async () => {
    const id = await service.create({ checkpoint: { step: 1 } });
    await patch(id, { checkpoint: { step: 1 } });
    await patch(id, { context: { a: 1 } });
    await patch(id, { checkpoint: null });
    await patch(id, { status: "paused", reason: "tea" });
    expect(await kept(id)).toHaveLength(1);
    expect(await shown(id)).toMatchObject({ checkpoint: null, checkpoint_count: 1 });
    await patch(id, { checkpoint: { step: 1 } });
    expect((await kept(id)).map(({ number }) => number)).toEqual([1, 2]);
  });

  it("is none when the change is refused", async () => {
    const id = await service.create();
    expect((await patch(id, { checkpoint: { step: 1 } }, { "if-match": '"7"' })).status).toBe(412);
    expect((await patch(id, { checkpoint: { step: 1 }, lease_token: 7 })).status).toBe(409);
    expect(await kept(id)).toEqual([]);
    expect(await shown(id)).toMatchObject({ checkpoint: null, checkpoint_count: 0 });
  });

  it("by many at the same time has one number each, without a gap", async () => {
    const id = await service.create();
    const others = await Promise.all(Array.from({ length: 20 }, () => service.create()));
    await Promise.all(
      Array.from({ length: 40 }, (_, n) => [
        patch(id, { checkpoint: { n } }),
        patch(others[n % 20] ?? "", { checkpoint: { n } }),
      ]).flat(),
    );
    const rows = await kept(id);
    expect(rows.map(({ number }) => number)).toEqual(Array.from({ length: 40 }, (_, n) => n + 1));
    expect(new Set(rows.map(({ data }) => data)).size).toBe(40);
    for (const other of others) expect(await kept(other)).toHaveLength(2);
    expect(await shown(id)).toMatchObject({ checkpoint_count: 40, checkpoint: JSON.parse(rows.at(-1)?.["data"]) });
  });

  it("leaves a mark while the context has changed since", async () => {
    const created = await service.request("POST", "/sessions/", { agent_id: agentId, context: { a: 1 } });
    const { id } = created.body;
    expect(await marked(id)).toBe(true);
    await patch(id, { checkpoint: { step: 1 } });
    expect(await marked(id)).toBe(false);
    await patch(id, { context: { a: 2 } });
    expect(await marked(id)).toBe(true);
    await patch(id, { checkpoint: null });
    expect(await marked(id)).toBe(true);
    await patch(id, { context: { a: 3 }, checkpoint: { step: 2 } });
    expect(await marked(id)).toBe(false);
    await patch(id, { status: "paused" });
    expect(await marked(id)).toBe(false);
    expect(await marked(await service.create())).toBe(false);
  });
});
