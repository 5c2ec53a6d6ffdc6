/** The fields of a session beside its documents and its state: set, changed, cleared, and named in the event. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, agentId, startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const create = (fields: unknown) => service.request("POST", "/sessions/", fields);
const patch = (id: string, fields: unknown, headers?: Record<string, string>) =>
  service.request("PATCH", `/sessions/${id}`, fields, headers);
const eventsOf = (id: string) =>
  service.database.sql<{ payload: { updates?: string[] } }[]>`
    select payload from events where session_id = ${id} order by sequence`;
/** The text of a member of an answer: what `JSON.parse` would make of its numbers does not count. */
const textOf = (answer: Answer, key: string) => answer.text.slice(answer.text.indexOf(`"${key}":`) + key.length + 3);

const reviewer = "11111111-1111-4111-8111-111111111111";

/** Each field with a value, another one, and what is shown when nothing is set. In the order of the Session schema. */
const fields: readonly (readonly [name: string, value: unknown, other: unknown, unset: unknown])[] = [
  ["scheduled_at", "2031-01-01T00:00:00.000000Z", "2032-01-01T00:00:00.123456Z", null],
  ["expires_at", "2033-01-01T00:00:00.000000Z", "2034-01-01T00:00:00.100000Z", null],
  ["timeout_seconds", 3_600, 0, null],
  ["waiting_timeout_seconds", 300, 1, null],
  ["idle_timeout_seconds", 86_400, 316_224_000, null],
  ["pending_timeout_seconds", 600, 0, null],
  ["auto_recover", true, false, false],
  ["max_attempts", 5, 1, 3],
  ["name", "Fix the modal", 'Ünïcödé "quoted" \\ name 👩‍💻', null],
  ["prompt", "Fix it.\nPlease.", "", null],
  ["model", "large-2", "small", null],
  ["repos", ["https://example.com/a.git", { url: "b", branch: "main" }], ["c"], []],
  ["agents", [{ id: agentId, name: "ada", config: { a: null } }], [{ id: reviewer }], []],
  ["active_agent", "reviewer", "ada", null],
  ["interaction_mode", "interactive", "autonomous", null],
  ["resources", { cpu: "500m" }, {}, null],
  ["guardrails", { network: false }, { constructor: 1 }, null],
  ["metadata", { ticket: 1 }, { a: { b: [null] } }, {}],
  ["labels", { team: "search" }, { team: "", "x y": "z" }, {}],
  ["created_by", "ada", "bob", null],
  ["checkpoint_retention", { keep_last: 20 }, { keep_last: 0, keep_days: 7, keep_daily_days: 90 }, null],
];
const names = fields.map(([name]) => name);
const all = Object.fromEntries(fields.map(([name, value]) => [name, value]));

/** What only a worker reports. */
const outcome: readonly (readonly [name: string, value: unknown, other: unknown, unset: unknown])[] = [
  ["exit_requested", true, false, false],
  ["error", { code: "oom", message: "killed", stack: "at a\nat b" }, { message: null }, null],
  ["result", { merged: true }, [1, "2"], null],
];

describe("a field", () => {
  it.each(fields)("%s is set on creation, shown, and read again", async (name, value, _, unset) => {
    const created = await create({ agent_id: agentId, [name]: value });
    expect(created.status).toBe(201);
    expect(created.body).toMatchObject({ [name]: value, version: 1 });
    expect((await service.request("GET", `/sessions/${created.body.id}`)).text).toBe(created.text);
    const [listed] = (await service.request("GET", "/sessions/?limit=1")).body;
    expect(listed).toEqual(created.body);
    const plain = await create({ agent_id: agentId, [name]: null });
    expect([plain.status, plain.body[name]]).toEqual([201, unset]);
  });

  it.each(["PATCH", "PUT"])("%s sets, changes and clears each, and the event names it alone", async (method) => {
    for (const [name, value, other, unset] of [...fields, ...outcome]) {
      const { body } = await create({ agent_id: agentId, phase: "pending" });
      const change = (to: unknown) => service.request(method, `/sessions/${body.id}`, { [name]: to });
      // A boolean's other value is what it is when it is not set.
      const steps = [value, ...(other === unset ? [] : [other]), null, value, unset];
      for (const [at, step] of steps.entries()) {
        const answer = await change(step);
        expect([name, answer.status, answer.body[name]]).toEqual([name, 200, step ?? unset]);
        expect([name, answer.body.version]).toEqual([name, at + 2]);
        expect((await service.request("GET", `/sessions/${body.id}`)).text).toBe(answer.text);
        const again = await change(step);
        expect([name, again.status, again.text]).toEqual([name, 200, answer.text]);
        expect(again.headers.get("etag")).toBe(`"${at + 2}"`);
      }
      const events = await eventsOf(body.id);
      expect([name, events.slice(1).map(({ payload }) => payload.updates)]).toEqual([name, steps.map(() => [name])]);
    }
  });

  it("that is not set, and is said to be what it is shown as, does not change", async () => {
    const { body, text } = await create({ agent_id: agentId });
    for (const [name, , , unset] of [...fields, ...outcome, ["stats", 0, 0, {}], ["stats_max", 0, 0, {}]] as const) {
      expect([name, (await patch(body.id, { [name]: unset })).text]).toEqual([name, text]);
      expect([name, (await patch(body.id, { [name]: null })).text]).toEqual([name, text]);
    }
    expect(await eventsOf(body.id)).toHaveLength(1);
  });

  it("that is absent stays, whatever else changes", async () => {
    const { body } = await create({ agent_id: agentId, ...all });
    for (const change of [{ context: { n: 1 } }, { phase: "running" }, { error: "bad" }, { stats: { n: 1 } }]) {
      expect((await patch(body.id, change)).body).toMatchObject(all);
    }
    expect((await service.request("POST", `/sessions/${body.id}/pause`)).body).toMatchObject(all);
  });

  it("all of them at once: one version, one event that names them in the order of the answer", async () => {
    const { body } = await create({ agent_id: agentId, phase: "pending" });
    const told = {
      ...Object.fromEntries(Object.entries(all).reverse()),
      result: 1,
      error: "bad",
      exit_requested: true,
      stats_max: { memory: 1 },
      stats: { steps: 1 },
      runtime_metadata: { pid: 7 },
      runtime_backend: "local",
      checkpoint: { step: 1 },
      context: { n: 1 },
      phase: "paused",
      reason: "all at once",
    };
    const refused = await patch(body.id, told);
    expect(refused.status).toBe(409);
    expect(await eventsOf(body.id)).toHaveLength(1);
    await patch(body.id, { phase: "ready" });
    const answer = await patch(body.id, told);
    expect(answer).toMatchObject({ status: 200, body: { ...all, version: 3, status_reason: "all at once" } });
    const updates = (await eventsOf(body.id))[2]?.payload.updates ?? [];
    const documents = ["context", "checkpoint", "runtime_backend", "runtime_metadata", "stats", "stats_max"];
    const outcomes = ["status_reason", "exit_requested", "error", "result"];
    expect(updates).toEqual(["status", "phase", ...documents, ...names, ...outcomes]);
    const shown = Object.keys(answer.body).filter((key) => updates.includes(key));
    expect(updates).toEqual(shown);
  });

  it("changes while others do: of 50 that set different fields all hold, one event each", async () => {
    const { body } = await create({ agent_id: agentId });
    const settable = fields.filter(([name]) => name !== "scheduled_at");
    await Promise.all(settable.map(([name, value]) => patch(body.id, { [name]: value })));
    const session = (await service.request("GET", `/sessions/${body.id}`)).body;
    expect(session).toMatchObject(Object.fromEntries(settable.map(([name, value]) => [name, value])));
    expect(session.version).toBe(settable.length + 1);
    const updates = (await eventsOf(body.id)).slice(1).map(({ payload }) => payload.updates);
    expect(new Set(updates.flat())).toEqual(new Set(settable.map(([name]) => name)));
    expect(updates.flat()).toHaveLength(settable.length);
  });

  it("that is an object with a key of JavaScript's is data", async () => {
    const odd = '{"__proto__":{"a":"1"},"constructor":"c","toString":"t"}';
    for (const name of ["metadata", "resources", "guardrails", "result"]) {
      const { body } = await create({ agent_id: agentId });
      const answer = await patch(body.id, `{"${name}":${odd}}`);
      expect(answer.status).toBe(200);
      expect(Object.keys(answer.body[name]).sort()).toEqual(["__proto__", "constructor", "toString"]);
    }
  });
});

describe("numbers in a document", () => {
  const text = '{"n": 1.0, "big": 9007199254740993, "small": 0.1000, "long": 123456789012345678901234567890.5}';
  it.each(["metadata", "resources", "guardrails"])("keep their digits in %s", async (name) => {
    const created = await create(`{"agent_id":"${agentId}","${name}":${text}}`);
    const { body } = await create({ agent_id: agentId });
    const changed = await patch(body.id, `{"${name}":${text}}`);
    for (const answer of [created, changed]) {
      expect(textOf(answer, name)).toMatch(/^\{[^}]*\}/);
      const shown = textOf(answer, name).split("}")[0];
      for (const number of ['"n": 1.0,', "9007199254740993", "0.1000", "123456789012345678901234567890.5"]) {
        expect(shown).toContain(number);
      }
    }
    const other = await patch(body.id, `{"${name}":${text.replace("1.0", "1")}}`);
    expect(other.body.version).toBe(3);
  });

  it("keep their digits in result and in an agent's config", async () => {
    const { body } = await create({ agent_id: agentId });
    const answer = await patch(
      body.id,
      `{"result":9007199254740993.10,"agents":[{"id":"${agentId}","config":{"t":1.50}}]}`,
    );
    expect(answer.text).toContain('"result":9007199254740993.10,');
    expect(answer.text).toContain('"t": 1.50');
    expect((await patch(body.id, '{"result":9007199254740993.1}')).body.version).toBe(3);
  });
});

describe("other names", () => {
  it("timeout is timeout_seconds, and starting_prompt is prompt; the name of the schema wins", async () => {
    const { body } = await create({ agent_id: agentId, timeout: 60, starting_prompt: "go" });
    expect(body).toMatchObject({ timeout_seconds: 60, prompt: "go" });
    expect(body).not.toHaveProperty("timeout");
    expect(body).not.toHaveProperty("starting_prompt");
    expect((await patch(body.id, { timeout: 90, starting_prompt: "stop" })).body).toMatchObject({
      timeout_seconds: 90,
      prompt: "stop",
    });
    expect((await eventsOf(body.id))[1]?.payload.updates).toEqual(["timeout_seconds", "prompt"]);
    const both = { timeout: 1, timeout_seconds: 2, starting_prompt: "alias", prompt: "name" };
    expect((await patch(body.id, both)).body).toMatchObject({ timeout_seconds: 2, prompt: "name" });
    expect((await patch(body.id, { timeout: null, starting_prompt: null })).body).toMatchObject({
      timeout_seconds: null,
      prompt: null,
    });
  });

  it("agent_ids is a short form of agents, whose first is the session's agent when there is no other", async () => {
    const { body } = await create({ agent_ids: [reviewer.toUpperCase(), agentId] });
    expect(body).toMatchObject({ agent_id: reviewer, agents: [{ id: reviewer }, { id: agentId }] });
    expect((await patch(body.id, { agent_ids: [agentId] })).body).toMatchObject({
      agent_id: reviewer,
      agents: [{ id: agentId }],
    });
    expect((await patch(body.id, { agent_ids: null })).body.agents).toEqual([]);
    expect((await patch(body.id, { agent_ids: [agentId], agents: [reviewer] })).body.agents).toEqual([
      { id: reviewer },
    ]);
  });

  it("agents are ids or objects, and keep what an object says", async () => {
    const agents = [agentId, { id: reviewer, name: "r", model: "m", config: { deep: [1] }, more: true }];
    const { body } = await create({ agents });
    expect(body).toMatchObject({ agent_id: agentId, agents: [{ id: agentId }, agents[1]] });
    expect((await create({ agents: [{ id: reviewer }] })).body.agent_id).toBe(reviewer);
    expect((await patch(body.id, { agents: [] })).body.agents).toEqual([]);
  });

  it("repos are URLs or objects with url and branch, and keep what an object says", async () => {
    const repos = [
      "https://example.com/a.git",
      { url: "https://example.com/b.git", branch: "main", depth: 1 },
      { url: "c" },
    ];
    expect((await create({ agent_id: agentId, repos })).body.repos).toEqual(repos);
  });
});

describe("error and result", () => {
  it.each([
    ["went wrong", { message: "went wrong" }],
    ["", { message: "" }],
    [
      { code: "a", message: "b", stack: "c" },
      { code: "a", message: "b", stack: "c" },
    ],
    [{ message: "b", extra: 1 }, { message: "b" }],
    [{}, {}],
    [null, null],
  ])("error %j is kept as an object", async (error, kept) => {
    const { body } = await create({ agent_id: agentId });
    expect((await patch(body.id, { error })).body.error).toEqual(kept);
    const verb = await service.request("POST", `/sessions/${body.id}/fail`, { error });
    expect([verb.status, verb.body.error]).toEqual([200, kept]);
  });

  it.each(["x", "é", "€", "👩"])(
    "a stack of %s is cut at 64 KiB, in bytes, and at no half character",
    async (character) => {
      const limit = 64 * 1024;
      const size = Buffer.byteLength(character);
      const { body } = await create({ agent_id: agentId });
      for (const lead of ["", "a", "ab", "abc"]) {
        const stack = lead + character.repeat(limit / size + 10);
        const { error } = (await patch(body.id, { error: { message: "m", stack } })).body;
        const kept = Math.floor((limit - lead.length) / size);
        expect(error.stack === lead + character.repeat(kept)).toBe(true);
        expect(error.message).toBe("m");
      }
      const whole = character.repeat(limit / size);
      expect((await patch(body.id, { error: { stack: whole } })).body.error.stack === whole).toBe(true);
    },
  );

  it.each(["1", "0.50", '"text"', "true", "false", "[]", "{}", '[{"a": [null]}]', '""'])(
    "result %s is any JSON, and null clears it",
    async (text) => {
      const { body } = await create({ agent_id: agentId });
      const answer = await patch(body.id, `{"result":${text}}`);
      expect(answer.text).toContain(`"result":${text},`);
      expect((await patch(body.id, `{"result":${text}}`)).body.version).toBe(2);
      expect((await patch(body.id, { result: null })).body).toMatchObject({ result: null, version: 3 });
      const verb = await service.request("POST", `/sessions/${body.id}/complete`, `{"result":${text}}`);
      expect(verb.text).toContain(`"result":${text},`);
    },
  );

  it("counts the bytes of what it keeps, for answers to stay bounded", async () => {
    const { body } = await create({ agent_id: agentId, prompt: "é".repeat(1_000), labels: { a: "b" } });
    const bytes = async () => {
      const [row] = await service.database.sql`
        select details_bytes, coalesce(octet_length(details::text), 0) as details, outcome_bytes,
          coalesce(octet_length(error::text), 0) + coalesce(octet_length(result::text), 0)
            + coalesce(octet_length(stats::text), 0) + coalesce(octet_length(stats_max::text), 0) as outcome
        from sessions where id = ${body.id}`;
      return row;
    };
    for (const change of [
      {},
      { error: "é", result: ["ü"] },
      { name: "é", prompt: null, stats: { steps: 1 }, stats_max: { memory: 2 } },
      { phase: "busy" },
      { stats_set: { input_tokens: 123_456_789 } },
      { labels: null, name: null, error: null, result: null },
      { error: "x".repeat(100) },
      { status: "completed" },
    ]) {
      const before = await bytes();
      await patch(body.id, change);
      const after = await bytes();
      expect([change, after?.["details_bytes"]]).toEqual([change, after?.["details"]]);
      // What a transition forgets may still be counted.
      if ("status" in change) expect(after?.["outcome_bytes"]).toBeGreaterThan(after?.["outcome"]);
      else expect([change, after?.["outcome_bytes"]]).toEqual([change, after?.["outcome"]]);
      if ("error" in change) expect(after?.["outcome_bytes"]).not.toBe(before?.["outcome_bytes"]);
    }
    const { body: told } = await create({ agent_id: agentId, stats: { steps: 1 }, stats_max: { memory: 2 } });
    const [row] = await service.database.sql`select outcome_bytes from sessions where id = ${told.id}`;
    expect(row?.["outcome_bytes"]).toBe('{"steps": 1}{"memory": 2}'.length);
  });
});

describe("PATCH /sessions/{id}/status", () => {
  const runtime = {
    phase: "busy",
    reason: "a step",
    exit_requested: true,
    error: "bad",
    result: [1],
    stats: { steps: 1 },
    stats_max: { memory: 2 },
    runtime_metadata: { pid: 7 },
  };
  const change = (id: string, body: unknown, headers?: Record<string, string>) =>
    service.request("PATCH", `/sessions/${id}/status`, body, headers);

  it("200 lets through what a runtime writes", async () => {
    const { body } = await create({ agent_id: agentId });
    const answer = await change(body.id, runtime);
    const { reason, error: _, ...rest } = runtime;
    const shown = { ...rest, error: { message: "bad" }, status_reason: reason };
    expect(answer).toMatchObject({ status: 200, body: { ...shown, version: 2 } });
    expect((await change(body.id, { status: "paused" })).body.phase).toBe("paused");
    expect((await change(body.id, { state: "READY" })).body.phase).toBe("ready");
    expect((await change(body.id, { stats_set: { steps: 7 } })).body.stats).toEqual({ steps: 7 });
  });

  it("200 ignores what only others write, and 422 names it for a client that asks for strictness", async () => {
    const { text, body } = await create({ agent_id: agentId });
    const others = {
      ...all,
      timeout: 1,
      starting_prompt: "x",
      agent_ids: [reviewer],
      context: { n: 1 },
      checkpoint: { n: 1 },
      runtime_backend: "local",
      auto_resume: true,
    };
    for (const [name, value] of Object.entries(others)) {
      expect([name, (await change(body.id, { [name]: value })).text]).toEqual([name, text]);
      const strict = await change(body.id, { [name]: value }, { prefer: "handling=strict" });
      expect(strict).toMatchObject({ status: 422, body: { errors: [{ pointer: `/${name}` }] } });
    }
    const both = await change(body.id, { ...others, ...runtime });
    expect(both.body).toMatchObject({ phase: "busy", context: {}, name: null, timeout_seconds: null, version: 2 });
  });

  it("is fenced, and guarded by a version, as any change", async () => {
    const { body } = await create({ agent_id: agentId });
    expect((await change(body.id, runtime, { "if-match": '"9"' })).status).toBe(412);
    expect(await change(body.id, runtime, { "lease-token": "3" })).toMatchObject({ body: { code: "lease_lost" } });
    expect((await change(body.id, { phase: "starting" })).status).toBe(409);
    expect((await change(agentId, runtime)).status).toBe(404);
  });
});

describe("PUT /sessions/{id}/state", () => {
  it("200 says it in a container platform's words; 422 without one", async () => {
    const { body } = await create({ agent_id: agentId });
    const put = (fields: unknown) => service.request("PUT", `/sessions/${body.id}/state`, fields);
    expect((await put({ state: "busy", stats: { n: 1 } })).body).toMatchObject({ phase: "busy", stats: { n: 1 } });
    expect((await put({ state: "ERROR", error: "bad" })).body).toMatchObject({ phase: "failed", status: "crashed" });
    for (const fields of [{}, { phase: "running" }, { state: null }, { state: "no word" }, { state: 7 }]) {
      expect(await put(fields)).toMatchObject({ status: 422, body: { errors: [{ pointer: "/state" }] } });
    }
  });
});

describe("timers of sessions that don't say", () => {
  it("are the settings' at creation, unless they are 0; PATCH clears them", async () => {
    await using own = await startTestService({
      DEFAULT_IDLE_TIMEOUT_SECONDS: "1000",
      DEFAULT_TIMEOUT_SECONDS: "2000",
      DEFAULT_PENDING_TIMEOUT_SECONDS: "3000",
    });
    const make = async (given: object) =>
      (await own.request("POST", "/sessions/", { agent_id: agentId, ...given })).body;
    const defaults = {
      timeout_seconds: 2_000,
      waiting_timeout_seconds: null,
      idle_timeout_seconds: 1_000,
      pending_timeout_seconds: 3_000,
    };
    expect(await make({})).toMatchObject(defaults);
    expect(await make({ timeout: null, idle_timeout_seconds: null })).toMatchObject(defaults);
    expect(await make({ timeout: 5, idle_timeout_seconds: 0 })).toMatchObject({
      ...defaults,
      timeout_seconds: 5,
      idle_timeout_seconds: 0,
    });
    const { id } = await make({});
    const cleared = await own.request("PATCH", `/sessions/${id}`, { timeout: null, idle_timeout_seconds: null });
    expect(cleared.body).toMatchObject({ ...defaults, timeout_seconds: null, idle_timeout_seconds: null });
  });

  it("are off unless they are set", async () => {
    const { body } = await create({ agent_id: agentId });
    const off = { timeout_seconds: null, idle_timeout_seconds: null, pending_timeout_seconds: null };
    expect(body).toMatchObject(off);
    await using own = await startTestService({ DEFAULT_TIMEOUT_SECONDS: "0" });
    expect((await own.request("POST", "/sessions/", { agent_id: agentId })).body).toMatchObject(off);
  });
});
