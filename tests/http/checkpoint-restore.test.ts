/** POST /sessions/{id}/checkpoints/{number}/restore: an earlier one is the current one again, and nothing is lost. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const get = (path: string) => service.request("GET", path);
const save = (id: string, body: unknown) => service.request("POST", `/sessions/${id}/checkpoints`, body);
const restore = (id: string, number: number | string, body?: unknown, headers?: Record<string, string>) =>
  service.request("POST", `/sessions/${id}/checkpoints/${number}/restore`, body, headers);

async function lastEvent(id: string) {
  return (await get(`/sessions/${id}/events?order=desc&limit=1`)).body[0];
}

/** A session with three checkpoints, the first of which keeps a context. */
async function withHistory(): Promise<string> {
  const id = await service.create({ context: { at: 1 } });
  await save(id, { data: { step: 1, n: 1.5 }, include_context: true, label: "start" });
  await service.request("PATCH", `/sessions/${id}`, { context: { at: 2 }, checkpoint: { step: 2 } });
  await save(id, { data: { step: 3 } });
  return id;
}

describe("restoring a checkpoint", () => {
  it("200 with the session, which shows it: a new version, a new event, a new checkpoint, the history as it was", async () => {
    const id = await withHistory();
    const before = (await get(`/sessions/${id}/checkpoints?include=data,context`)).body;
    const answer = await restore(id, 1);
    expect([answer.status, answer.headers.get("etag")]).toEqual([200, '"5"']);
    expect(answer.body).toMatchObject({
      version: 5,
      checkpoint: { step: 1, n: 1.5 },
      context: { at: 2 },
      checkpoint_count: 4,
    });
    expect((await get(`/sessions/${id}`)).text).toBe(answer.text);
    const location = answer.headers.get("location") ?? "";
    expect(location).toBe(`/sessions/${id}/checkpoints/4`);
    const event = await lastEvent(id);
    expect(event).toMatchObject({
      event_type: "session.updated",
      session_version: 5,
      payload: { updates: ["checkpoint"] },
    });
    expect((await get(location)).body).toMatchObject({
      id: event.event_id,
      number: 4,
      type: "manual",
      label: null,
      description: "restored from 1",
      data: { step: 1, n: 1.5 },
      context: null,
      session_version: 5,
    });
    expect((await get(`/sessions/${id}/checkpoints?include=data,context`)).body.slice(1)).toEqual(before);
  });

  it("200 with the context too, where that is asked for, and the event says so", async () => {
    const id = await withHistory();
    const answer = await restore(id, 1, {
      restore_context: true,
      label: "back",
      description: "it failed",
      created_by: "me",
    });
    expect(answer.body).toMatchObject({ checkpoint: { step: 1 }, context: { at: 1 }, context_bytes: 9 });
    expect((await lastEvent(id)).payload.updates).toEqual(["context", "checkpoint"]);
    expect((await get(`/sessions/${id}/checkpoints/latest`)).body).toMatchObject({
      context: { at: 1 },
      context_bytes: 9,
      label: "back",
      description: "it failed",
      created_by: "me",
    });
    await restore(id, 1, { restore_context: true });
    expect((await lastEvent(id)).payload.updates).toEqual(["checkpoint"]);
  });

  it("200 after the checkpoint was cleared", async () => {
    const id = await withHistory();
    await service.request("PATCH", `/sessions/${id}`, { checkpoint: null });
    expect((await restore(id, 2)).body).toMatchObject({ checkpoint: { step: 2 } });
  });

  it("200 of another line: the last of that, and the session shows what it showed", async () => {
    const id = await service.create({ checkpoint: { main: 1 } });
    await save(id, { data: { x: 1 }, checkpoint_ns: "x" });
    await save(id, { data: { x: 2 }, checkpoint_ns: "x" });
    expect((await restore(id, 2)).body).toMatchObject({ checkpoint: { main: 1 }, version: 4 });
    expect((await get(`/sessions/${id}/checkpoints/latest?checkpoint_ns=x`)).body).toMatchObject({
      number: 4,
      data: { x: 1 },
    });
  });

  it("200 in whatever phase the session is, and the phase stays", async () => {
    for (const status of ["paused", "completed", "crashed"]) {
      const id = await withHistory();
      await service.request("PATCH", `/sessions/${id}`, { status });
      expect((await restore(id, 1)).body, status).toMatchObject({ status, checkpoint: { step: 1 } });
    }
  });

  it("200 with the word of a vocabulary", async () => {
    const id = await withHistory();
    const answer = await service.request("POST", `/sessions/${id}/checkpoints/1/restore?vocabulary=container`);
    expect(answer.body.state).toBe("READY");
  });

  it("200 once with an Idempotency-Key", async () => {
    const id = await withHistory();
    const headers = { "idempotency-key": "restore-1" };
    const first = await restore(id, 1, undefined, headers);
    const again = await restore(id, 1, undefined, headers);
    expect([again.status, again.text, again.headers.get("idempotent-replayed")]).toEqual([200, first.text, "true"]);
    expect((await get(`/sessions/${id}`)).body.checkpoint_count).toBe(4);
  });

  it("404, 409, 412, 422: refused, and nothing is changed", async () => {
    const id = await withHistory();
    await service.request("POST", `/sessions/${id}/lease`, { worker_id: "w" });
    const before = (await get(`/sessions/${id}`)).text;
    for (const [number, body, headers, status, code] of [
      [9, {}, {}, 404, "checkpoint_not_found"],
      ["x", {}, {}, 404, "checkpoint_not_found"],
      [1, {}, { "if-match": '"1"' }, 412, "precondition_failed"],
      [1, {}, { "lease-token": "9" }, 409, "lease_lost"],
      [1, { lease_token: 9 }, {}, 409, "lease_lost"],
      [3, { restore_context: true }, {}, 422, "validation_failed"],
      [1, { restore_context: 1 }, {}, 422, "validation_failed"],
    ] as const) {
      const answer = await restore(id, number, body, headers);
      expect([answer.status, answer.body.code], JSON.stringify([number, body, headers])).toEqual([status, code]);
    }
    expect((await restore(id, 3, { restore_context: true })).body.errors[0].pointer).toBe("/restore_context");
    expect((await get(`/sessions/${id}`)).text).toBe(before);
    await service.request("DELETE", `/sessions/${id}`);
    expect((await restore(id, 1)).body.code).toBe("session_not_found");
  });
});
