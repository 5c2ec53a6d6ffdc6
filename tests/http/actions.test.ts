/** The verbs: POST /sessions/{id}/start and its like, from every phase, with every kind of body. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { phases, statusOf, transitions } from "../../src/sessions/lifecycle.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { refusedAs, type VerbCell, type VerbName, verbCells } from "../support/verbs.ts";

const verbs = Object.keys(refusedAs) as VerbName[];

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const act = (id: string, verb: VerbName, body?: unknown, headers?: Record<string, string>) =>
  service.request("POST", `/sessions/${id}/${verb}`, body, headers);

/** A session in a phase, whatever the table says of how to get there. */
async function sessionIn(phase: string, fields: object = {}): Promise<string> {
  const id = await service.create(fields);
  await service.database.sql`update sessions set phase = ${phase} where id = ${id}`;
  return id;
}

/** Its lease, as a claim would have given it. */
async function hold(id: string, token: number, until = "1 hour"): Promise<void> {
  await service.database.sql`
    update sessions set lease_owner = 'worker-7', lease_token = ${token}, lease_seconds = 30,
      lease_expires_at = clock_timestamp() + ${until}::interval
    where id = ${id}`;
}

const changesOf = (id: string) =>
  service.database.sql<{ payload: Record<string, unknown>; session_version: number }[]>`
    select payload, session_version from events where session_id = ${id} and sequence > 1 order by sequence`;

const cellsOf = (from: string) =>
  verbCells.filter((cell) => cell.from === from).map((cell): [VerbName, VerbCell] => [cell.verb, cell]);

describe.each(phases)("a session that is %s", (from) => {
  it("is covered by each verb", () => {
    expect(cellsOf(from).map(([verb]) => verb)).toEqual(verbs);
  });

  it.each(cellsOf(from))("%s", async (verb, { to, newAttempt }) => {
    const id = await sessionIn(from);
    const answer = await act(id, verb);
    const changes = await changesOf(id);
    if (to === undefined) {
      const [entry, word] = refusedAs[verb];
      const detail = `Invalid state transition: ${from} → ${word}`;
      const body = { code: "invalid_transition", from, to: entry, allowed: [...transitions[from]], detail };
      expect(answer).toMatchObject({ status: 409, body });
      expect(changes).toHaveLength(0);
      const [row] = await service.database.sql`select phase, version, exit_requested from sessions where id = ${id}`;
      expect(row).toEqual({ phase: from, version: 1, exit_requested: null });
      return;
    }
    const makesChange = to !== from || verb === "request-exit";
    const version = makesChange ? 2 : 1;
    const attempt = newAttempt ? 2 : 1;
    expect(answer).toMatchObject({ status: 200, body: { id, phase: to, status: statusOf[to], version, attempt } });
    expect(answer.headers.get("etag")).toBe(`"${version}"`);
    expect((await service.request("GET", `/sessions/${id}`)).text).toBe(answer.text);
    expect(changes).toHaveLength(makesChange ? 1 : 0);
    if (to !== from) {
      const updates = [...(statusOf[to] === statusOf[from] ? [] : ["status"]), "phase"];
      expect(changes[0]?.payload).toMatchObject({ from, to, phase: to, status: statusOf[to], updates });
    }
  });

  it.each(["expired", "timed_out", "failed", "crashed"].includes(from) ? ["recovered"] : ["refused"])(
    "recover by force: %s",
    async (outcome) => {
      const id = await sessionIn(from);
      const answer = await act(id, "recover", { force: true });
      if (outcome === "recovered")
        expect(answer).toMatchObject({ status: 200, body: { phase: "pending", attempt: 2 } });
      else if (from === "pending") expect(answer).toMatchObject({ status: 200, body: { version: 1, attempt: 1 } });
      else expect(answer).toMatchObject({ status: 409, body: { from, to: "pending" } });
    },
  );

  it("start with {phase: starting} leads there where its runtime may come up, and leaves one that is live", async () => {
    const id = await sessionIn(from);
    const answer = await act(id, "start", { phase: "starting" });
    if (["starting", "running", "ready", "busy", "waiting_input", "stopping"].includes(from)) {
      expect(answer).toMatchObject({ status: 200, body: { phase: from, version: 1 } });
    } else if (["pending", "paused", "idle", "stopped", "failed", "crashed"].includes(from)) {
      expect(answer).toMatchObject({ status: 200, body: { phase: "starting", version: 2 } });
    } else {
      expect(answer).toMatchObject({ status: 409, body: { from, to: "starting" } });
    }
  });
});

describe.each(verbs)("POST /sessions/{id}/%s", (verb) => {
  /** A phase from which the verb changes the session. */
  const from =
    verb === "recover" || verb === "restart" ? "failed" : verb === "start" || verb === "resume" ? "paused" : "busy";

  it("200 without a body, however that is said, with {}, as a form and as text", async () => {
    const bodies: [unknown, Record<string, string>?][] = [
      [undefined],
      ["", { "content-type": "application/json" }],
      ["", { "content-type": "application/x-www-form-urlencoded" }],
      [{}],
      ['{"reason":"why"}', { "content-type": "application/x-www-form-urlencoded" }],
      ['{"reason":"why"}', { "content-type": "text/plain" }],
      ['{"reason":null,"stats":null}'],
      [{ unknown: 1 }],
    ];
    for (const [body, headers] of bodies) {
      const id = await sessionIn(from);
      const answer = await act(id, verb, body, headers);
      expect([body, answer.status, answer.body.version]).toEqual([body, 200, 2]);
    }
  });

  it("200 with and without a trailing slash", async () => {
    const answer = await service.request("POST", `/sessions/${await sessionIn(from)}/${verb}/`);
    expect([answer.status, answer.body.version]).toEqual([200, 2]);
  });

  it("200 keeps the reason, and tells it in the event", async () => {
    const id = await sessionIn(from);
    const answer = await act(id, verb, { reason: "out of köd" });
    if (verb === "request-exit") return expect(answer.body.status_reason).toBeNull();
    expect(answer.body.status_reason).toBe("out of köd");
    expect((await changesOf(id))[0]?.payload).toMatchObject({ reason: "out of köd" });
  });

  it("200 takes stats and a checkpoint along", async () => {
    const id = await sessionIn(from, { stats: { steps: 1 } });
    const answer = await act(id, verb, { stats: { steps: 2 }, stats_max: { memory: 7 }, checkpoint: { step: 3 } });
    expect(answer).toMatchObject({
      status: 200,
      body: { version: 2, stats: { steps: 3 }, stats_max: { memory: 7 }, checkpoint: { step: 3 } },
    });
    expect(await changesOf(id)).toHaveLength(1);
  });

  it("200 adds the reader's word", async () => {
    const answer = await service.request("POST", `/sessions/${await sessionIn(from)}/${verb}?vocabulary=container`);
    expect(answer.body.state).toMatch(/^(INIT|READY|BUSY|IDLE|ERROR)$/);
  });

  it("400 for a body that is not JSON, 422 for one that is no object or has a bad field", async () => {
    const id = await sessionIn(from);
    expect(await act(id, verb, "{")).toMatchObject({ status: 400, body: { code: "malformed_json" } });
    for (const [body, pointer] of [
      ["[]", ""],
      ["null", ""],
      ['"x"', ""],
      [{ reason: 7 }, "/reason"],
      [{ reason: "" }, "/reason"],
      [{ reason: "x".repeat(1_025) }, "/reason"],
      [{ stats: { steps: "1" } }, "/stats/steps"],
      [{ checkpoint: [] }, "/checkpoint"],
      [{ lease_token: "abc" }, "/lease_token"],
    ] as const) {
      const answer = await act(id, verb, body);
      expect([body, answer]).toMatchObject([body, { status: 422, body: { errors: [{ pointer }] } }]);
    }
    expect((await service.request("GET", `/sessions/${id}`)).body.version).toBe(1);
  });

  it("422 names unknown keys for a client that asks for strictness", async () => {
    const answer = await act(await sessionIn(from), verb, { unknown: 1 }, { prefer: "handling=strict" });
    expect(answer).toMatchObject({ status: 422, body: { errors: [{ pointer: "/unknown" }] } });
  });

  it("404 for a session that is not there, is deleted, or has no UUID", async () => {
    const id = await sessionIn(from);
    await service.request("DELETE", `/sessions/${id}`);
    for (const gone of [id, randomUUID(), "7"]) {
      expect(await act(gone, verb)).toMatchObject({ status: 404, body: { detail: "Session not found" } });
    }
  });

  it("412 for another version than If-Match names, and nothing changes; 200 for its own", async () => {
    const id = await sessionIn(from);
    expect(await act(id, verb, {}, { "if-match": '"7"' })).toMatchObject({ status: 412 });
    expect(await changesOf(id)).toHaveLength(0);
    expect(await act(id, verb, {}, { "if-match": '"1"' })).toMatchObject({ status: 200, body: { version: 2 } });
  });

  it("405 for other methods", async () => {
    const answer = await service.request("GET", `/sessions/${await sessionIn(from)}/${verb}`);
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, "POST"]);
  });

  it("200 once with an Idempotency-Key: the same answer again, one event, one transition", async () => {
    const id = await sessionIn(from);
    const key = { "idempotency-key": randomUUID() };
    const first = await act(id, verb, { reason: "once" }, key);
    expect([first.status, first.headers.get("idempotent-replayed")]).toEqual([200, null]);
    await service.database.sql`update sessions set phase = ${from} where id = ${id}`;
    const again = await act(id, verb, { reason: "once" }, key);
    expect([again.status, again.headers.get("idempotent-replayed"), again.text]).toEqual([200, "true", first.text]);
    expect(again.headers.get("etag")).toBe(first.headers.get("etag"));
    expect(await changesOf(id)).toHaveLength(1);
    expect(await act(id, verb, { reason: "twice" }, key)).toMatchObject({ status: 422 });
  });

  it("409 is not kept under an Idempotency-Key: the next try may succeed", async () => {
    const refuses = verbCells.find((cell) => cell.verb === verb && cell.to === undefined);
    const id = await sessionIn(refuses?.from ?? "");
    const key = { "idempotency-key": randomUUID() };
    expect((await act(id, verb, {}, key)).status).toBe(409);
    await service.database.sql`update sessions set phase = ${from} where id = ${id}`;
    expect(await act(id, verb, {}, key)).toMatchObject({ status: 200, body: { version: 2 } });
  });
});

describe("transitions by verbs with an Idempotency-Key", () => {
  const counted = async () => {
    const { text } = await service.request("GET", "/metrics");
    return Number(/transitions_total\{[^}]*from="busy"[^}]*to="completed"[^}]*\} (\d+)/.exec(text)?.[1] ?? 0);
  };

  it("are told once, when they are committed, and not again for a replay", async () => {
    const before = await counted();
    const id = await sessionIn("busy");
    const key = { "idempotency-key": randomUUID() };
    for (let time = 0; time < 3; time++) await act(id, "complete", {}, key);
    expect((await counted()) - before).toBe(1);
  });
});

describe("verbs at the same time", () => {
  it("of 50 the legal ones win: each is one event, which begins where the one before it has led", async () => {
    for (let round = 0; round < 5; round++) {
      const id = await sessionIn("busy");
      const racing = ["pause", "resume", "stop", "start", "fail", "crash", "complete", "restart"] as const;
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, n) => act(id, racing[n % racing.length] ?? "pause")),
      );
      expect(answers.filter(({ status }) => status !== 200 && status !== 409)).toEqual([]);
      const events = await changesOf(id);
      let phase = "busy";
      for (const { payload } of events) {
        expect(payload["from"]).toBe(phase);
        phase = String(payload["to"]);
      }
      const session = (await service.request("GET", `/sessions/${id}`)).body;
      expect([session.phase, session.version]).toEqual([phase, events.length + 1]);
      const versions = new Set(answers.filter(({ status }) => status === 200).map(({ body }) => body.version));
      for (const { session_version: version } of events) expect(versions).toContain(version);
      for (const { payload } of events) {
        const led = verbCells.some(({ from, to }) => from === payload["from"] && to === payload["to"]);
        expect([payload["from"], payload["to"], led]).toEqual([payload["from"], payload["to"], true]);
      }
    }
  });
});

describe("stop", () => {
  it("asks the holder of a lease to come to an end, who then stops it with its token", async () => {
    const id = await sessionIn("busy");
    await hold(id, 7);
    const asked = await act(id, "stop", { reason: "enough" });
    expect(asked).toMatchObject({
      status: 200,
      body: { phase: "stopping", status: "active", lease_owner: "worker-7" },
    });
    expect(await act(id, "stop")).toMatchObject({ status: 200, body: { phase: "stopping", version: 2 } });
    expect(await act(id, "stop", {}, { "lease-token": "6" })).toMatchObject({ body: { code: "lease_lost" } });
    const done = await act(id, "stop", {}, { "lease-token": "7" });
    expect(done).toMatchObject({ status: 200, body: { phase: "stopped", lease_owner: null, lease_expires_at: null } });
    expect(await changesOf(id)).toHaveLength(2);
  });

  it("takes the token in the body as well", async () => {
    const id = await sessionIn("busy");
    await hold(id, 7);
    expect(await act(id, "stop", { lease_token: 7 })).toMatchObject({ status: 200, body: { phase: "stopped" } });
  });

  it("does not wait for a holder whose lease has run out", async () => {
    const id = await sessionIn("busy");
    await hold(id, 7, "-1 second");
    expect(await act(id, "stop")).toMatchObject({ status: 200, body: { phase: "stopped", lease_owner: null } });
  });

  it("of one that was asked already is done when its holder is gone", async () => {
    const id = await sessionIn("busy");
    await hold(id, 7);
    await act(id, "stop");
    await hold(id, 7, "-1 second");
    expect(await act(id, "stop")).toMatchObject({ status: 200, body: { phase: "stopped" } });
  });
});

describe("request-exit", () => {
  it("sets the flag once, and says so in the event", async () => {
    const id = await sessionIn("busy");
    expect(await act(id, "request-exit")).toMatchObject({ body: { phase: "busy", exit_requested: true, version: 2 } });
    expect(await act(id, "request-exit")).toMatchObject({ body: { exit_requested: true, version: 2 } });
    const [event, ...others] = await changesOf(id);
    expect([event?.payload["updates"], others]).toEqual([["exit_requested"], []]);
  });

  it("has its reason in the event: the session's own is that of its phase", async () => {
    const id = await sessionIn("busy");
    expect((await act(id, "request-exit", { reason: "deploy" })).body.status_reason).toBeNull();
    const [event] = await changesOf(id);
    expect(event?.payload).toMatchObject({ updates: ["exit_requested"], reason: "deploy" });
    expect(event?.payload).not.toHaveProperty("to");
  });

  it("is forgotten when the work begins anew, not while it goes on", async () => {
    const id = await sessionIn("busy");
    await act(id, "request-exit");
    expect((await service.request("PATCH", `/sessions/${id}`, { phase: "ready" })).body.exit_requested).toBe(true);
    await act(id, "pause");
    const resumed = await act(id, "resume");
    expect(resumed.body.exit_requested).toBe(false);
    expect((await changesOf(id)).at(-1)?.payload["updates"]).toEqual(["status", "phase", "exit_requested"]);
  });

  it("is told to the worker that begins after it: what waited when it was asked is asked still", async () => {
    const id = await sessionIn("pending");
    await act(id, "request-exit");
    expect((await act(id, "start")).body).toMatchObject({ phase: "running", exit_requested: true });
    await act(id, "crash");
    expect((await act(id, "recover")).body).toMatchObject({ phase: "pending", exit_requested: false });
  });

  it("that was never true is no change, when it is said and when the work begins anew", async () => {
    const id = await sessionIn("paused");
    const said = await service.request("PATCH", `/sessions/${id}`, { exit_requested: false });
    expect(said.body.version).toBe(1);
    await act(id, "resume");
    expect((await changesOf(id)).at(-1)?.payload["updates"]).toEqual(["status", "phase"]);
  });
});

describe("pause", () => {
  it("with auto_resume lets the session be claimed all the same, until it goes on", async () => {
    const id = await sessionIn("busy");
    expect(await act(id, "pause", { auto_resume: true })).toMatchObject({
      body: { phase: "paused", auto_resume: true },
    });
    expect((await changesOf(id)).at(-1)?.payload["updates"]).toEqual(["status", "phase", "auto_resume"]);
    const claimable = () => service.database.sql`select from sessions where id = ${id} and claimable_at is not null`;
    expect(await claimable()).toHaveLength(1);
    expect(await act(id, "resume")).toMatchObject({ body: { phase: "running", auto_resume: false } });
    expect((await changesOf(id)).at(-1)?.payload["updates"]).toEqual(["status", "phase", "auto_resume"]);
    expect(await claimable()).toHaveLength(0);
  });

  it.each([[undefined], [false], [null]])("with auto_resume %s does not", async (autoResume) => {
    const id = await sessionIn("busy");
    const answer = await act(id, "pause", { auto_resume: autoResume });
    expect(answer).toMatchObject({ body: { phase: "paused", auto_resume: false } });
    expect((await changesOf(id)).at(-1)?.payload["updates"]).toEqual(["status", "phase"]);
    expect(await service.database.sql`select from sessions where id = ${id} and claimable_at is not null`).toHaveLength(
      0,
    );
  });

  it("by PATCH does the same", async () => {
    const id = await sessionIn("busy");
    const answer = await service.request("PATCH", `/sessions/${id}`, { status: "paused", auto_resume: true });
    expect(answer).toMatchObject({ status: 200, body: { phase: "paused", auto_resume: true } });
  });
});
