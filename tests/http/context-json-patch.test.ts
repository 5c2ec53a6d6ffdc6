import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Subscription, startTestService, subscribe, type TestService } from "../support/service.ts";

describe("a JSON Patch (RFC 6902)", () => {
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
    service.request("PATCH", `/sessions/${id}/context`, body, {
      "content-type": "application/json-patch+json",
      ...headers,
    });

  it("200 applies its operations, in their order, and publishes the change", async () => {
    const id = await service.create({ context: { task: "a", messages: [1], done: {} } });
    const answer = await patch(id, [
      { op: "test", path: "/task", value: "a" },
      { op: "add", path: "/messages/-", value: { text: "hi" } },
      { op: "move", from: "/messages/0", path: "/done/first" },
      { op: "copy", from: "/done", path: "/copy" },
      { op: "replace", path: "/task", value: null },
      { op: "remove", path: "/done" },
    ]);
    expect(answer).toMatchObject({ status: 200, body: { version: 2 } });
    expect(answer.body.context).toEqual({ task: null, messages: [{ text: "hi" }], copy: { first: 1 } });
    expect(answer.headers.get("etag")).toBe('"2"');
    expect((await service.request("GET", `/sessions/${id}`)).text).toBe(answer.text);
    const [, event] = await events.ofSession(id, 2);
    expect(event?.payload).toMatchObject({ updates: ["context"] });
  });

  it("200 keeps every digit of what it writes, moves, and leaves alone", async () => {
    const id = await service.create();
    await service.request("PATCH", `/sessions/${id}`, '{"context":{"a":1.0,"b":12345678901234567890123,"c":0.10}}');
    const answer = await patch(
      id,
      '[{"op":"move","from":"/b","path":"/moved"},{"op":"add","path":"/n","value":98765432109876543210.50}]',
    );
    expect(answer.text).toContain(
      '{"a": 1.0, "c": 0.10, "n": 98765432109876543210.50, "moved": 12345678901234567890123}',
    );
  });

  it("200 without a change: no version, no event", async () => {
    const id = await service.create({ context: { a: 1 } });
    const before = (await service.request("GET", `/sessions/${id}`)).text;
    for (const body of [
      [],
      [{ op: "test", path: "/a", value: 1 }],
      [{ op: "replace", path: "/a", value: 1 }],
      [
        { op: "add", path: "/b", value: 1 },
        { op: "remove", path: "/b" },
      ],
      [{ op: "move", from: "/a", path: "/a" }],
    ]) {
      expect((await patch(id, body)).text, JSON.stringify(body)).toBe(before);
    }
  });

  it("409 json_patch_test_failed names the test, and nothing is applied", async () => {
    const id = await service.create({ context: { a: 1 } });
    for (const test of [
      { op: "test", path: "/a", value: 2 },
      { op: "test", path: "/b", value: null },
    ]) {
      const answer = await patch(id, [
        { op: "replace", path: "/a", value: 1 },
        { op: "add", path: "/c", value: 1 },
        test,
      ]);
      expect(answer).toMatchObject({
        status: 409,
        body: { code: "json_patch_test_failed", errors: [{ pointer: "/2" }] },
      });
    }
    expect((await service.request("GET", `/sessions/${id}`)).body).toMatchObject({ context: { a: 1 }, version: 1 });
  });

  it.each([
    [{ op: "remove", path: "/x" }, /nothing at its path/],
    [{ op: "copy", from: "/x", path: "/y" }, /nothing at its from/],
    [{ op: "add", path: "/x/y", value: 1 }, /to add to/],
    [{ op: "add", path: "/list/01", value: 1 }, /no such place/],
    [{ op: "move", from: "/list", path: "/list/0" }, /into itself/],
    [{ op: "replace", path: "", value: [] }, /no JSON object/],
    [{ op: "remove", path: "" }, /no JSON object/],
  ])("422 json_patch_failed for %j, and nothing is applied", async (operation, why) => {
    const id = await service.create({ context: { a: 1, list: [1] } });
    const answer = await patch(id, [{ op: "replace", path: "/a", value: 2 }, operation]);
    expect(answer).toMatchObject({
      status: 422,
      body: {
        code: "json_patch_failed",
        detail: expect.stringMatching(why),
        errors: [{ pointer: "/1", detail: expect.stringMatching(why) }],
      },
    });
    expect((await service.request("GET", `/sessions/${id}`)).body).toMatchObject({ context: { a: 1 }, version: 1 });
  });

  it("422 validation_failed for what is no patch, with all that is wrong", async () => {
    const id = await service.create();
    const answer = await patch(id, [
      { op: "spam", path: "/a" },
      { op: "add", path: "a" },
      { op: "move", path: "/a", from: "/~2" },
      7,
    ]);
    expect(answer).toMatchObject({ status: 422, body: { code: "validation_failed" } });
    expect(answer.body.errors.map(({ pointer }: { pointer: string }) => pointer)).toEqual([
      "/0/op",
      "/1/path",
      "/1/value",
      "/2/from",
      "/3",
    ]);
    for (const body of [{}, "null", "1", Array(1_001).fill({ op: "test", path: "", value: {} })]) {
      expect(await patch(id, body)).toMatchObject({ status: 422, body: { code: "validation_failed" } });
    }
  });

  it("422 for a value that would be nested deeper than a document may be, or that can't be stored", async () => {
    const id = await service.create({ context: { a: { b: {} } } });
    const nested = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`;
    const add = (levels: number) => `[{"op":"add","path":"/a/b/c","value":${nested(levels)}}]`;
    expect((await patch(id, add(125))).status).toBe(200);
    expect(await patch(id, add(126))).toMatchObject({ status: 422, body: { code: "nesting_too_deep" } });
    expect(await patch(id, '[{"op":"add","path":"/\\u0000","value":1}]')).toMatchObject({
      status: 422,
      body: { code: "unstorable_text", errors: [{ pointer: "/0/path" }] },
    });
  });

  it("404, 412 and 409 lease_lost as for any change", async () => {
    const operations = [{ op: "add", path: "/a", value: 1 }];
    const id = await service.create();
    expect((await patch("00000000-0000-0000-0000-000000000000", operations)).body.code).toBe("session_not_found");
    expect((await patch(id, operations, { "if-match": '"9"' })).body.code).toBe("precondition_failed");
    expect((await patch(id, operations, { "lease-token": "3" })).body.code).toBe("lease_lost");
    expect((await patch(id, operations, { "if-match": '"1"' })).body.version).toBe(2);
  });
});
