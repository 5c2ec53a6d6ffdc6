import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDatabase } from "../../src/db/client.ts";
import { reportExamples } from "../../src/http/schemas/reported-event-examples.ts";
import { openSessions } from "../../src/sessions/sessions.ts";
import { createDatabase } from "../support/database.ts";
import { type Answer, agentId, startTestService, subscribe, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

interface Event {
  readonly event_type: string;
  readonly sequence: number;
  readonly session_version: number;
  readonly position: string;
  readonly created_at: string;
  readonly payload: object;
}

const numbers = (from: number, count: number) => Array.from({ length: count }, (_, at) => from + at);

describe("POST /sessions/{id}/events", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  const post = (id: string, body: unknown, headers?: Record<string, string>) =>
    service.request("POST", `/sessions/${id}/events`, body, headers);
  const read = async (id: string) => (await service.request("GET", `/sessions/${id}`)).body;
  const patch = (id: string, body: unknown) => service.request("PATCH", `/sessions/${id}`, body);

  /** The session's events as they are stored, in the order of their sequences. */
  const stored = (id: string) => service.database.sql<(Event & { text: string })[]>`
    select event_type, sequence, session_version, position::text, created_at::text, payload::text as text
    from events where session_id = ${id} order by sequence`;
  const storedCount = async (id: string) => (await stored(id)).length;

  /** The text of the payload of the only event in an answer. */
  const payloadText = ({ text }: Answer) => /"payload":(.*),"event_id"/s.exec(text)?.[1];

  describe("201", () => {
    it("answers with the event, in the envelope that every reader gets", async () => {
      const id = await service.create();
      const payload = { iteration: 3, tools_used: ["read_file"] };
      const headers = { "x-request-id": "r-1", "x-correlation-id": "c-1" };
      const answer = await post(id, { event_type: "thinking", payload }, headers);
      expect(answer.status, answer.text).toBe(201);
      expect(answer.headers.get("content-type")).toBe("application/json; charset=utf-8");
      expect(answer.body).toEqual({
        event_type: "session.thinking",
        aggregate_type: "session",
        aggregate_id: id,
        payload,
        event_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
        sequence: 2,
        session_version: 1,
        position: expect.stringMatching(/^\d+$/),
        created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
        schema_version: 1,
        metadata: { request_id: "r-1", correlation_id: "c-1" },
      });
    });

    it("500 at once are stored and answered in their order, their positions too", async () => {
      const id = await service.create();
      const answer = await post(
        id,
        numbers(0, 500).map((n) => ({ event_type: "step", payload: { n } })),
      );
      expect(answer.status).toBe(201);
      const events: Event[] = answer.body;
      expect(events.map(({ payload }) => payload)).toEqual(numbers(0, 500).map((n) => ({ n })));
      expect(events.map(({ sequence }) => sequence)).toEqual(numbers(2, 500));
      const positions = events.map(({ position }) => Number(position));
      expect(positions).toEqual(positions.toSorted((a, b) => a - b));
      expect(new Set(positions).size).toBe(500);
      expect((await stored(id)).slice(1).map(({ position, text }) => [position, text])).toEqual(
        events.map(({ position, payload }) => [position, JSON.stringify(payload).replace(":", ": ")]),
      );
      expect((await post(id, { event_type: "step" })).body.sequence).toBe(502);
    });

    it("an array of one is answered with an array", async () => {
      const id = await service.create();
      expect((await post(id, [{ event_type: "step" }])).body).toMatchObject([{ sequence: 2 }]);
    });

    it.each(["/", ""])("is the same with %j behind the path", async (end) => {
      const id = await service.create();
      const answer = await service.request("POST", `/sessions/${id}/events${end}`, { event_type: "step" });
      expect(answer).toMatchObject({ status: 201, body: { event_type: "session.step" } });
    });

    it("takes the type under three names, in any spelling, with and without session before it", async () => {
      const id = await service.create();
      const payload = { path: "a.ts" };
      const sent = [
        { event_type: "file_change", payload },
        { type: "session.fileChange", payload },
        { eventType: "FileChange", payload },
        { event_type: null, type: "FILE_CHANGE", payload },
        { type: "SESSION.file-change", payload },
      ];
      for (const event of sent) {
        expect(await post(id, event), JSON.stringify(event)).toMatchObject({
          status: 201,
          body: { event_type: "session.file_change", payload },
        });
      }
    });

    it("takes known keys in any spelling, and keeps all others as they are", async () => {
      const id = await service.create();
      const answer = await post(id, [
        { type: "thinking", payload: { ITERATION: 1, toolsUsed: ["a"], myKey: { toolsUsed: 1 }, "a-b": 1 } },
        { type: "terminal", payload: { Command: "ls", OUTPUT: "", Error: null, exitCode: 0, EXITCODE: 1 } },
        { type: "completion", payload: { Message: "done", STATS: { exitCode: 1, constructor: 1 } } },
        { type: "tool_use", payload: { toolsUsed: 1, Path: 2 } },
      ]);
      expect(answer.body.map(({ payload }: Event) => payload)).toEqual([
        { iteration: 1, tools_used: ["a"], myKey: { toolsUsed: 1 }, "a-b": 1 },
        { command: "ls", output: "", error: null, exit_code: 0, EXITCODE: 1 },
        { message: "done", stats: { exitCode: 1, constructor: 1 } },
        { toolsUsed: 1, Path: 2 },
      ]);
    });

    it("takes any other word, with any object or none", async () => {
      const id = await service.create();
      const answer = await post(id, [
        { event_type: "review_requested", payload: { a: { b: [null, {}] } } },
        { event_type: "heartbeat" },
        { event_type: "thinking", payload: null },
        { event_type: "mcp-toolCall", payload: {} },
      ]);
      expect(answer.body.map(({ event_type, payload }: Event) => [event_type, payload])).toEqual([
        ["session.review_requested", { a: { b: [null, {}] } }],
        ["session.heartbeat", {}],
        ["session.thinking", {}],
        ["session.mcp_tool_call", {}],
      ]);
    });

    it("keeps every digit, in one event and in many, also where keys are renamed", async () => {
      const id = await service.create();
      const text = '{"n": 1.0, "big": 12345678901234567890, "list": [0.10, -90071992547409931], "exit_code": 1.0}';
      const sent = `{"payload" : ${text.replace("exit_code", "exitCode")}, "event_type":"terminal"}`;
      const one = await post(id, sent);
      expect(one.status, one.text).toBe(201);
      const [kept] = await service.database.sql<{ text: string }[]>`select (${text}::text::jsonb)::text as text`;
      expect(kept?.text).toContain("12345678901234567890");
      expect(payloadText(one)).toBe(kept?.text);
      expect(payloadText(await post(id, ` [ ${sent} ] `))).toBe(kept?.text);
      expect(payloadText(await post(id, `[{"event_type":"other","payload":${text}}]`))).toBe(kept?.text);
      expect((await stored(id)).slice(1).map((event) => event.text)).toEqual(Array(3).fill(kept?.text));
    });

    it("keeps keys that JavaScript would trip over", async () => {
      const id = await service.create();
      const text = '{"__proto__": {"a": 1}, "toString": null, "exit_code": 1, "constructor": {"prototype": 1}}';
      const answer = await post(id, `{"event_type":"terminal","payload":${text.replace("exit_code", "exitCode")}}`);
      expect(answer.status, answer.text).toBe(201);
      expect(JSON.parse(payloadText(answer) ?? "")).toEqual(JSON.parse(text));
    });

    it("counts as activity, and is no change: version, ETag and updated_at stay", async () => {
      const id = await service.create();
      const before = await service.request("GET", `/sessions/${id}`);
      const event: Event = (await post(id, { event_type: "thinking" })).body;
      const after = await service.request("GET", `/sessions/${id}`);
      expect(after.body).toEqual({ ...before.body, last_activity_at: event.created_at });
      expect(after.body.last_activity_at > before.body.last_activity_at).toBe(true);
      expect(after.headers.get("etag")).toBe(before.headers.get("etag"));
      expect(after.body.updated_at).toBe(before.body.updated_at);
    });

    it("is taken of a session that is over", async () => {
      const id = await service.create();
      await patch(id, { status: "completed" });
      expect(await post(id, { event_type: "completion", payload: { stats: {} } })).toMatchObject({
        status: 201,
        body: { sequence: 3, session_version: 2 },
      });
    });

    it("never lies before what happened before it, whatever the clock says", async () => {
      const id = await service.create();
      const ahead = (column: string, time: string) =>
        service.database.sql.unsafe(
          `update sessions set ${column} = clock_timestamp() + interval '${time}' where id = '${id}'`,
        );
      await ahead("updated_at", "1 hour");
      await post(id, [{ event_type: "step" }, { event_type: "step" }]);
      await ahead("last_activity_at", "2 hours");
      await post(id, { event_type: "step" });
      await patch(id, { checkpoint: { step: 1 } });
      const { updated_at, last_activity_at } = await read(id);
      expect(last_activity_at).toBe(updated_at);
      const times = (await stored(id)).map((event) => event.created_at);
      expect(times).toHaveLength(5);
      expect(times).toEqual(times.toSorted());
      expect(new Set(times).size).toBeGreaterThanOrEqual(3);
      const [{ later } = { later: false }] = await service.database.sql<{ later: boolean }[]>`
        select min(created_at) filter (where sequence > 1) > clock_timestamp() + interval '50 minutes' as later
        from events where session_id = ${id}`;
      expect(later).toBe(true);
    });

    it("31 payloads of 256 KiB come back whole", async () => {
      const id = await service.create();
      const payload = { text: "x".repeat(256 * 1024 - '{"text":""}'.length) };
      const sent = numbers(0, 31).map(() => ({ event_type: "log", payload }));
      const answer = await post(id, sent);
      expect(answer.status).toBe(201);
      expect(answer.body.every((event: { payload: { text: string } }) => event.payload.text === payload.text)).toBe(
        true,
      );
    });

    it.each(Object.entries(reportExamples))("takes the documented example %s, also strictly", async (_, { value }) => {
      const answer = await post(await service.create(), value, { prefer: "handling=strict" });
      expect(answer.status, answer.text).toBe(201);
      const payloads = (events: unknown) => [events].flat().map((event) => (event as Event).payload);
      expect(payloads(answer.body)).toEqual(payloads(value));
    });

    it("is done once under one Idempotency-Key, and answered alike each time", async () => {
      const id = await service.create();
      const sent = [{ event_type: "step", payload: { n: 1 } }, { event_type: "step" }];
      const headers = { "idempotency-key": `report-${id}` };
      const answers = await Promise.all(numbers(0, 10).map(() => post(id, sent, headers)));
      expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
      expect(answers[0]).toMatchObject({ status: 201, body: [{ sequence: 2 }, { sequence: 3 }] });
      expect(answers.filter((answer) => answer.headers.get("idempotent-replayed") === "true")).toHaveLength(9);
      expect(await storedCount(id)).toBe(3);
      expect(await post(id, [sent[0]], headers)).toMatchObject({
        status: 422,
        body: { code: "idempotency_key_reused" },
      });
    });

    it("touches no index of the session: its row is updated in place (HOT)", async () => {
      const own = await createDatabase();
      const database = openDatabase({ url: own.url, poolSize: 1, prepare: true });
      const sessions = openSessions(database, { coalesce: false });
      const context = { namespace: "default", requestId: "r" };
      const created = await sessions.create(context, {
        agentId,
        sessionType: "task",
        phase: "running",
        runtimeBackend: "local",
      });
      const id = created.outcome === "ok" ? created.session.id : "";
      for (const n of numbers(0, 50)) {
        await sessions.report(context, { id, events: [{ word: "step", payload: `{"n":${n}}` }] });
      }
      // A connection tells its counts when it ends, at the latest.
      await database.close();
      const counts = async () =>
        (
          await own.sql<{ all: number; hot: number }[]>`
            select n_tup_upd::int as all, n_tup_hot_upd::int as hot
            from pg_stat_user_tables where relname = 'sessions'`
        )[0];
      await until(async () => (await counts())?.all === 50, "the counts of 50 updates");
      expect((await counts())?.hot).toBeGreaterThan(45);
      await own.drop();
    });

    it("reaches who listens to the session, and not who listens to changes", async () => {
      const id = await service.create();
      await using own = await subscribe(service.redisUrl, `events:session:${id}`);
      await using changes = await subscribe(service.redisUrl);
      await post(
        id,
        numbers(0, 20).map((n) => ({ event_type: "step", payload: { n } })),
      );
      await patch(id, { status: "paused" });
      const isLast = (event: { aggregate_id: string; sequence: number }) =>
        event.aggregate_id === id && event.sequence === 22;
      await until(() => own.events.some(isLast) && changes.events.some(isLast), "the change after the reports");
      // Whether its creation is heard too depends on when it is published.
      const heard = own.events.filter(({ sequence }) => sequence > 1);
      expect(heard.map(({ sequence }) => sequence)).toEqual(numbers(2, 21));
      expect(heard.at(-2)).toMatchObject({ event_type: "session.step", payload: { n: 19 } });
      const changed = changes.events.filter((event) => event.aggregate_id === id && event.sequence > 1);
      expect(changed.map(({ event_type }) => event_type)).toEqual(["session.updated"]);
    });
  });

  describe("404", () => {
    it("for a session that is not there, that is deleted, and for an id that is no UUID", async () => {
      const deleted = await service.create();
      await service.database.sql`update sessions set deleted_at = clock_timestamp() where id = ${deleted}`;
      const ids = [deleted, "00000000-0000-0000-0000-000000000000", "abc", "%00", "a b", "x".repeat(900)];
      for (const id of ids) {
        for (const body of [{ event_type: "thinking" }, [{ event_type: "thinking" }]]) {
          expect(await post(id, body), id).toMatchObject({
            status: 404,
            body: { code: "session_not_found", detail: "Session not found" },
          });
        }
      }
      expect(await storedCount(deleted)).toBe(1);
    });
  });

  describe("413", () => {
    const large = (bytes: number) => `{"a":"${"x".repeat(bytes - '{"a":""}'.length)}"}`;

    it("for a payload of more than 256 KiB, and says which; nothing of the array is stored", async () => {
      const id = await service.create();
      const one = (payload: string) => `{"event_type":"terminal","payload":${payload}}`;
      const limit = 256 * 1024;
      expect((await post(id, one(large(limit)))).status).toBe(201);
      const answer = await post(id, one(large(limit + 1)));
      expect(answer).toMatchObject({
        status: 413,
        body: { code: "payload_too_large", errors: [{ pointer: "/payload" }] },
      });
      const many = await post(id, `[${one("{}")},${one("{}")},${one(large(limit + 1))}]`);
      expect(many).toMatchObject({
        status: 413,
        body: { code: "payload_too_large", errors: [{ pointer: "/2/payload" }] },
      });
      const bytes = await post(id, one(`{"a":"${"ü".repeat(limit / 2)}"}`));
      expect(bytes.status).toBe(413);
      expect(await storedCount(id)).toBe(2);
    });

    it("for a body over the limit of bodies", async () => {
      const id = await service.create();
      const answer = await post(id, `{"event_type":"log","payload":${large(9 * 1024 * 1024)}}`);
      expect(answer).toMatchObject({ status: 413, body: { code: "body_too_large" } });
    });
  });

  describe("422", () => {
    const nested = (depth: number) => `${'{"a":'.repeat(depth - 1)}{}${"}".repeat(depth - 1)}`;

    const cases: [what: string, event: string, code: string, pointer: string][] = [
      ["no type", "{}", "validation_failed", "/event_type"],
      ["a type that is no text", '{"event_type":1}', "validation_failed", "/event_type"],
      ["a type that is no word", '{"type":"what happened"}', "validation_failed", "/type"],
      ["a type of another kind", '{"event_type":"task.thinking"}', "validation_failed", "/event_type"],
      ["two types", '{"type":"thinking","eventType":"thinking"}', "validation_failed", "/eventType"],
      ["a message", '{"event_type":"session.message"}', "validation_failed", "/event_type"],
      ...["created", "updated", "DELETED", "session.restored", "purged"].map(
        (word): [string, string, string, string] => [
          `the change ${word}`,
          `{"event_type":"${word}"}`,
          "validation_failed",
          "/event_type",
        ],
      ),
      ["a payload that is an array", '{"event_type":"step","payload":[]}', "validation_failed", "/payload"],
      ["a payload that is a text", '{"event_type":"thinking","payload":"x"}', "validation_failed", "/payload"],
      [
        "an exit code that is no whole number",
        '{"event_type":"terminal","payload":{"exit_code":"1"}}',
        "validation_failed",
        "/payload/exit_code",
      ],
      [
        "one in another spelling",
        '{"event_type":"terminal","payload":{"exitCode":1.5}}',
        "validation_failed",
        "/payload/exitCode",
      ],
      [
        "a tool that is no text",
        '{"event_type":"thinking","payload":{"tools_used":["a",1]}}',
        "validation_failed",
        "/payload/tools_used/1",
      ],
      [
        "a negative iteration",
        '{"event_type":"thinking","payload":{"iteration":-1}}',
        "validation_failed",
        "/payload/iteration",
      ],
      ["a file change without a path", '{"event_type":"file_change"}', "validation_failed", "/payload/path"],
      [
        "stats that are no object",
        '{"event_type":"error","payload":{"stats":[]}}',
        "validation_failed",
        "/payload/stats",
      ],
      [
        "one key in two spellings",
        '{"event_type":"terminal","payload":{"exitCode":1,"exit_code":1}}',
        "validation_failed",
        "/payload/exitCode",
      ],
      ["a NUL character", '{"event_type":"step","payload":{"a":["\\u0000"]}}', "unstorable_text", "/payload/a/0"],
      ["a lone surrogate", '{"event_type":"step","payload":{"a":"\\ud800"}}', "unstorable_text", "/payload/a"],
      ["a number too long", '{"event_type":"step","payload":{"a":1e999}}', "number_out_of_range", "/payload/a"],
    ];

    it.each(cases)(
      "for %s, and says where, alone and among others; nothing is stored",
      async (_, event, code, pointer) => {
        const id = await service.create();
        const good = '{"event_type":"step"}';
        const [one, many] = await Promise.all([
          post(id, event),
          post(id, `[${good},${good},${good},${event},${good}]`),
        ]);
        expect(one).toMatchObject({ status: 422, body: { code, errors: [{ pointer }] } });
        expect(many).toMatchObject({ status: 422, body: { code, errors: [{ pointer: `/3${pointer}` }] } });
        expect(await storedCount(id)).toBe(1);
        expect((await read(id)).last_activity_at).toBe((await read(id)).created_at);
      },
    );

    it("says that messages have their place elsewhere", async () => {
      const answer = await post(await service.create(), { event_type: "message", payload: { text: "hello" } });
      expect(answer.body.detail).toMatch(/messages .* endpoint of their own/);
    });

    it("says all that is wrong at once", async () => {
      const answer = await post(await service.create(), [
        { event_type: "terminal", payload: { command: 1, exitCode: "x" } },
        { event_type: "step" },
        { event_type: "no word" },
      ]);
      expect(answer.body.errors.map((error: { pointer: string }) => error.pointer)).toEqual([
        "/0/payload/command",
        "/0/payload/exitCode",
        "/2/event_type",
      ]);
    });

    it("for no event and for more than 500, however many", async () => {
      const id = await service.create();
      for (const count of [0, 501, 1_000, 1_001, 100_000]) {
        const answer = await post(id, `[${Array(count).fill('{"event_type":"a"}').join(",")}]`);
        expect(answer, String(count)).toMatchObject({
          status: 422,
          body: { code: "validation_failed", errors: [{ pointer: "" }] },
        });
      }
      expect((await post(id, `[${Array(400_000).fill("0").join(",")}]`)).status).toBe(422);
      expect(await storedCount(id)).toBe(1);
    });

    it.each(["1", '"thinking"', "null", "[[]]", "[null]"])("for the body %s", async (body) => {
      expect(await post(await service.create(), body)).toMatchObject({
        status: 422,
        body: { code: "validation_failed" },
      });
    });

    it("for a payload of more than 128 levels, alone and among others", async () => {
      const id = await service.create();
      const deep = (depth: number) => `{"event_type":"step","payload":${nested(depth)}}`;
      expect((await post(id, deep(128))).status).toBe(201);
      expect((await post(id, `[${deep(128)}]`)).status).toBe(201);
      for (const body of [deep(129), `[${deep(129)}]`, "[".repeat(50_000)]) {
        expect(await post(id, body)).toMatchObject({ status: 422, body: { code: "nesting_too_deep" } });
      }
    });

    it("takes all of an array or nothing: 499 good ones do not save a bad one", async () => {
      const id = await service.create();
      const events = numbers(0, 499).map((n) => ({ event_type: "step", payload: { n } }));
      const before = await read(id);
      const answer = await post(id, [...events, { event_type: "terminal", payload: { exit_code: "none" } }]);
      expect(answer).toMatchObject({ status: 422, body: { errors: [{ pointer: "/499/payload/exit_code" }] } });
      expect(await storedCount(id)).toBe(1);
      expect(await read(id)).toEqual(before);
    });

    it("names unknown keys for a client that asks for strictness, which else are ignored", async () => {
      const id = await service.create();
      const sent = { event_type: "step", payload: { any: 1 }, user_id: "u", "a/b": 1 };
      const strict = { prefer: "handling=strict" };
      expect(await post(id, sent, strict)).toMatchObject({
        status: 422,
        body: { errors: [{ pointer: "/user_id" }, { pointer: "/a~1b" }] },
      });
      expect(await post(id, [{ event_type: "step" }, sent], strict)).toMatchObject({
        status: 422,
        body: { errors: [{ pointer: "/1/user_id" }, { pointer: "/1/a~1b" }] },
      });
      const good = await post(id, [{ type: "step", payload: { any: 1 } }], strict);
      expect(good.status).toBe(201);
      expect(good.headers.get("preference-applied")).toBe("handling=strict");
      expect((await post(id, [sent])).status).toBe(201);
    });
  });

  describe("with others at the same time", () => {
    it("20 who report and 20 who change one session: sequences without a gap, positions and times with them", async () => {
      const id = await service.create();
      const answers = await Promise.all(
        numbers(0, 20).flatMap((writer) => [
          post(
            id,
            numbers(0, 1 + (writer % 5)).map((n) => ({ event_type: "step", payload: { writer, n } })),
          ),
          patch(id, { context: { writer } }),
        ]),
      );
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 201]));
      const events = await stored(id);
      expect(events.map(({ sequence }) => sequence)).toEqual(numbers(1, 1 + 60 + 20));
      const positions = events.map(({ position }) => Number(position));
      expect(positions).toEqual(positions.toSorted((a, b) => a - b));
      const times = events.map(({ created_at }) => created_at);
      expect(times).toEqual(times.toSorted());
      let version = 0;
      for (const event of events) {
        if (event.event_type !== "session.step") version++;
        expect(event.session_version).toBe(version);
      }
      expect(version).toBe(21);
      for (const { status, body } of answers) {
        if (status !== 201) continue;
        const first = body[0].sequence;
        expect(body.map(({ sequence }: Event) => sequence)).toEqual(numbers(first, body.length));
        expect(body.map(({ payload }: { payload: { n: number } }) => payload.n)).toEqual(numbers(0, body.length));
      }
    });

    it("reports of many sessions travel together, each with its own order", async () => {
      const ids = await Promise.all(numbers(0, 30).map(() => service.create()));
      const answers = await Promise.all(
        ids.map((id) =>
          post(
            id,
            numbers(0, 20).map((n) => ({ event_type: "step", payload: { id, n } })),
          ),
        ),
      );
      for (const [at, { status, body }] of answers.entries()) {
        expect(status).toBe(201);
        expect(body.map(({ payload }: Event) => payload)).toEqual(numbers(0, 20).map((n) => ({ id: ids[at], n })));
        const positions = body.map(({ position }: Event) => Number(position));
        expect(positions).toEqual(positions.toSorted((a: number, b: number) => a - b));
      }
    });

    it("a session that somebody has locked holds up no others, and gets its events when it is free", async () => {
      const [locked, free] = await Promise.all([service.create(), service.create()]);
      let waiting: Promise<Answer[]> | undefined;
      await service.database.sql.begin(async (tx) => {
        await tx`select 1 from sessions where id = ${locked} for update`;
        waiting = Promise.all(numbers(0, 5).map((n) => post(locked, { event_type: "step", payload: { n } })));
        for (const n of numbers(0, 5)) {
          expect((await post(free, { event_type: "step", payload: { n } })).body.sequence).toBe(2 + n);
        }
      });
      const answers = (await waiting) ?? [];
      expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 201, 201]);
      expect(answers.map(({ body }) => body.sequence).sort()).toEqual([2, 3, 4, 5, 6]);
    });
  });
});
