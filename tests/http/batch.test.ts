/** Sessions that are created together. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { coalescing } from "../support/coalescing.ts";
import { agentId, startTestService, subscribe, type TestService } from "../support/service.ts";

const path = "/sessions/batch";
const task = (fields: object = {}) => ({ agent_id: agentId, session_type: "task", ...fields });
const tasks = (count: number) => Array.from({ length: count }, (_, n) => task({ context: { n } }));

describe.each(coalescing)("POST /sessions/batch, with COALESCE=%s", (coalesce) => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({
      COALESCE: coalesce,
      CONTEXT_LIMIT_BYTES: "100000",
      CHECKPOINT_LIMIT_BYTES: "1024",
    });
  });
  afterAll(() => service.stop());

  const post = (body: unknown, headers?: Record<string, string>) => service.request("POST", path, body, headers);
  const count = async () => {
    const [row] = await service.database.sql<{ count: number }[]>`select count(*)::int as count from sessions`;
    return row?.count;
  };

  it("201 gives the sessions in the order of the request, each as POST /sessions/ makes it", async () => {
    const sessions = [
      task({ context: { n: 1 }, runtime_backend: "local", runtime_metadata: { pid: 1 } }),
      { agent_ids: [agentId], scheduled_at: "2126-01-31T09:30:00Z", labels: { team: "search" }, timeout: 60 },
      task({ state: "INIT", checkpoint: { step: 1 }, stats: { tokens: 3 }, name: "third", repos: ["a"] }),
      { agents: [{ id: agentId, name: "ada" }], context: null },
    ];
    const alone = await Promise.all(sessions.map((session) => service.request("POST", "/sessions/", session)));
    const answer = await post({ sessions });
    expect(answer.status).toBe(201);
    expect(answer.body.created).toBe(4);
    const made = answer.body.results.map(({ session }: { session: object }) => session);
    expect(answer.body.results.map(({ index, status }: { index: number; status: number }) => [index, status])).toEqual([
      [0, 201],
      [1, 201],
      [2, 201],
      [3, 201],
    ]);
    // biome-ignore lint/suspicious/noExplicitAny: a session as it was answered
    const constant = ({ id, created_at, updated_at, last_activity_at, started_at, ...rest }: any) => ({
      ...rest,
      started: started_at === created_at,
    });
    expect(made.map(constant)).toEqual(alone.map(({ body }) => constant(body)));
    for (const session of made) {
      const read = await service.request("GET", `/sessions/${session.id}`);
      expect(read.body).toEqual(session);
    }
  });

  it("201 keeps the columns that no answer shows as a single create does", async () => {
    const sessions = [
      task({ context: { a: 1.0 }, checkpoint: { b: 1 } }),
      task(),
      task({ scheduled_at: null, timeout: 5 }),
    ];
    const alone = await Promise.all(sessions.map((session) => service.create(session)));
    const { body } = await post({ sessions }, { prefer: "return=minimal" });
    const ids = body.results.map(({ id }: { id: string }) => id);
    const hidden = async (of: readonly string[]) => {
      const rows = await service.database.sql`
        select array_position(${of}::uuid[], id) as n, to_jsonb(s) - array['id', 'created_at', 'updated_at',
            'last_activity_at', 'phase_since', 'started_at', 'attempt_started_at', 'claimable_at', 'next_check_at'] as fields,
          phase_since = created_at as fresh, started_at = created_at as started, claimable_at is null as unclaimable,
          next_check_at - created_at as check_after
        from sessions s where id = any(${of}::uuid[]) order by 1`;
      return [...rows];
    };
    expect(ids).toHaveLength(3);
    expect(await hidden(ids)).toEqual(await hidden(alone));
  });

  it("201 appends one session.created to each, and a checkpoint is number 1 of the history", async () => {
    const sessions = [task({ checkpoint: { step: 1 } }), task(), task({ labels: { a: "b" } })];
    const { body } = await post(JSON.stringify({ sessions }).replace('"step":1', '"step":1.0'));
    const ids = body.results.map(({ session }: { session: { id: string } }) => session.id);
    const events = await service.database.sql`
      select event_type, sequence::int, session_version from events where session_id = any(${ids}::uuid[])`;
    expect([...events]).toEqual(ids.map(() => ({ event_type: "session.created", sequence: 1, session_version: 1 })));
    const kept = await service.request("GET", `/sessions/${ids[0]}/checkpoints?include=data`);
    expect(kept.body).toHaveLength(1);
    expect(kept.body[0].number).toBe(1);
    expect((await service.request("GET", `/sessions/${ids[0]}/checkpoints/1`)).text).toContain('"step": 1.0');
    expect((await service.request("GET", `/sessions/${ids[1]}/checkpoints`)).body).toEqual([]);
  });

  it("201 publishes each on Redis", async () => {
    await using subscription = await subscribe(service.redisUrl);
    const { body } = await post({ sessions: tasks(20) });
    for (const { session } of body.results) {
      const [event] = await subscription.ofSession(session.id, 1);
      expect(event).toMatchObject({
        event_type: "session.created",
        payload: { agent_id: agentId, session_type: "task" },
      });
    }
  });

  it("201 keeps what each document says, to the last digit", async () => {
    const contexts = [
      '{"n":9007199254740993,"f":1.0}',
      '{"e":1e2,"__proto__":{"constructor":0.10}}',
      '{"t":"\\ud83d\\ude00 ü"}',
    ];
    const sessions = contexts.map((context) => `{"agent_id":"${agentId}","context":${context}}`);
    const { status, text, body } = await post(`{ "sessions" : [ ${sessions.join(" , ")} ] }`);
    expect(status).toBe(201);
    expect(text).toContain('"context":{"f": 1.0, "n": 9007199254740993}');
    const second = await service.request("GET", `/sessions/${body.results[1].session.id}`);
    expect(second.text).toContain('"context":{"e": 100, "__proto__": {"constructor": 0.10}}');
    expect(body.results[2].session.context).toEqual({ t: "😀 ü" });
  });

  it("201 gives the ids alone to Prefer: return=minimal, and says so", async () => {
    const answer = await post({ sessions: tasks(3) }, { prefer: "return=minimal, handling=strict" });
    expect(answer.status).toBe(201);
    expect(answer.headers.get("preference-applied")).toBe("handling=strict, return=minimal");
    expect(answer.body.results).toEqual(
      [0, 1, 2].map((index) => ({ index, status: 201, id: expect.stringMatching(/^[0-9a-f-]{36}$/) })),
    );
    for (const { index, id } of answer.body.results) {
      expect((await service.request("GET", `/sessions/${id}`)).body.context).toEqual({ n: index });
    }
  });

  it("201 adds the state to who asks for a vocabulary", async () => {
    const { body } = await service.request("POST", `${path}/?vocabulary=container`, { sessions: tasks(1) });
    expect(body.results[0].session.state).toBe("READY");
  });

  it("201 takes 1,000 sessions, and 422 tells of none and of more", async () => {
    const before = await count();
    const answer = await post({ sessions: tasks(1_000) });
    expect([answer.status, answer.body.created, answer.body.results.length]).toEqual([201, 1_000, 1_000]);
    expect(answer.body.results[999].session.context).toEqual({ n: 999 });
    for (const sessions of [[], tasks(1_001)]) {
      for (const atomic of [true, false]) {
        const refused = await post({ sessions, atomic });
        expect(refused.status).toBe(422);
        expect(refused.body.errors).toEqual([{ pointer: "/sessions", detail: "must have 1 to 1000 sessions" }]);
      }
    }
    expect(await count()).toBe((before ?? 0) + 1_000);
  });

  it("422 says what is wrong with which session, and none is created", async () => {
    const before = await count();
    const sessions: unknown[] = tasks(20);
    sessions[3] = { session_type: "task" };
    sessions[17] = { agent_id: "no", timeout_seconds: -1 };
    sessions[18] = 5;
    const answer = await post({ sessions });
    expect(answer.status).toBe(422);
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(answer.body.code).toBe("validation_failed");
    expect(answer.body.errors.map(({ pointer }: { pointer: string }) => pointer)).toEqual([
      "/sessions/3/agent_id",
      "/sessions/17/agent_id",
      "/sessions/17/timeout_seconds",
      "/sessions/18",
    ]);
    expect(await count()).toBe(before);
  });

  it("422 tells of the first of very many problems, and how many more there are", async () => {
    const answer = await post({ sessions: Array.from({ length: 1_000 }, () => ({})) });
    expect(answer.status).toBe(422);
    expect(answer.body.errors).toHaveLength(50);
    expect(answer.body.detail).toContain("And 950 more.");
  });

  it("422 for a key that is not known, of the batch and of a session", async () => {
    const before = await count();
    for (const [body, pointer] of [
      [{ sessions: tasks(1), atomics: false }, "/atomics"],
      [{ sessions: [task(), task({ contexts: {} })] }, "/sessions/1/contexts"],
      [{ sessions: tasks(1), atomic: "no" }, "/atomic"],
      [{ sessions: { 0: task() } }, "/sessions"],
      [{ sessions: null }, "/sessions"],
      [{}, "/sessions"],
      [tasks(1), ""],
    ] as const) {
      const answer = await post(body);
      expect([answer.status, answer.body.errors?.[0].pointer], JSON.stringify(body)).toEqual([422, pointer]);
    }
    expect(await count()).toBe(before);
  });

  it("207 creates the others with atomic: false, and tells why not these", async () => {
    const before = await count();
    const sessions: unknown[] = tasks(8);
    sessions[1] = task({ agent_id: "no" });
    sessions[3] = task({ unknown: 1 });
    sessions[4] = task({ checkpoint: { text: "x".repeat(1_024) } });
    sessions[6] = task({ context: { "a/b": "\0" } });
    const answer = await post({ sessions, atomic: false });
    expect(answer.status).toBe(207);
    expect(answer.body.created).toBe(4);
    expect(await count()).toBe((before ?? 0) + 4);
    const { results } = answer.body;
    expect(results.map(({ index }: { index: number }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(results.map(({ status }: { status: number }) => status)).toEqual([201, 422, 201, 422, 413, 201, 422, 201]);
    for (const index of [0, 2, 5, 7]) expect(results[index].session.context).toEqual({ n: index });
    expect(results[1]).toEqual({
      index: 1,
      status: 422,
      error: {
        type: "urn:session-service:problem:validation_failed",
        title: "The request is not valid",
        status: 422,
        detail: "/sessions/1/agent_id: must be a UUID.",
        instance: path,
        code: "validation_failed",
        errors: [{ pointer: "/sessions/1/agent_id", detail: "must be a UUID" }],
        request_id: answer.headers.get("x-request-id"),
      },
    });
    expect(results[3].error.errors).toEqual([{ pointer: "/sessions/3/unknown", detail: "is not known here" }]);
    expect(results[4].error).toMatchObject({ code: "document_too_large", limit_bytes: 1_024, bytes: 1_035 });
    expect(results[4].error.errors[0].pointer).toBe("/sessions/4/checkpoint");
    expect(results[6].error).toMatchObject({
      code: "unstorable_text",
      errors: [{ pointer: "/sessions/6/context/a~1b", detail: "holds a NUL character, which can't be stored" }],
    });
  });

  it("207 with atomic: false even where all are created, or none is", async () => {
    const all = await post({ sessions: tasks(2), atomic: false });
    expect([all.status, all.body.created]).toEqual([207, 2]);
    const none = await post({ sessions: [{}, { agent_id: 1 }], atomic: false });
    expect([none.status, none.body.created]).toEqual([207, 0]);
    expect(none.body.results.map(({ status }: { status: number }) => status)).toEqual([422, 422]);
  });

  it("413 and 422 of a session have its code, where nothing else is wrong", async () => {
    const before = await count();
    const large = task({ context: { text: "ü".repeat(50_000) } });
    const tooLarge = await post({ sessions: [task(), large] });
    expect([tooLarge.status, tooLarge.body.code]).toEqual([413, "document_too_large"]);
    expect(tooLarge.body.errors[0].pointer).toBe("/sessions/1/context");
    expect(tooLarge.body.limit_bytes).toBe(100_000);
    const unstorable = await post({ sessions: [task(), task({ context: { text: "\ud800" } })] });
    expect([unstorable.status, unstorable.body.code]).toEqual([422, "unstorable_text"]);
    expect(unstorable.body.errors[0].pointer).toBe("/sessions/1/context/text");
    const mixed = await post({ sessions: [large, task({ context: { text: "\0" } }), {}] });
    expect([mixed.status, mixed.body.code]).toEqual([422, "validation_failed"]);
    expect(mixed.body.errors.map(({ pointer }: { pointer: string }) => pointer)).toEqual([
      "/sessions/0/context",
      "/sessions/1/context/text",
      "/sessions/2/agent_id",
    ]);
    expect(await count()).toBe(before);
  });

  it("422 for numbers that answers would be long of, in one session and in all together", async () => {
    const body = (number: string, atomic: boolean, each = 1) => {
      const context = `{"n":[${Array.from({ length: each }, () => number).join(",")}]}`;
      const sessions = Array.from({ length: 30 }, () => `{"agent_id":"${agentId}","context":${context}}`);
      return `{"sessions":[${sessions.join(",")}],"atomic":${atomic}}`;
    };
    const one = await post(body("1e400", true));
    expect([one.status, one.body.code, one.body.errors[0].pointer]).toEqual([
      422,
      "number_out_of_range",
      "/sessions/0/context/n/0",
    ]);
    expect((await post(body("1e399", true))).status).toBe(201);
    expect((await post(body("1e400", false))).body.created).toBe(0);
    const together = await post(body("1e399", false, 100));
    expect([together.status, together.body.code]).toEqual([422, "number_out_of_range"]);
    expect(together.body.errors[0].pointer).toBe("/sessions/25/context/n/0");
  });

  it("takes documents as deep as POST /sessions/ does, and no deeper", async () => {
    const nested = (depth: number) => `${'{"a":'.repeat(depth - 1)}{}${"}".repeat(depth - 1)}`;
    const session = (depth: number) => `{"agent_id":"${agentId}","context":${nested(depth)}}`;
    expect((await service.request("POST", "/sessions/", session(128))).status).toBe(201);
    expect((await post(`{"sessions":[${session(128)}]}`)).status).toBe(201);
    expect((await service.request("POST", "/sessions/", session(129))).status).toBe(422);
    const deep = await post(`{"sessions":[${session(129)}]}`);
    expect([deep.status, deep.body.code]).toEqual([422, "nesting_too_deep"]);
    expect((await post(`{"sessions":${"[".repeat(100_000)}`)).status).toBe(422);
  });

  it.each([{}, { "idempotency-key": "taken" }])(
    "409 for an external id that another session has, or another of the batch, and none is created; with %j",
    async (headers) => {
      const name = (word: string) => `${word} ${JSON.stringify(headers)}`;
      const taken = await service.request("POST", "/sessions/", task({ external_id: name("taken") }));
      const before = await count();
      const free = () => task({ external_id: name(`free ${Math.random()}`) });
      const answer = await post({ sessions: [free(), task({ external_id: name("taken") }), task()] }, headers);
      expect(answer, answer.text).toMatchObject({ status: 409, body: { code: "external_id_taken" } });
      expect(answer.body.errors).toEqual([{ pointer: "/sessions/1/external_id", detail: expect.any(String) }]);
      const twice = name("twice");
      const repeated = await post(
        { sessions: [task({ external_id: twice }), free(), task({ external_id: twice })] },
        { ...headers, ...("idempotency-key" in headers ? { "idempotency-key": "twice" } : {}) },
      );
      expect(repeated, repeated.text).toMatchObject({ status: 409, body: { code: "external_id_taken" } });
      expect(repeated.body.errors.map(({ pointer }: { pointer: string }) => pointer)).toEqual([
        "/sessions/2/external_id",
      ]);
      expect(await count()).toBe(before);
      expect((await service.request("GET", `/sessions/${taken.body.id}`)).status).toBe(200);
    },
  );

  it("207 creates with atomic: false those whose external id is free, the first of two that are the same", async () => {
    const owner = await service.request("POST", "/sessions/", task({ external_id: "owned" }));
    const names = ["owned", "first", undefined, "first", "second"];
    const sessions = names.map((external_id) => task({ external_id, labels: { of: "batch" }, checkpoint: { a: 1 } }));
    const { status, body } = await post({ sessions, atomic: false });
    expect(status).toBe(207);
    expect(body.created).toBe(3);
    expect(body.results.map((result: { status: number }) => result.status)).toEqual([409, 201, 201, 409, 201]);
    expect(body.results[0].error).toMatchObject({ code: "external_id_taken", session_id: owner.body.id });
    expect(body.results[3].error).toMatchObject({ session_id: body.results[1].session.id });
    for (const at of [1, 2, 4]) {
      const { id } = body.results[at].session;
      const labels = await service.database.sql`select key, value from session_labels where session_id = ${id}`;
      expect([...labels]).toEqual([{ key: "of", value: "batch" }]);
      expect((await service.request("GET", `/sessions/${id}/checkpoints`)).body).toHaveLength(1);
    }
  });

  it("400 for what is not JSON, however much of it is", async () => {
    for (const body of ['{"sessions":[{]}', '{"sessions":[{},]}', '{"sessions":[{}]', '{"sessions":[{"a":01}]}']) {
      const answer = await post(body);
      expect([answer.status, answer.body.code], body).toEqual([400, "malformed_json"]);
    }
    expect((await post(`{"sessions":[${JSON.stringify(task())}],"sessions":[]}`)).status).toBe(422);
  });

  it("does a batch with an Idempotency-Key once, also when it is sent 50 times at once", async () => {
    for (const atomic of [true, false]) {
      const before = await count();
      const headers = { "idempotency-key": `batch-${atomic}`, prefer: "return=minimal" };
      const body = { sessions: [...tasks(9), ...(atomic ? [] : [{}])], atomic };
      const answers = await Promise.all(Array.from({ length: 50 }, () => post(body, headers)));
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([atomic ? 201 : 207]));
      expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
      expect(answers.filter(({ headers: told }) => told.get("idempotent-replayed") !== "true")).toHaveLength(1);
      expect(new Set(answers.map(({ headers: told }) => told.get("preference-applied")))).toEqual(
        new Set(["return=minimal"]),
      );
      expect(await count()).toBe((before ?? 0) + 9);
      expect((await post({ sessions: tasks(1) }, headers)).body.code).toBe("idempotency_key_reused");
    }
  });

  it("50 batches at once are 50 batches", async () => {
    const before = await count();
    const answers = await Promise.all(Array.from({ length: 50 }, () => post({ sessions: tasks(40) })));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    const ids = answers.flatMap(({ body }) =>
      body.results.map(({ session }: { session: { id: string } }) => session.id),
    );
    expect(new Set(ids).size).toBe(2_000);
    expect(await count()).toBe((before ?? 0) + 2_000);
  });
});
