/** Pointers and edits that would take more time than they are worth. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

describe("a pointer with more parts than documents are deep", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  const long = "/01".repeat(300_000);

  it("422, at once, in an increment and in a JSON Patch", async () => {
    const id = await service.create();
    const began = performance.now();
    const increment = await service.request("POST", `/sessions/${id}/context/increment`, { [long]: 1 });
    const operations = [{ op: "remove", path: long }];
    const type = { "content-type": "application/json-patch+json" };
    const patch = await service.request("PATCH", `/sessions/${id}/context`, operations, type);
    expect([increment.status, patch.status]).toEqual([422, 422]);
    expect(performance.now() - began).toBeLessThan(2_000);
    const deepest = "/a".repeat(128);
    expect((await service.request("GET", `/sessions/${id}/context?pointer=${deepest}`)).status).toBe(404);
    expect((await service.request("GET", `/sessions/${id}/context?pointer=${deepest}/a`)).status).toBe(422);
  });

  it("422 for more numbers, and more operations, than so large a context takes at once", async () => {
    const id = await service.create({ context: { text: "x".repeat(2_000_000) } });
    const numbers = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`/n${n}`, 1]));
    const increment = await service.request("POST", `/sessions/${id}/context/increment`, numbers);
    expect([increment.status, increment.body.detail]).toEqual([422, expect.stringMatching(/at most \d+ members/)]);
    const operations = Array.from({ length: 200 }, (_, n) => ({ op: "add", path: `/m${n}`, value: 1 }));
    const type = { "content-type": "application/json-patch+json" };
    const patch = await service.request("PATCH", `/sessions/${id}/context`, operations, type);
    expect([patch.status, patch.body.code]).toEqual([422, "json_patch_failed"]);
    expect((await service.request("GET", `/sessions/${id}`)).body.version).toBe(1);
  });
});
