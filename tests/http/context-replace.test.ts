import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Subscription, startTestService, subscribe, type TestService } from "../support/service.ts";

describe.each(["POST", "PUT"])("%s /sessions/{id}/context", (method) => {
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
  const replace = (id: string, body: unknown, headers?: Record<string, string>) =>
    service.request(method, `/sessions/${id}/context`, body, headers);

  it("200 replaces the context whole; the summary goes into the event", async () => {
    const id = await service.create({ context: { a: 1 } });
    const answer = await replace(id, '{"context":{"b":2.0},"change_summary":"Took up b"}');
    expect(answer).toMatchObject({ status: 200, body: { context: { b: 2 }, version: 2 } });
    expect(answer.text).toContain('"context":{"b": 2.0}');
    expect(answer.headers.get("etag")).toBe('"2"');
    expect((await replace(id, { context: { c: 3 } })).body).toMatchObject({ context: { c: 3 }, version: 3 });
    const [, first, second] = await events.ofSession(id, 3);
    expect(first?.payload).toMatchObject({ updates: ["context"], change_summary: "Took up b" });
    expect(second?.payload).not.toHaveProperty("change_summary");
  });

  it("200 without a change, whatever the summary: no version, no event", async () => {
    const id = await service.create({ context: { a: 1 } });
    const before = (await service.request("GET", `/sessions/${id}`)).text;
    expect((await replace(id, { context: { a: 1 }, change_summary: "nothing" })).text).toBe(before);
  });

  it.each([
    ["{}", "/context"],
    ['{"context":null}', "/context"],
    ['{"context":[]}', "/context"],
    ['{"context":{},"change_summary":7}', "/change_summary"],
    [`{"context":{},"change_summary":"${"x".repeat(2_001)}"}`, "/change_summary"],
  ])("422 for %.60s", async (body, pointer) => {
    const id = await service.create();
    expect(await replace(id, body)).toMatchObject({
      status: 422,
      body: { code: "validation_failed", errors: [{ pointer }] },
    });
  });

  it("404, 412 and 409 lease_lost as for any change", async () => {
    const id = await service.create();
    expect((await replace("00000000-0000-0000-0000-000000000000", { context: {} })).body.code).toBe(
      "session_not_found",
    );
    expect((await replace(id, { context: { a: 1 } }, { "if-match": '"9"' })).body.code).toBe("precondition_failed");
    expect((await replace(id, { context: { a: 1 } }, { "lease-token": "3" })).body.code).toBe("lease_lost");
    expect((await replace(id, { context: { a: 1 }, lease_token: 3 })).body.code).toBe("lease_lost");
  });
});

it("a POST is done once under its Idempotency-Key", async () => {
  await using service = await startTestService();
  const id = await service.create({ context: { n: 0 } });
  const key = { "idempotency-key": "k" };
  const body = { context: { n: 1 }, change_summary: "s" };
  const first = await service.request("POST", `/sessions/${id}/context`, body, key);
  const again = await service.request("POST", `/sessions/${id}/context`, body, key);
  expect(again.headers.get("idempotent-replayed")).toBe("true");
  expect(again.text).toBe(first.text);
  const added = () =>
    service.request("POST", `/sessions/${id}/context/increment`, { "/n": 1 }, { "idempotency-key": "i" });
  expect((await added()).body.context).toEqual({ n: 2 });
  expect((await added()).body.context).toEqual({ n: 2 });
});
