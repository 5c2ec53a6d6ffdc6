import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

describe("GET /sessions/{id}", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  it("200 with and without a trailing slash, with any case of the id, directly", async () => {
    const id = await service.create();
    const answers = await Promise.all(
      [`/sessions/${id}`, `/sessions/${id}/`, `/sessions/${id.toUpperCase()}`].map((path) =>
        service.request("GET", path),
      ),
    );
    for (const answer of answers) expect(answer).toMatchObject({ status: 200, text: answers[0]?.text });
  });

  it("200 to HEAD, with the length and no body", async () => {
    const id = await service.create({ context: { a: "ü" } });
    const get = await service.request("GET", `/sessions/${id}`);
    const head = await service.request("HEAD", `/sessions/${id}`);
    expect(head).toMatchObject({ status: 200, text: "" });
    expect(head.headers.get("content-length")).toBe(String(Buffer.byteLength(get.text)));
    expect(head.headers.get("etag")).toBe('"1"');
  });

  it("304 to the version that the client has, 200 to another", async () => {
    const id = await service.create();
    const get = (tag: string) => service.request("GET", `/sessions/${id}`, undefined, { "if-none-match": tag });
    for (const tag of ['"1"', 'W/"1"', '"7", "1"', "*"]) {
      const answer = await get(tag);
      expect(answer, tag).toMatchObject({ status: 304, text: "" });
      expect(answer.headers.get("etag")).toBe('"1"');
    }
    for (const tag of ['"2"', "1", ""]) expect((await get(tag)).status, tag).toBe(200);
    await service.request("PATCH", `/sessions/${id}`, { status: "paused" });
    expect((await get('"1"')).status).toBe(200);
  });

  it("404 for a session that is not there, an id that is no UUID, and none at all", async () => {
    for (const path of [
      "/sessions/00000000-0000-0000-0000-000000000000",
      "/sessions/abc",
      "/sessions/1",
      "/sessions//",
    ]) {
      const answer = await service.request("GET", path);
      expect(answer, path).toMatchObject({ status: 404, body: { status: 404 } });
    }
    const answer = await service.request("GET", "/sessions/00000000-0000-0000-0000-000000000000");
    expect(answer.body).toMatchObject({
      title: "Session not found",
      detail: "Session not found",
      code: "session_not_found",
    });
  });

  it("404 for a deleted session", async () => {
    const id = await service.create();
    await service.database.sql`update sessions set deleted_at = now() where id = ${id}`;
    expect((await service.request("GET", `/sessions/${id}`)).status).toBe(404);
    expect((await service.request("PATCH", `/sessions/${id}`, {})).status).toBe(404);
  });
});
