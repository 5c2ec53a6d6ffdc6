import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { coalescing } from "../support/coalescing.ts";
import { type Answer, agentId, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

type Body = Record<string, unknown>;

/** A filter that finds the sessions of one test. */
let tests = 0;
const label = () => `bulk:test-${++tests}`;
const labelled = (name: string) => ({ labels: { bulk: name.slice("bulk:".length) } });

describe.each(coalescing)("bulk operations (COALESCE=%s)", (coalesce) => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ COALESCE: coalesce });
  });
  afterAll(() => service.stop());

  const post = (what: string, body: Body, headers?: Record<string, string>) =>
    service.request("POST", `/sessions/bulk-${what}`, body, headers);

  /** Dry run, then the call with its token; gives the answer to that. */
  async function begin(what: string, body: Body, headers?: Record<string, string>): Promise<Answer> {
    const dry = await post(what, { ...body, dry_run: true });
    expect(dry.status, dry.text).toBe(200);
    const answer = await post(what, { ...body, token: dry.body.token }, headers);
    expect(answer.status, answer.text).toBe(202);
    return answer;
  }

  /** Waits for the job's end, and gives it. */
  async function end(location: string | null) {
    let job = await service.request("GET", location ?? "");
    await until(async () => {
      job = await service.request("GET", location ?? "");
      return job.body.finished_at !== null;
    }, "the job to end");
    return job.body;
  }

  async function run(what: string, body: Body, headers?: Record<string, string>) {
    return end((await begin(what, body, headers)).headers.get("location"));
  }

  const results = async (id: string) => (await service.request("GET", `/jobs/${id}/results?limit=1000`)).body;
  const several = async (count: number, fields: object) =>
    Promise.all(Array.from({ length: count }, () => service.create(fields)));
  const eventsOf = async (id: string) =>
    service.database.sql`select event_type as type, metadata from events where session_id = ${id} order by sequence`;

  describe("a dry run", () => {
    it("tells how many there are, the newest ten, and until when its token is good; nothing changes", async () => {
      const name = label();
      const ids: string[] = [];
      for (let at = 0; at < 12; at++) ids.push(await service.create(labelled(name)));
      const { status, body } = await post("delete", { filter: { label: name }, dry_run: true });
      expect(status).toBe(200);
      expect(body).toEqual({
        count: 12,
        sample: ids.toReversed().slice(0, 10),
        token: expect.stringMatching(/^[\w-]+$/),
        expires_at: expect.stringMatching(/^\d{4}-.*\.\d{6}Z$/),
      });
      const minutes = (Date.parse(body.expires_at) - Date.now()) / 60_000;
      expect(minutes).toBeGreaterThan(14);
      expect(minutes).toBeLessThan(16);
      expect((await service.request("GET", `/sessions/?label=${name}`)).body).toHaveLength(12);
    });

    it("finds none where there are none, and its job then ends with nothing done", async () => {
      const job = await run("delete", { filter: { label: label() } });
      expect(job).toMatchObject({ state: "completed", planned: 0, changed: 0, unchanged: 0, refused: 0 });
    });
  });

  describe("bulk-delete", () => {
    it("deletes what is meant and nothing else, each with one event, and says so session by session", async () => {
      const name = label();
      const ids = await several(7, labelled(name));
      const other = await service.create(labelled(label()));
      const answer = await begin("delete", { filter: { label: name } });
      expect(answer.headers.get("location")).toBe(`/jobs/${answer.body.id}`);
      expect(answer.body).toMatchObject({ action: "delete", planned: 7, cancel_requested: false, error: null });
      const job = await end(answer.headers.get("location"));
      expect(job).toMatchObject({ state: "completed", planned: 7, changed: 7, unchanged: 0, refused: 0 });
      expect(job.started_at >= job.created_at && job.finished_at >= job.started_at).toBe(true);
      const done = await results(job.id);
      expect(done.map((one: Body) => one["session_id"]).toSorted()).toEqual(ids.toSorted());
      for (const one of done) expect(one).toMatchObject({ outcome: "changed", reason: null });
      for (const id of ids) {
        expect((await service.request("GET", `/sessions/${id}`)).status).toBe(404);
        expect((await eventsOf(id)).map(({ type }) => type)).toEqual(["session.created", "session.deleted"]);
      }
      expect((await service.request("GET", `/sessions/${other}`)).status).toBe(200);
    });

    it("leaves alone what was created after the dry run", async () => {
      const name = label();
      const before = await service.create(labelled(name));
      const dry = await post("delete", { filter: { label: name }, dry_run: true });
      const after = await service.create(labelled(name));
      const answer = await post("delete", { filter: { label: name }, token: dry.body.token });
      expect(await end(answer.headers.get("location"))).toMatchObject({ changed: 1 });
      expect((await service.request("GET", `/sessions/${before}`)).status).toBe(404);
      expect((await service.request("GET", `/sessions/${after}`)).status).toBe(200);
    });

    it("refuses what is under a legal hold, and deletes the others", async () => {
      const name = label();
      const held = await service.create({ ...labelled(name), legal_hold: true });
      const free = await service.create(labelled(name));
      const job = await run("delete", { filter: { label: name }, hard: true });
      expect(job).toMatchObject({ state: "completed", changed: 1, refused: 1 });
      expect(await results(job.id)).toEqual([
        { session_id: free, outcome: "changed", reason: null },
        { session_id: held, outcome: "refused", reason: "legal_hold" },
      ]);
      expect((await service.request("GET", `/sessions/${held}`)).status).toBe(200);
    });

    it("removes for good what is asked for so, also what was deleted before", async () => {
      const name = label();
      const [deleted = "", live = ""] = await several(2, labelled(name));
      await service.request("DELETE", `/sessions/${deleted}`);
      const job = await run("delete", { filter: { label: name, include_deleted: true }, hard: true });
      expect(job).toMatchObject({ changed: 2 });
      await until(async () => {
        const [row] = await service.database.sql`
          select count(*)::int as count from sessions where id in (${deleted}, ${live})`;
        return row?.["count"] === 0;
      }, "the sessions to be removed");
    });

    it("means all sessions by all alone", async () => {
      expect((await post("delete", { filter: { all: true }, dry_run: true })).body.count).toBeGreaterThan(0);
    });
  });

  describe("bulk-update", () => {
    it("changes what PATCH changes, to the last digit, and says whose request it was", async () => {
      const name = label();
      const [id = "", same = ""] = await several(2, labelled(name));
      const update = { labels: { bulk: name.slice(5), team: "search" }, max_attempts: 7 };
      await service.request("PATCH", `/sessions/${same}`, update);
      const job = await run("update", { filter: { label: name }, update }, { "x-request-id": `update-${name}` });
      expect(job).toMatchObject({ action: "update", changed: 1, unchanged: 1, refused: 0 });
      const { body } = await service.request("GET", `/sessions/${id}`);
      expect(body).toMatchObject({ ...update, version: 2 });
      expect((await eventsOf(id)).at(-1)).toMatchObject({ metadata: { request_id: `update-${name}` } });
      expect(
        (await service.request("GET", "/sessions/?label=team:search")).body.map((one: Body) => one["id"]),
      ).toContain(id);
      const exact = `{"filter":{"label":"${name}"},"update":{"metadata":{"n":12345678901234567890.10}},`;
      const dry = await service.request("POST", "/sessions/bulk-update", `${exact}"dry_run":true}`);
      const answer = await service.request("POST", "/sessions/bulk-update", `${exact}"token":"${dry.body.token}"}`);
      await end(answer.headers.get("location"));
      expect((await service.request("GET", `/sessions/${id}`)).text).toContain('"n": 12345678901234567890.10');
    });

    it("puts on and lifts a legal hold", async () => {
      const name = label();
      const id = await service.create(labelled(name));
      await run("update", { filter: { label: name }, update: { legal_hold: true } });
      expect((await service.request("DELETE", `/sessions/${id}`)).status).toBe(423);
      await run("update", { filter: { label: name }, update: { legal_hold: false } });
      expect((await service.request("DELETE", `/sessions/${id}`)).status).toBe(204);
    });

    it("looks at each session once, whatever the change makes of the filter", async () => {
      const name = label();
      const ids = await several(230, labelled(name));
      const job = await run("update", { filter: { label: name }, update: { labels: {} } });
      expect(job).toMatchObject({ state: "completed", planned: 230, changed: 230, unchanged: 0, refused: 0 });
      const done = (await results(job.id)).map((one: Body) => one["session_id"]);
      expect(new Set(done)).toEqual(new Set(ids));
      expect(done).toHaveLength(230);
    });
  });

  describe("bulk-transition", () => {
    it("takes sessions where their phase leads, leaves those that are there, and refuses the others", async () => {
      const name = label();
      const running = await service.create(labelled(name));
      const completed = await service.create(labelled(name));
      const pending = await service.create({ ...labelled(name), phase: "pending" });
      await service.request("POST", `/sessions/${completed}/complete`);
      const job = await run("transition", { filter: { label: name }, to: "Completed", reason: "project over" });
      expect(job).toMatchObject({ action: "transition", planned: 3, changed: 1, unchanged: 1, refused: 1 });
      expect(await results(job.id)).toEqual([
        { session_id: pending, outcome: "refused", reason: "invalid_transition" },
        { session_id: completed, outcome: "unchanged", reason: null },
        { session_id: running, outcome: "changed", reason: null },
      ]);
      expect((await service.request("GET", `/sessions/${running}`)).body).toMatchObject({
        phase: "completed",
        status_reason: "project over",
      });
    });

    it("goes through a filter by the state that it changes", async () => {
      const agent = "77777777-0000-4000-8000-000000000001";
      await several(120, { agent_id: agent });
      const body = { filter: { agent_id: agent, phase: "running" }, to: "paused" };
      expect(await run("transition", body)).toMatchObject({ planned: 120, changed: 120 });
      expect(await run("transition", body)).toMatchObject({ planned: 0, changed: 0 });
    });

    it("frees the lease that somebody holds, as PATCH without a token does", async () => {
      const name = label();
      const id = await service.create({ ...labelled(name), phase: "pending" });
      const claimed = await service.request("POST", "/sessions/claim", {
        worker_id: "worker-1",
        filter: labelled(name),
      });
      expect(claimed.body).toMatchObject({ id });
      const job = await run("transition", { filter: { label: name, lease_owner: "worker-1" }, to: "stopped" });
      expect(job).toMatchObject({ planned: 1, changed: 1 });
      expect((await service.request("GET", `/sessions/${id}`)).body).toMatchObject({
        phase: "stopped",
        lease_owner: null,
      });
    });
  });

  describe("the token", () => {
    const code = ({ status, body }: Answer) => [status, body.code];

    it("is needed: a call without one, and without a dry run, is 422 and says what to do", async () => {
      for (const extra of [{}, { dry_run: false }]) {
        const answer = await post("delete", { filter: { all: true }, ...extra });
        expect(code(answer)).toEqual([422, "bulk_token_required"]);
        expect(answer.body.detail).toMatch(/"dry_run": true/);
      }
    });

    it("is of one filter, one action and one change", async () => {
      const filter = { label: label() };
      const { token } = (await post("delete", { filter, dry_run: true })).body;
      const refused = [
        await post("delete", { filter: { label: label() }, token }),
        await post("delete", { filter: { all: true }, token }),
        await post("delete", { filter, hard: true, token }),
        await post("update", { filter, update: { max_attempts: 2 }, token }),
        await post("transition", { filter, to: "paused", token }),
      ];
      for (const answer of refused) expect(code(answer)).toEqual([422, "bulk_token_invalid"]);
    });

    it("is of the filter, however that is written", async () => {
      const name = label();
      const { token } = (await post("delete", { filter: { label: [name], status: ["Completed"] }, dry_run: true }))
        .body;
      const answer = await post("delete", { token, hard: false, filter: { status: "completed", label: name } });
      expect(answer.status, answer.text).toBe(202);
    });

    it("is refused when it was altered, cut, or made up", async () => {
      const filter = { label: label() };
      const { token } = (await post("delete", { filter, dry_run: true })).body as { token: string };
      const flipped = [...token].map(
        (character, at) => token.slice(0, at) + (character === "A" ? "B" : "A") + token.slice(at + 1),
      );
      for (const bad of [...flipped, token.slice(0, -1), `${token}A`, `${token}=`, "", "unseen", "\u{1f600}", "fHx8"]) {
        if (bad === token) continue;
        expect(code(await post("delete", { filter, token: bad })), bad).toEqual([422, "bulk_token_invalid"]);
      }
    });

    it("begins one job: sent again, and fifty times at once, it is answered with that job", async () => {
      for (let time = 0; time < 2; time++) {
        const filter = { label: label() };
        const { token } = (await post("delete", { filter, dry_run: true })).body;
        const answers = await Promise.all(Array.from({ length: 50 }, () => post("delete", { filter, token })));
        expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]));
        expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
      }
    });

    it("stands alone: beside dry_run it is 422", async () => {
      const answer = await post("delete", { filter: { all: true }, dry_run: true, token: "x" });
      expect(answer.body).toMatchObject({ status: 422, errors: [{ pointer: "/token" }] });
    });

    it("may come with an Idempotency-Key: the job begins once that is committed", async () => {
      const name = label();
      await service.create(labelled(name));
      const filter = { label: name };
      const dry = await post("delete", { filter, dry_run: true }, { "idempotency-key": `dry-${name}` });
      const again = await post("delete", { filter, dry_run: true }, { "idempotency-key": `dry-${name}` });
      expect([again.text, again.headers.get("idempotent-replayed")]).toEqual([dry.text, "true"]);
      const { token } = dry.body;
      const answer = await post("delete", { filter, token }, { "idempotency-key": name });
      expect(await end(answer.headers.get("location"))).toMatchObject({ changed: 1 });
      const replayed = await post("delete", { filter, token }, { "idempotency-key": name });
      expect([replayed.status, replayed.text]).toEqual([202, answer.text]);
    });
  });

  describe("a body", () => {
    it.each([
      ["delete", { dry_run: true }, "/filter"],
      ["delete", { filter: {}, dry_run: true }, "/filter/all"],
      ["delete", { filter: { include_deleted: true }, hard: true, dry_run: true }, "/filter/all"],
      ["delete", { filter: { statsu: "completed" }, dry_run: true }, "/filter/statsu"],
      ["delete", { filter: { all: true }, drs_run: true }, "/drs_run"],
      ["delete", { filter: { all: false }, dry_run: true }, "/filter/all"],
      ["delete", { filter: { all: true, ended_before: "yesterday" }, dry_run: true }, "/filter/ended_before"],
      [
        "delete",
        { filter: { all: true, updated_before: "2026-01-01T00:00:00Z" }, dry_run: true },
        "/filter/updated_before",
      ],
      ["delete", { filter: { metadata: { a: "b" } }, dry_run: true }, "/filter/metadata"],
      ["delete", { filter: { context_contains: { a: 1 } }, dry_run: true }, "/filter/context_contains"],
      ["delete", { filter: { all: true, include_deleted: true }, dry_run: true }, "/filter/include_deleted"],
      ["delete", { filter: { all: true }, hard: "yes", dry_run: true }, "/hard"],
      ["delete", { filter: { all: true }, token: 7 }, "/token"],
      ["update", { filter: { all: true }, dry_run: true }, "/update"],
      ["update", { filter: { all: true }, update: {}, dry_run: true }, "/update"],
      ["update", { filter: { all: true }, update: { context: {} }, dry_run: true }, "/update/context"],
      ["update", { filter: { all: true }, update: { external_id: "a" }, dry_run: true }, "/update/external_id"],
      ["update", { filter: { all: true }, update: { status: "paused" }, dry_run: true }, "/update/status"],
      ["update", { filter: { all: true }, update: { max_attempts: 0 }, dry_run: true }, "/update/max_attempts"],
      [
        "update",
        { filter: { all: true, include_deleted: true }, update: { name: "a" }, dry_run: true },
        "/filter/include_deleted",
      ],
      ["transition", { filter: { all: true }, dry_run: true }, "/to"],
      ["transition", { filter: { all: true }, to: "asleep", dry_run: true }, "/to"],
      ["transition", { filter: { all: true }, to: null, dry_run: true }, "/to"],
      [
        "transition",
        { filter: { all: true, include_deleted: true }, to: "paused", dry_run: true },
        "/filter/include_deleted",
      ],
    ])("of bulk-%s that is wrong is 422 and names the place: %j", async (what, body, pointer) => {
      const answer = await post(what, body);
      expect(answer.status, answer.text).toBe(422);
      expect(answer.body.errors.map((one: Body) => one["pointer"])).toContain(pointer);
    });

    it.each([
      ["[]"],
      ['"all"'],
      ["null"],
      ['{"filter":null}'],
      ['{"filter":[]}'],
      ['{"filter":{"all":true},"dry_run":null}'],
    ])("that is no object of the kind is 422: %s", async (text) => {
      expect((await service.request("POST", "/sessions/bulk-delete", text)).status).toBe(422);
    });

    it("with what can't be stored is 422, and names the place", async () => {
      const text = '{"filter":{"all":true,"context_contains":{"a":"\\u0000"}},"dry_run":true}';
      const answer = await service.request("POST", "/sessions/bulk-delete", text);
      expect(answer.body).toMatchObject({
        code: "unstorable_text",
        errors: [{ pointer: "/filter/context_contains/a" }],
      });
    });

    it("may not have lists that are too long, also within the filter", async () => {
      const answer = await post("delete", { filter: { agent_id: Array(1_001).fill(agentId) }, dry_run: true });
      expect(answer.body).toMatchObject({ status: 422, errors: [{ pointer: "/filter/agent_id" }] });
    });

    it("may have every filter of the list", async () => {
      const filter = {
        agent_id: [agentId],
        status: ["completed"],
        session_type: "task",
        runtime_backend: "local",
        name: "a",
        name_prefix: "a",
        external_id: "none",
        lease_owner: "w",
        created_after: "2026-01-01T00:00:00Z",
        created_before: "2026-02-01T00:00:00+01:00",
        ended_after: "2026-01-01T00:00:00Z",
        ended_before: "2026-02-01T00:00:00Z",
        updated_after: "2026-01-01T00:00:00Z",
        updated_before: "2026-02-01T00:00:00Z",
        label: ["a:b", "c"],
        metadata: { "team.name": "search" },
        context_contains: { user: { id: 7 } },
      };
      expect(await run("delete", { filter })).toMatchObject({ state: "completed", planned: 0 });
    });

    it("finds by what the context contains, beside a filter that leaves few", async () => {
      const name = label();
      const id = await service.create({ ...labelled(name), context: { user: { id: 7, name: "ada" } } });
      await service.create({ ...labelled(name), context: { user: { id: 8 } } });
      const { body } = await post("delete", {
        filter: { label: name, context_contains: { user: { id: 7 } } },
        dry_run: true,
      });
      expect(body).toMatchObject({ count: 1, sample: [id] });
    });
  });
});
