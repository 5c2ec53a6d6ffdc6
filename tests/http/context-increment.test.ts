import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

describe("POST /sessions/{id}/context/increment", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());
  const add = (id: string, body: unknown, headers?: Record<string, string>) =>
    service.request("POST", `/sessions/${id}/context/increment`, body, headers);

  it("200 adds to numbers, wherever they are; a member that is not there counts as 0", async () => {
    const id = await service.create({ context: { progress: 1, tokens: { input: 10 }, list: [1, 2], "a/b": 5 } });
    const answer = await add(id, {
      "/progress": 1,
      "/tokens/input": 250,
      "/tokens/output": 7,
      "/list/1": -3,
      "/a~1b": 0.5,
    });
    expect(answer).toMatchObject({ status: 200, body: { version: 2 } });
    expect(answer.body.context).toEqual({
      progress: 2,
      tokens: { input: 260, output: 7 },
      list: [1, -1],
      "a/b": 5.5,
    });
    expect(answer.headers.get("etag")).toBe('"2"');
    expect((await service.request("GET", `/sessions/${id}`)).text).toBe(answer.text);
  });

  it("200 adds exactly, beyond what a double holds", async () => {
    const id = await service.create();
    await service.request("PATCH", `/sessions/${id}`, '{"context":{"a":12345678901234567890,"b":0.1}}');
    const answer = await add(id, '{"/a":1,"/b":0.20,"/c":98765432109876543210}');
    expect(answer.text).toContain('{"a": 12345678901234567891, "b": 0.30, "c": 98765432109876543210}');
  });

  it("200 without a change where 0 is added: no version", async () => {
    const id = await service.create({ context: { a: 1 } });
    expect((await add(id, { "/a": 0 })).body.version).toBe(1);
    expect((await add(id, {})).body.version).toBe(1);
  });

  it.each([
    ["/word", "a text"],
    ["/none", "null"],
    ["/object", "an object"],
    ["/missing/member", "a member of what is not there"],
    ["/list/7", "an element that is not there"],
    ["/list/-", "no element"],
    ["/n/member", "a member of a number"],
    ["", "the context itself"],
  ])("422 not_a_number at %j, %s, and nothing is added anywhere", async (pointer) => {
    const context = { n: 1, word: "x", none: null, object: {}, list: [1] };
    const id = await service.create({ context });
    const answer = await add(id, { "/n": 1, [pointer]: 1 });
    expect(answer).toMatchObject({
      status: 422,
      body: { code: "not_a_number", errors: [{ pointer: `/${pointer.replaceAll("/", "~1")}` }] },
    });
    expect((await service.request("GET", `/sessions/${id}`)).body).toMatchObject({ context, version: 1 });
  });

  it("422 for keys that are no pointers, and amounts that are no numbers, with all that is wrong", async () => {
    const id = await service.create();
    const answer = await add(id, { progress: 1, "/a": "1", "/b": null, "/c": { d: 1 }, "/~": 1 });
    expect(answer).toMatchObject({ status: 422, body: { code: "validation_failed" } });
    expect(answer.body.errors.map(({ pointer }: { pointer: string }) => pointer)).toEqual([
      "/progress",
      "/~1a",
      "/~1b",
      "/~1c",
      "/~1~0",
    ]);
    for (const body of ["[]", "null", "1"]) expect((await add(id, body)).status, body).toBe(422);
    const many = Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`/n${n}`, 1]));
    expect((await add(id, many)).status).toBe(422);
  });

  it("422 for a sum with more digits than a number may have", async () => {
    const id = await service.create();
    await service.request("PATCH", `/sessions/${id}`, '{"context":{"n":1e399}}');
    expect(await add(id, '{"/n":1e-399}')).toMatchObject({
      status: 422,
      body: { code: "number_out_of_range", errors: [{ pointer: "/~1n" }] },
    });
  });

  it("404, 412 and 409 lease_lost as for any change", async () => {
    const id = await service.create();
    expect((await add("00000000-0000-0000-0000-000000000000", { "/a": 1 })).body.code).toBe("session_not_found");
    expect((await add(id, { "/a": 1 }, { "if-match": '"9"' })).body.code).toBe("precondition_failed");
    expect((await add(id, { "/a": 1 }, { "lease-token": "3" })).body.code).toBe("lease_lost");
  });
});
