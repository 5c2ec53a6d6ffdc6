/** Fields that are not right: each is a 422 that points at it and says what it must be, and nothing changes. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentId, startTestService, type TestService } from "../support/service.ts";

let service: TestService;
let id: string;
beforeAll(async () => {
  service = await startTestService();
  id = await service.create();
});
afterAll(() => service.stop());

const long = (length: number) => "x".repeat(length);
const timers = [
  "timeout_seconds",
  "waiting_timeout_seconds",
  "idle_timeout_seconds",
  "pending_timeout_seconds",
  "timeout",
];
const whole = /whole number of seconds from 0 \(off\) to 316224000/;
const rfc3339 = /RFC 3339/;

/** What may be said on creation and later. */
const settable: readonly (readonly [field: string, value: unknown, pointer?: string, detail?: RegExp])[] = [
  ...timers.flatMap((field) =>
    [-1, 1.5, 1e12, 1e30, 316_224_001, "30", "", true, [], {}].map((value) => [field, value, "", whole] as const),
  ),
  ...["scheduled_at", "expires_at"].flatMap((field) =>
    [
      "tomorrow",
      "",
      "2031-01-01",
      "2031-02-31T00:00:00Z",
      "2031-01-01T00:00:00",
      "2031-01-01T25:00:00Z",
      "0000-01-01T00:00:00Z",
      "10000-01-01T00:00:00Z",
      "infinity",
      1_767_225_600,
      true,
      {},
    ].map((value) => [field, value, "", rfc3339] as const),
  ),
  ...[0, -1].map((value) => ["max_attempts", value, "", /^must be at least 1$/] as const),
  ...[1_001, 1e12].map((value) => ["max_attempts", value, "", /^must be at most 1000$/] as const),
  ...[1.5, "3", true].map((value) => ["max_attempts", value, "", /^must be a (whole )?number$/] as const),
  ...["true", 1, 0, {}].map((value) => ["auto_recover", value, "", /^must be true or false$/] as const),
  ...["name", "model", "active_agent", "interaction_mode", "created_by"].flatMap((field) =>
    [7, "", long(256), {}, ["a"]].map(
      (value) => [field, value, "", /^must (be a text|have at (least|most) \d+ char)/] as const,
    ),
  ),
  ...["prompt", "starting_prompt"].flatMap((field) =>
    [7, {}, ["a"]].map((value) => [field, value, "", /^must be a text$/] as const),
  ),
  ["prompt", "a\u0000b", ""],
  ["name", "\ud800", ""],
  ...["resources", "guardrails", "metadata"].flatMap((field) =>
    [7, "x", [], [{}], true].map((value) => [field, value, "", /must be a JSON object/] as const),
  ),
  ["metadata", { a: { b: "\u0000" } }, "/a/b"],
  ["repos", [1], "/0", /must be a URL, or an object with a url/],
  ["repos", ["a", null], "/1", /must be a URL, or an object with a url/],
  ["repos", ["a", ["b"]], "/1", /must be a URL, or an object with a url/],
  ["repos", [""], "/0"],
  ["repos", [long(2_049)], "/0"],
  ["repos", [{}], "/0/url"],
  ["repos", [{ url: 7 }], "/0/url"],
  ["repos", [{ url: "a", branch: 7 }], "/0/branch"],
  ["repos", [{ url: "a", branch: "" }], "/0/branch"],
  ["repos", "https://example.com/a.git", ""],
  ["repos", { url: "a" }, ""],
  ["repos", Array.from({ length: 1_001 }, () => "a"), "", /at most 1000 elements/],
  ["agents", ["ada"], "/0", /must be a UUID/],
  ["agents", [7], "/0", /must be a UUID, or an object with an id/],
  ["agents", [null], "/0", /must be a UUID, or an object with an id/],
  ["agents", [{ name: "ada" }], "/0/id", /must be a UUID/],
  ["agents", [{ id: "ada" }], "/0/id", /must be a UUID/],
  ["agents", [{ id: agentId, name: 7 }], "/0/name"],
  ["agents", [{ id: agentId, model: long(256) }], "/0/model"],
  ["agents", [{ id: agentId, config: [] }], "/0/config"],
  ["agents", agentId, ""],
  ["agent_ids", ["ada"], "/0", /must be a UUID/],
  ["agent_ids", agentId, ""],
  ["labels", { a: 1 }, "/a", /must be a text/],
  ["labels", { a: null }, "/a", /must be a text/],
  ["labels", { a: { b: "c" } }, "/a", /must be a text/],
  ["labels", { ok: "1", "a/b": true }, "/a~1b", /must be a text/],
  ["labels", { a: long(256) }, "/a", /255/],
  ["labels", { "": "x" }, "/", /1 to 255 printable/],
  ["labels", { "a\u0007": "x" }, "/a\u0007", /printable/],
  ["labels", JSON.parse('{"__proto__": 1}'), "/__proto__", /must be a text/],
  ["labels", Object.fromEntries(Array.from({ length: 101 }, (_, n) => [n, "x"])), "", /at most 100 keys/],
  ["labels", ["a"], "", /JSON object of texts/],
  ["labels", "team=search", "", /JSON object of texts/],
  ["status", "done", "", /must be one of/],
  ["phase", "done", "", /must be one of/],
  ["state", "done", "", /must be one of/],
];

/** What a change may say, and a creation knows nothing of. */
const changeable: typeof settable = [
  ["exit_requested", "yes", ""],
  ["exit_requested", 1, ""],
  ["auto_resume", "yes", ""],
  ["reason", long(1_025), ""],
  ["reason", "", ""],
  ["reason", 7, ""],
  ...["abc", "7", 0, -1, 1.5, 1e300, true, {}].map(
    (token) => ["lease_token", token, "", /whole number from 1/] as const,
  ),
  ["error", 7, "", /must be a text, or an object of code, message and stack/],
  ["error", [], "", /must be a text, or an object of code, message and stack/],
  ["error", long(16_385), ""],
  ["error", { code: 7 }, "/code"],
  ["error", { code: long(256) }, "/code"],
  ["error", { message: {} }, "/message"],
  ["error", { message: long(16_385) }, "/message"],
  ["error", { stack: 7 }, "/stack"],
  ["error", { stack: "a\u0000" }, "/stack"],
  ["result", "\u0000", ""],
];

/** The body as it is sent: lone surrogates too. */
const bodyOf = (field: string, value: unknown, more: object = {}) => JSON.stringify({ ...more, [field]: value });

const every = [...settable, ...changeable].map(
  ([field, value, pointer = "", detail = /./]): [string, unknown, string, RegExp] => [field, value, pointer, detail],
);

describe.each(every)("%s: %j", (field, value, pointer, detail) => {
  const isSettable = settable.some(([one]) => one === field);
  const routes: [string, () => string, object][] = [
    ["PATCH", () => `/sessions/${id}`, {}],
    ["PUT", () => `/sessions/${id}`, {}],
    ...(isSettable ? [["POST", () => "/sessions/", { agent_id: agentId }] as [string, () => string, object]] : []),
  ];

  it("422 points at it", async () => {
    for (const [method, path, more] of routes) {
      const answer = await service.request(method, path(), bodyOf(field, value, more));
      expect([method, answer.status]).toEqual([method, 422]);
      const [error, ...others] = answer.body.errors;
      expect([method, error.pointer, others]).toEqual([method, `/${field}${pointer}`, []]);
      expect(error.detail).toMatch(detail);
      expect(error.detail).not.toMatch(/^Invalid input$/);
    }
    expect((await service.request("GET", `/sessions/${id}`)).body.version).toBe(1);
  });
});

describe("a request that is wrong", () => {
  it("422 in several places names each of them", async () => {
    const answer = await service.request("PATCH", `/sessions/${id}`, {
      timeout_seconds: -1,
      labels: { a: 1, b: "ok", c: 2 },
      repos: ["ok", 7],
      scheduled_at: "tomorrow",
    });
    const pointers = answer.body.errors.map(({ pointer }: { pointer: string }) => pointer);
    expect(pointers.sort()).toEqual(["/labels/a", "/labels/c", "/repos/1", "/scheduled_at", "/timeout_seconds"]);
  });

  it.each(["abc", "0", "1.5", "-1", "", "1e3", "99999999999999999999"])("422 for Lease-Token: %s", async (token) => {
    const answer = await service.request("PATCH", `/sessions/${id}`, { context: {} }, { "lease-token": token });
    expect(answer).toMatchObject({ status: 422, body: { errors: [{ parameter: "Lease-Token" }] } });
  });

  it("422 for a Lease-Token that is not the body's", async () => {
    const answer = await service.request("PATCH", `/sessions/${id}`, { lease_token: 1 }, { "lease-token": "2" });
    expect(answer).toMatchObject({ status: 422, body: { errors: [{ parameter: "Lease-Token" }] } });
  });

  it("422 without an agent, whichever way none is named", async () => {
    for (const body of [{}, { agent_id: null }, { agents: [] }, { agent_ids: [] }, { agents: null, agent_ids: null }]) {
      const answer = await service.request("POST", "/sessions/", body);
      expect(answer).toMatchObject({ status: 422, body: { errors: [{ pointer: "/agent_id" }] } });
    }
  });

  it("the largest that is taken is taken", async () => {
    const fields = {
      timeout_seconds: 316_224_000,
      idle_timeout_seconds: 0,
      max_attempts: 1_000,
      scheduled_at: "9999-12-31T23:59:59.999999Z",
      expires_at: "9999-12-31T23:59:59.999999Z",
      name: long(255),
      prompt: long(1_000_000),
      labels: Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`${n}${long(200)}`, long(255)])),
      repos: Array.from({ length: 1_000 }, () => long(2_048)),
    };
    const created = await service.request("POST", "/sessions/", { agent_id: agentId, ...fields });
    expect(created.status).toBe(201);
    expect(created.body).toMatchObject(fields);
    const early = { expires_at: "0001-01-01T00:00:00Z", scheduled_at: "0001-01-01T00:00:00-23:59" };
    const past = await service.request("PATCH", `/sessions/${created.body.id}`, { ...early, lease_token: null });
    expect(past).toMatchObject({ status: 200, body: { expires_at: "0001-01-01T00:00:00.000000Z" } });
  });
});
