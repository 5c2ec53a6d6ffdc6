import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, startTestService, type TestService } from "../support/service.ts";

const mergePatch = { "content-type": "application/merge-patch+json" };
const jsonPatch = { "content-type": "application/json-patch+json" };

describe("an edit that would make a context too large", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ CONTEXT_LIMIT_BYTES: "2000" });
  });
  afterAll(() => service.stop());
  const edits: Readonly<Record<string, (id: string, text: string) => Promise<Answer>>> = {
    "a merge": (id, text) => service.request("PATCH", `/sessions/${id}/context`, { more: text }, mergePatch),
    "a merge on the session": (id, text) =>
      service.request("PATCH", `/sessions/${id}`, { context: { more: text } }, mergePatch),
    "a JSON Patch": (id, text) =>
      service.request("PATCH", `/sessions/${id}/context`, [{ op: "add", path: "/more", value: text }], jsonPatch),
    "an increment": (id, text) => service.request("POST", `/sessions/${id}/context/increment`, { [`/${text}`]: 1 }),
  };

  it.each(Object.keys(edits))("413 document_too_large names the limit and the largest keys, of %s", async (edit) => {
    const id = await service.create({ context: { large: "x".repeat(1_000), small: 1 } });
    const before = (await service.request("GET", `/sessions/${id}`)).text;
    const answer = await edits[edit]?.(id, "y".repeat(1_500));
    expect(answer).toMatchObject({ status: 413, body: { code: "document_too_large", limit_bytes: 2_000 } });
    expect(answer?.body.bytes).toBeGreaterThan(2_500);
    const keys = answer?.body.largest.map(({ key }: { key: string }) => key[0]);
    expect(keys).toEqual(edit === "an increment" ? ["l", "s", "y"] : ["m", "l", "s"]);
    expect((await service.request("GET", `/sessions/${id}`)).text).toBe(before);
    expect((await edits[edit]?.(id, "y".repeat(500)))?.status).toBe(200);
  });

  it("200 where it makes one that is too large smaller", async () => {
    const id = await service.create({ context: { a: "x".repeat(900), b: "y".repeat(900) } });
    const more = JSON.stringify({ c: "z".repeat(900) });
    await service.database.sql`
      update sessions set context = context || ${more}::text::jsonb,
        context_bytes = octet_length((context || ${more}::text::jsonb)::text)
      where id = ${id}`;
    const answer = await service.request("PATCH", `/sessions/${id}/context`, { a: "x".repeat(500) }, mergePatch);
    expect(answer.status).toBe(200);
    expect(answer.body.context_bytes).toBeGreaterThan(2_000);
    const larger = await service.request("PATCH", `/sessions/${id}/context`, { a: "x".repeat(900) }, mergePatch);
    expect(larger.status).toBe(413);
  });
});
