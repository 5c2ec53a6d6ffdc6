import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Subscription, startTestService, subscribe, type TestService } from "../support/service.ts";

const mergePatch = { "content-type": "application/merge-patch+json" };

describe("a merge patch (RFC 7396)", () => {
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
  const merge = (id: string, body: unknown, headers?: Record<string, string>) =>
    service.request("PATCH", `/sessions/${id}/context`, body, { ...mergePatch, ...headers });
  const mergeSession = (id: string, body: unknown, headers?: Record<string, string>) =>
    service.request("PATCH", `/sessions/${id}`, body, { ...mergePatch, ...headers });

  it("200 on the context: sets what it names, removes by null, and leaves the rest", async () => {
    const id = await service.create({ context: { a: 1, b: { c: 2, d: 3 }, e: [1, 2] } });
    const answer = await merge(id, { a: null, b: { c: 4, d: null }, e: [3], f: { g: null } });
    expect(answer).toMatchObject({ status: 200, body: { id, version: 2 } });
    expect(answer.body.context).toEqual({ b: { c: 4 }, e: [3], f: {} });
    expect(answer.body.context_bytes).toBe(Buffer.byteLength('{"b": {"c": 4}, "e": [3], "f": {}}'));
    expect(answer.headers.get("etag")).toBe('"2"');
    expect((await service.request("GET", `/sessions/${id}`)).text).toBe(answer.text);
    const [, event] = await events.ofSession(id, 2);
    expect(event?.payload).toMatchObject({ updates: ["context"] });
  });

  it("200 on the session: merges its context, beside the rest", async () => {
    const id = await service.create({
      context: { a: 1, b: 2 },
      checkpoint: { step: 1, more: true },
      runtime_metadata: { pid: 1, host: "h" },
    });
    const answer = await mergeSession(id, {
      context: { b: null, c: 3 },
      checkpoint: { step: 2 },
      runtime_metadata: { pid: 2 },
      status: "paused",
      name: "N",
    });
    expect(answer).toMatchObject({ status: 200, body: { version: 2, status: "paused", name: "N" } });
    expect(answer.body.context).toEqual({ a: 1, c: 3 });
    expect(answer.body.checkpoint).toEqual({ step: 2, more: true });
    expect(answer.body.runtime_metadata).toEqual({ pid: 2, host: "h" });
    expect(answer.body.checkpoint_count).toBe(2);
    const cleared = await mergeSession(id, { context: null, checkpoint: null, name: null });
    expect(cleared.body).toMatchObject({ context: { a: 1, c: 3 }, checkpoint: null, name: null, version: 3 });
    const [, event] = await events.ofSession(id, 2);
    expect(event?.payload).toMatchObject({
      updates: ["status", "phase", "context", "checkpoint", "runtime_metadata", "name"],
      from: "running",
      to: "paused",
    });
  });

  it("200 without a change: no version, no time, no event", async () => {
    const id = await service.create({ context: { a: 1, b: { c: [1] } } });
    const before = (await service.request("GET", `/sessions/${id}`)).text;
    for (const body of [{}, { a: 1 }, { b: {} }, { b: { c: [1] } }, { x: null }, { b: { x: null } }]) {
      expect((await merge(id, body)).text, JSON.stringify(body)).toBe(before);
      expect((await mergeSession(id, { context: body })).text, JSON.stringify(body)).toBe(before);
    }
    const changed = await merge(id, '{"a":1.0}');
    expect(changed.body.version).toBe(2);
    const seen = await events.ofSession(id, 2);
    expect(seen.map((event) => event.session_version)).toEqual([1, 2]);
  });

  it("200 keeps every digit of what it names and of what it does not", async () => {
    const id = await service.create();
    const context = '{"big":123456789012345678901234567890,"exact":1.10,"deep":{"n":0.100,"__proto__":{"a":1}}}';
    await service.request("PATCH", `/sessions/${id}`, `{"context":${context}}`);
    const answer = await merge(id, '{"deep":{"m":2.00},"small":1e-2}');
    for (const text of [
      '"big": 123456789012345678901234567890',
      '"exact": 1.10',
      '"n": 0.100',
      '"m": 2.00',
      '"small": 0.01',
      '"__proto__": {"a": 1}',
    ]) {
      expect(answer.text).toContain(text);
    }
  });

  it("200 takes lists of any length, as documents do", async () => {
    const id = await service.create();
    const messages = Array.from({ length: 2_000 }, (_, n) => n);
    expect((await merge(id, { messages })).body.context).toEqual({ messages });
  });

  it("200 leaves the context unsaved until a checkpoint is saved, with it or after it", async () => {
    const id = await service.create({ context: { a: 1 }, checkpoint: { step: 0 } });
    const isUnsaved = async () =>
      (await service.database.sql`select is_context_unsaved as unsaved from sessions where id = ${id}`)[0]?.["unsaved"];
    await merge(id, { a: 1 });
    expect(await isUnsaved()).toBe(false);
    await merge(id, { a: 2 });
    expect(await isUnsaved()).toBe(true);
    await mergeSession(id, { context: { a: 3 }, checkpoint: { step: 1 } });
    expect(await isUnsaved()).toBe(false);
  });

  it("412 for another version than If-Match names, and nothing changes", async () => {
    const id = await service.create({ context: { a: 1 } });
    expect(await merge(id, { a: 2 }, { "if-match": '"2"' })).toMatchObject({
      status: 412,
      body: { code: "precondition_failed" },
    });
    expect((await merge(id, { a: 2 }, { "if-match": '"1"' })).body).toMatchObject({ context: { a: 2 }, version: 2 });
    expect((await mergeSession(id, { context: { a: 3 } }, { "if-match": '"1"' })).status).toBe(412);
  });

  it("409 lease_lost for a lease that is over; a good one is renewed, also where nothing changes", async () => {
    await service.create({ status: "pending", context: { a: 1 } });
    const claim = await service.request("POST", "/sessions/claim", { worker_id: "w", lease_seconds: 60 });
    const token = String(claim.body.lease_token);
    const first = await merge(claim.body.id, { a: 2 }, { "lease-token": token });
    expect(first.status).toBe(200);
    expect(first.body.lease_expires_at > claim.body.lease_expires_at).toBe(true);
    const same = await merge(claim.body.id, { a: 2 }, { "lease-token": token });
    expect(same.body.version).toBe(first.body.version);
    expect(same.body.lease_expires_at > first.body.lease_expires_at).toBe(true);
    expect(await merge(claim.body.id, { a: 3 }, { "lease-token": "999" })).toMatchObject({
      status: 409,
      body: { code: "lease_lost" },
    });
  });

  it("404 of no session", async () => {
    expect(await merge("00000000-0000-0000-0000-000000000000", { a: 1 })).toMatchObject({
      status: 404,
      body: { code: "session_not_found" },
    });
  });

  it.each(["null", "1", '"a"', "[]", "[1]"])("422 for %s: the context stays an object", async (body) => {
    const id = await service.create({ context: { a: 1 } });
    expect(await merge(id, body)).toMatchObject({
      status: 422,
      body: { code: "validation_failed", errors: [{ pointer: "" }] },
    });
    expect((await service.request("GET", `/sessions/${id}`)).body.context).toEqual({ a: 1 });
  });

  it("422 for a patch nested deeper than a document may be", async () => {
    const id = await service.create();
    const nested = (levels: number) => `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`;
    expect((await merge(id, nested(128))).status).toBe(200);
    expect((await merge(id, nested(128).replaceAll("a", "b"))).status).toBe(200);
    expect(await merge(id, nested(129))).toMatchObject({ status: 422, body: { code: "nesting_too_deep" } });
  });

  it("422 for what can't be stored, wherever it is", async () => {
    const id = await service.create();
    expect(await merge(id, '{"a":{"b":"\\u0000"}}')).toMatchObject({
      status: 422,
      body: { code: "unstorable_text", errors: [{ pointer: "/a/b" }] },
    });
    expect(await merge(id, '{"a":1e999}')).toMatchObject({ status: 422, body: { code: "number_out_of_range" } });
  });

  it("400 for what is no JSON, and for no body", async () => {
    const id = await service.create();
    expect(await merge(id, "{")).toMatchObject({ status: 400, body: { code: "malformed_json" } });
    expect(await merge(id, "")).toMatchObject({ status: 400, body: { code: "malformed_json" } });
  });

  it("415 on the context for any other type: whether to merge or to replace is never guessed", async () => {
    const id = await service.create();
    for (const type of ["application/json", "application/x-www-form-urlencoded", "text/plain"]) {
      const answer = await merge(id, { a: 1 }, { "content-type": type });
      expect(answer, type).toMatchObject({ status: 415, body: { code: "unsupported_media_type" } });
      expect(answer.headers.get("accept")).toBe("application/merge-patch+json, application/json-patch+json");
    }
    expect((await merge(id, { a: 1 }, { "content-type": "Application/Merge-Patch+JSON; charset=utf-8" })).status).toBe(
      200,
    );
  });

  it("415 where there is nothing to merge into, or no way to", async () => {
    const id = await service.create();
    expect((await service.request("PUT", `/sessions/${id}`, { name: "N" }, mergePatch)).status).toBe(415);
    expect((await service.request("POST", "/sessions/", {}, mergePatch)).status).toBe(415);
    const answer = await service.request("PATCH", `/sessions/${id}`, [], {
      "content-type": "application/json-patch+json",
    });
    expect(answer.status).toBe(415);
    expect(answer.headers.get("accept")).toBe("application/json, application/merge-patch+json");
  });
});
