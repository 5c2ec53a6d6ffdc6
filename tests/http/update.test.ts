import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Subscription, startTestService, subscribe, type TestService } from "../support/service.ts";

describe("PATCH /sessions/{id}", () => {
  let service: TestService;
  let events: Subscription;
  beforeAll(async () => {
    service = await startTestService();
    events = await subscribe(service.redisUrl);
  });
  afterAll(async () => {
    await events[Symbol.asyncDispose]();
    await service.stop();
  });
  const patch = (id: string, body: unknown, headers?: Record<string, string>) =>
    service.request("PATCH", `/sessions/${id}`, body, headers);

  it("200 replaces context and checkpoint whole, and leaves what is absent", async () => {
    const id = await service.create({ context: { a: 1, b: 2 }, runtime_metadata: { pid: 1 } });
    const answer = await patch(id, { context: { c: 3 }, checkpoint: { step: 1 } });
    expect(answer).toMatchObject({
      status: 200,
      body: { id, context: { c: 3 }, checkpoint: { step: 1 }, runtime_metadata: { pid: 1 }, version: 2 },
    });
    expect(answer.headers.get("etag")).toBe('"2"');
    expect((await service.request("GET", `/sessions/${id}`)).text).toBe(answer.text);
  });

  it("200 moves updated_at forward with every change, and last_activity_at with it", async () => {
    const id = await service.create();
    let last = "";
    for (let step = 0; step < 20; step++) {
      const { body } = await patch(id, { checkpoint: { step } });
      expect(body.updated_at > last).toBe(true);
      expect(body.last_activity_at).toBe(body.updated_at);
      last = body.updated_at;
    }
  });

  it("200 null clears what can be null, and leaves what can't", async () => {
    const id = await service.create({
      context: { a: 1 },
      checkpoint: { step: 1 },
      runtime_backend: "local",
      runtime_metadata: { pid: 1 },
    });
    const answer = await patch(id, {
      status: null,
      context: null,
      checkpoint: null,
      runtime_backend: null,
      runtime_metadata: null,
    });
    expect(answer.body).toMatchObject({
      status: "active",
      context: { a: 1 },
      checkpoint: null,
      runtime_backend: "local",
      runtime_metadata: { pid: 1 },
      version: 2,
    });
  });

  it("200 without a change: no version, no time, no event", async () => {
    const id = await service.create({
      context: { a: 1.5, b: [1, { c: null }] },
      checkpoint: { step: 1 },
      runtime_backend: "local",
    });
    const before = (await service.request("GET", `/sessions/${id}`)).text;
    const nothing: unknown[] = [
      {},
      { status: "active" },
      { status: "ACTIVE" },
      { phase: "running" },
      { context: { b: [1, { c: null }], a: 1.5 } },
      '{"checkpoint" : {"step":1} }',
      { runtime_backend: "local", runtime_metadata: {} },
      { agent_id: "00000000-0000-0000-0000-000000000000", session_type: "other", id: "x", version: 9 },
      { user_id: "u", user_data: { a: 1 } },
    ];
    for (const body of nothing) {
      const answer = await patch(id, body);
      expect(answer.status).toBe(200);
      expect(answer.text, JSON.stringify(body)).toBe(before);
    }
    await patch(id, { checkpoint: { step: 2 } });
    const seen = await events.ofSession(id, 2);
    expect(seen.map((event) => [event.sequence, event.session_version])).toEqual([
      [1, 1],
      [2, 2],
    ]);
  });

  it("200 thinks 1 and 1.0 different", async () => {
    const id = await service.create({ context: { a: 1 } });
    const answer = await patch(id, '{"context":{"a":1.0}}');
    expect(answer.body.version).toBe(2);
    expect(answer.text).toContain('"context":{"a": 1.0}');
    expect((await patch(id, '{"context":{"a":1.0}}')).body.version).toBe(2);
  });

  it("200 names in the event what really changed, in the order of the schema", async () => {
    const id = await service.create({ context: { a: 1 } });
    await patch(id, {
      runtime_metadata: { pid: 2 },
      runtime_backend: "kubernetes",
      checkpoint: { step: 1 },
      context: { a: 1 },
      status: "paused",
    });
    const [, event] = await events.ofSession(id, 2);
    expect(event?.payload).toMatchObject({
      status: "paused",
      updates: ["status", "phase", "checkpoint", "runtime_backend", "runtime_metadata"],
      from: "running",
      to: "paused",
    });
  });

  it("200 carries the request's id and trace into the event", async () => {
    const id = await service.create();
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const answer = await patch(
      id,
      { status: "paused" },
      { "x-request-id": "my-id.1", traceparent, "x-correlation-id": "c-1" },
    );
    expect(answer.headers.get("x-request-id")).toBe("my-id.1");
    const [, event] = await events.ofSession(id, 2);
    expect(event?.metadata).toEqual({ request_id: "my-id.1", traceparent, correlation_id: "c-1" });
  });

  it("200 sets started_at once, and ended_at while it is over", async () => {
    const id = await service.create({ status: "pending" });
    expect((await service.request("GET", `/sessions/${id}`)).body).toMatchObject({
      phase: "pending",
      started_at: null,
    });
    const running = (await patch(id, { status: "active", phase: "running" })).body;
    expect(running.started_at).toBe(running.updated_at);
    const crashed = (await patch(id, { status: "crashed" })).body;
    expect(crashed).toMatchObject({ ended_at: crashed.updated_at, started_at: running.started_at, attempt: 1 });
    const recovered = (await patch(id, { status: "active" })).body;
    expect(recovered).toMatchObject({
      status: "active",
      phase: "running",
      ended_at: null,
      started_at: running.started_at,
      attempt: 2,
    });
  });

  it("404 for a session that is not there, and for an id that is no UUID", async () => {
    for (const id of ["00000000-0000-0000-0000-000000000000", "abc", "%00", "a b", "x".repeat(900)]) {
      const answer = await patch(id, { status: "paused" });
      expect(answer, id).toMatchObject({
        status: 404,
        body: { code: "session_not_found", detail: "Session not found" },
      });
    }
  });

  it("409 for what the lifecycle does not allow, with what it does", async () => {
    const id = await service.create();
    await patch(id, { status: "completed" });
    const answer = await patch(id, { status: "active" });
    expect(answer).toMatchObject({
      status: 409,
      body: {
        code: "invalid_transition",
        detail: "Invalid state transition: completed → active",
        from: "completed",
        to: "running",
        allowed: [],
      },
    });
    expect((await patch(id, { status: "completed" })).body.version).toBe(2);
  });

  it("412 for another version than If-Match names, and nothing changes", async () => {
    const id = await service.create();
    for (const stale of ['"2"', 'W/"1"', '"abc"', '"0", "7"', "1"]) {
      const answer = await patch(id, { status: "paused" }, { "if-match": stale });
      expect(answer, stale).toMatchObject({ status: 412, body: { code: "precondition_failed" } });
    }
    expect((await patch(id, { status: "paused" }, { "if-match": '"7", "1"' })).body.version).toBe(2);
    expect((await patch(id, { status: "active" }, { "if-match": "*" })).body.version).toBe(3);
    expect((await patch(id, {}, { "if-match": '"1"' })).status).toBe(412);
  });

  it("422 names unknown keys for a client that asks for strictness, which else are ignored", async () => {
    const id = await service.create();
    const answer = await patch(id, { user_id: "u", "a/b": 1 }, { prefer: "respond-async, handling=strict" });
    expect(answer).toMatchObject({ status: 422, body: { errors: [{ pointer: "/user_id" }, { pointer: "/a~1b" }] } });
    const good = await patch(id, { status: "paused" }, { prefer: "handling=strict" });
    expect(good.status).toBe(200);
    expect(good.headers.get("preference-applied")).toBe("handling=strict");
  });

  it("422 for a status and a phase that contradict each other", async () => {
    const id = await service.create();
    expect(await patch(id, { status: "active", phase: "paused" })).toMatchObject({ status: 422 });
  });
});
