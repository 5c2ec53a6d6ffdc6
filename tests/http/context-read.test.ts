import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

describe("GET /sessions/{id}/context", () => {
  let service: TestService;
  let id: string;
  beforeAll(async () => {
    service = await startTestService();
    const context =
      '{"messages":[{"role":"user"},{"n":1.0}],"a/b":{"m~n":12345678901234567890},"":null,"01":"member","__proto__":{"x":1}}';
    const answer = await service.request(
      "POST",
      "/sessions/",
      `{"agent_id":"550e8400-e29b-41d4-a716-446655440000","context":${context}}`,
    );
    id = answer.body.id;
  });
  afterAll(() => service.stop());
  const read = (query = "", headers?: Record<string, string>) =>
    service.request("GET", `/sessions/${id}/context${query}`, undefined, headers);
  const at = (pointer: string) => read(`?pointer=${encodeURIComponent(pointer)}`);

  it("200 with the context, as the session has it, and the session's ETag", async () => {
    const answer = await read();
    const session = await service.request("GET", `/sessions/${id}`);
    expect(answer).toMatchObject({ status: 200, body: session.body.context });
    expect(answer.headers.get("etag")).toBe('"1"');
    expect(answer.headers.get("content-type")).toBe("application/json; charset=utf-8");
    expect(session.text).toContain(answer.text);
    expect((await read("/")).text).toBe(answer.text);
    expect(await service.request("HEAD", `/sessions/${id}/context`)).toMatchObject({ status: 200, text: "" });
  });

  it.each([
    ["", /^\{/],
    ["/messages/0", /^\{"role": "user"\}$/],
    ["/messages/1/n", /^1\.0$/],
    ["/a~1b/m~0n", /^12345678901234567890$/],
    ["/", /^null$/],
    ["/01", /^"member"$/],
    ["/__proto__/x", /^1$/],
  ])("200 with the part at %j, spelled as it was", async (pointer, text) => {
    const answer = await at(pointer);
    expect(answer.status).toBe(200);
    expect(answer.text).toMatch(text);
    expect(answer.headers.get("etag")).toBe('"1"');
  });

  it.each(["/nowhere", "/messages/2", "/messages/-", "/messages/-1", "/messages/01", "/messages/+1", "/messages/ 1"])(
    "404 context_pointer_not_found at %j, where the context has nothing",
    async (pointer) => {
      expect(await at(pointer)).toMatchObject({ status: 404, body: { code: "context_pointer_not_found" } });
    },
  );

  it("404 for a key that can't be, of a session that is", async () => {
    expect(await at("/a\0")).toMatchObject({ status: 404, body: { code: "context_pointer_not_found" } });
    const nobody = "00000000-0000-0000-0000-000000000000";
    expect(await service.request("GET", `/sessions/${nobody}/context?pointer=/a%00`)).toMatchObject({
      status: 404,
      body: { code: "session_not_found" },
    });
  });

  it.each(["messages", "/a~2", "/a~", "#/a"])("422 for %j, which is no JSON Pointer", async (pointer) => {
    expect(await at(pointer)).toMatchObject({
      status: 422,
      body: { code: "validation_failed", errors: [{ parameter: "pointer" }] },
    });
  });

  it("422 for two pointers", async () => {
    expect(await read("?pointer=/a&pointer=/b")).toMatchObject({ status: 422 });
  });

  it("304 while the session has a version that If-None-Match names", async () => {
    for (const known of ['"1"', 'W/"1"', '"7", "1"', "*"]) {
      const answer = await read("?pointer=/messages", { "if-none-match": known });
      expect([answer.status, answer.text, answer.headers.get("etag")], known).toEqual([304, "", '"1"']);
    }
    expect((await read("", { "if-none-match": '"2"' })).status).toBe(200);
  });

  it("404 of a deleted session", async () => {
    const gone = await service.create();
    await service.request("DELETE", `/sessions/${gone}`);
    expect(await service.request("GET", `/sessions/${gone}/context`)).toMatchObject({
      status: 404,
      body: { code: "session_not_found" },
    });
  });
});
