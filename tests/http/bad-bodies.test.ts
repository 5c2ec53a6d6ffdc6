/** What bad input gets: a problem that says what to do, and nothing changed. */

import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentId, send, startTestService, type TestService } from "../support/service.ts";

describe("a bad body", () => {
  let service: TestService;
  let id: string;
  beforeAll(async () => {
    service = await startTestService({ BODY_LIMIT_BYTES: "100000" });
    id = await service.create({ context: { kept: true } });
  });
  afterAll(() => service.stop());

  const valid = JSON.stringify({ agent_id: agentId });
  const nested = (depth: number) => `${`{"a":`.repeat(depth - 1)}{}${"}".repeat(depth - 1)}`;
  const withContext = (context: string) => `{"agent_id":"${agentId}","context":${context}}`;

  type Case = [what: string, status: number, code: string, body: string | Uint8Array, headers?: Record<string, string>];
  const cases: Case[] = [
    ["empty", 400, "malformed_json", ""],
    ["blank", 400, "malformed_json", "  \n "],
    ["not JSON", 400, "malformed_json", "agent_id=1"],
    ["truncated", 400, "malformed_json", valid.slice(0, -1)],
    ["JSON with a comment", 400, "malformed_json", `${valid}//`],
    ["JSON with a trailing comma", 400, "malformed_json", `{"agent_id":"${agentId}",}`],
    ["two documents", 400, "malformed_json", valid + valid],
    ["a raw control character in a string", 400, "malformed_json", withContext(`{"a":"\u0001"}`)],
    ["UTF-16", 400, "malformed_json", Buffer.from(`\ufeff${valid}`, "utf16le")],
    [
      "invalid UTF-8",
      400,
      "malformed_json",
      Buffer.concat([Buffer.from('{"agent_id":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]),
    ],
    ["an overlong UTF-8 sequence", 400, "malformed_json", Buffer.from([0x22, 0xc0, 0xaf, 0x22])],
    ["an array", 422, "validation_failed", "[]"],
    ["a string", 422, "validation_failed", '"x"'],
    ["null", 422, "validation_failed", "null"],
    ["a number", 422, "validation_failed", "1"],
    ["gzip", 415, "unsupported_media_type", gzipSync(valid), { "content-encoding": "gzip" }],
    [
      "UTF-16 that says so",
      415,
      "unsupported_media_type",
      Buffer.from(valid, "utf16le"),
      { "content-type": "application/json; charset=utf-16" },
    ],
    ["XML", 415, "unsupported_media_type", "<a/>", { "content-type": "application/xml" }],
    [
      "a form with files",
      415,
      "unsupported_media_type",
      "--a--",
      { "content-type": "multipart/form-data; boundary=a" },
    ],
    ["a type that is none", 415, "unsupported_media_type", valid, { "content-type": "json" }],
    ["too large", 413, "body_too_large", withContext(`{"a":"${"x".repeat(100_000)}"}`)],
    ["without agent_id", 422, "validation_failed", "{}"],
    ["agent_id null", 422, "validation_failed", '{"agent_id":null}'],
    ["agent_id that is no UUID", 422, "validation_failed", '{"agent_id":"abc"}'],
    ["agent_id without hyphens", 422, "validation_failed", '{"agent_id":"550e8400e29b41d4a716446655440000"}'],
    ["agent_id a number", 422, "validation_failed", '{"agent_id":1}'],
    ["no agent in agent_ids", 422, "validation_failed", '{"agent_ids":[]}'],
    ["context an array", 422, "validation_failed", withContext("[]")],
    ["context a string", 422, "validation_failed", withContext('"x"')],
    ["context a number", 422, "validation_failed", withContext("1")],
    ["context false", 422, "validation_failed", withContext("false")],
    ["an unknown status", 422, "validation_failed", `{"agent_id":"${agentId}","status":"done"}`],
    ["a status that no session starts in", 422, "validation_failed", `{"agent_id":"${agentId}","status":"paused"}`],
    ["an unknown backend", 422, "validation_failed", `{"agent_id":"${agentId}","runtime_backend":"docker"}`],
    ["an empty session_type", 422, "validation_failed", `{"agent_id":"${agentId}","session_type":""}`],
    ["a NUL character", 422, "unstorable_text", withContext('{"a":["b\\u0000"]}')],
    ["a NUL character in a key", 422, "unstorable_text", withContext('{"a\\u0000":1}')],
    ["a NUL character in an ignored key", 422, "unstorable_text", `{"agent_id":"${agentId}","other":"\\u0000"}`],
    ["a lone high surrogate", 422, "unstorable_text", withContext('{"a":"\\ud800x"}')],
    ["a lone low surrogate", 422, "unstorable_text", withContext('{"a":"\\udc00"}')],
    ["surrogates the wrong way round", 422, "unstorable_text", withContext('{"a":"\\udc00\\ud800"}')],
    ["a number of 401 digits", 422, "number_out_of_range", withContext(`{"a":${"9".repeat(401)}}`)],
    [
      "a number that would be written with 131,072 digits",
      422,
      "number_out_of_range",
      withContext('{"a":[0,1e131071]}'),
    ],
    ["a number as small", 422, "number_out_of_range", withContext('{"a":1e-400}')],
    ["a document 129 levels deep", 422, "nesting_too_deep", withContext(nested(129))],
    ["a document 5,000 levels deep", 422, "nesting_too_deep", withContext(nested(5_000))],
    ["50,000 open brackets", 422, "nesting_too_deep", "[".repeat(50_000)],
  ];

  it.each(cases)("%s: %i %s", async (_, status, code, body, headers) => {
    const before = (await service.request("GET", `/sessions/${id}`)).text;
    for (const [method, path] of [
      ["POST", "/sessions/"],
      ["PATCH", `/sessions/${id}`],
    ] as const) {
      const onlyPost = method === "PATCH" && /agent|starts in|empty session_type/.test(_);
      if (onlyPost) continue;
      const answer = await service.request(method, path, body, headers);
      expect(answer, method).toMatchObject({ status, body: { status, code, instance: path } });
      expect(answer.headers.get("content-type"), method).toBe("application/problem+json");
      expect(answer.body.detail.length).toBeGreaterThan(10);
      expect(answer.body.request_id).toBe(answer.headers.get("x-request-id"));
    }
    expect((await service.request("GET", `/sessions/${id}`)).text).toBe(before);
  });

  it("nothing was created by any of them", async () => {
    const [row] = await service.database.sql`select count(*)::int as sessions from sessions`;
    expect(row?.["sessions"]).toBe(1);
  });

  it("says where: a JSON pointer", async () => {
    const pointers: [body: string, pointer: string][] = [
      [withContext('{"a":[1,{"b/c~d":"\\u0000"}]}'), "/context/a/1/b~1c~0d"],
      [withContext('{"x":"\\"\\\\","a":{"b":[[],{"c":1e999}]}}'), "/context/a/b/1/c"],
      [`{"agent_id":"nope"}`, "/agent_id"],
    ];
    for (const [body, pointer] of pointers) {
      const answer = await service.request("POST", "/sessions/", body);
      expect(answer.status).toBe(422);
      expect(answer.body.errors[0].pointer).toBe(pointer);
    }
  });

  it("lists the words that would do", async () => {
    const status = await service.request("PATCH", `/sessions/${id}`, { status: "done" });
    expect(status.body.detail).toMatch(/active, paused, completed, crashed/);
    const backend = await service.request("PATCH", `/sessions/${id}`, { runtime_backend: "docker" });
    expect(backend.body.detail).toMatch(/local, kubernetes, unknown/);
  });

  it("says all that is wrong at once", async () => {
    const answer = await service.request("POST", "/sessions/", { agent_id: 1, context: [], runtime_backend: "x" });
    expect(answer.body.errors.map((error: { pointer: string }) => error.pointer).sort()).toEqual([
      "/agent_id",
      "/context",
      "/runtime_backend",
    ]);
  });

  it("415 says what would be taken", async () => {
    const answer = await service.request("POST", "/sessions/", "<a/>", { "content-type": "application/xml" });
    expect(answer.headers.get("accept")).toContain("application/json");
  });

  it("answers a million mistakes in few words", async () => {
    const many = await service.request("POST", "/sessions/", `{"agent_ids":[${"0,".repeat(40_000)}0]}`);
    expect(many).toMatchObject({ status: 422, body: { errors: [{ pointer: "/agent_ids" }] } });
    const some = await service.request("POST", "/sessions/", `{"agent_ids":[${"0,".repeat(900)}0]}`);
    expect(some.status).toBe(422);
    expect(some.body.errors).toHaveLength(50);
    expect(some.text.length).toBeLessThan(20_000);
  });

  it("does not let a small body become a large answer", async () => {
    const numbers = await service.request("POST", "/sessions/", withContext(`{"a":[${"1e399,".repeat(3_000)}1]}`));
    expect(numbers).toMatchObject({ status: 422, body: { code: "number_out_of_range" } });
    const fewer = await service.request("POST", "/sessions/", withContext(`{"a":[${"1e399,".repeat(2_000)}1]}`));
    expect(fewer.status).toBe(201);
    await service.database.sql`delete from sessions where id = ${fewer.body.id}`;
  });

  it("a limit that is met exactly is no error", async () => {
    const deep = await service.request("POST", "/sessions/", withContext(nested(128)));
    expect(deep.status).toBe(201);
    const long = await service.request("POST", "/sessions/", withContext(`{"a":${"9".repeat(400)},"b":-1e399}`));
    expect(long.status).toBe(201);
    expect(long.text).toContain("9".repeat(400));
  });

  it("a body without a length, in chunks, is limited too", async () => {
    const chunk = "x".repeat(20_000);
    const body = new ReadableStream({
      start(controller) {
        for (let i = 0; i < 10; i++) controller.enqueue(new TextEncoder().encode(chunk));
        controller.close();
      },
    });
    const init = { method: "POST", body, duplex: "half", headers: { "content-type": "application/json" } };
    const response = await fetch(`${service.url}/sessions/`, init as RequestInit).catch(() => undefined);
    expect(response === undefined || response.status === 413).toBe(true);
    expect((await send(`${service.url}/health/live`, "GET")).status).toBe(200);
  });
});
