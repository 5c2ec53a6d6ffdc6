/** Recovery: what a crash leads to, by itself and on request. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, agentId, startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const act = (id: string, verb: string, body?: unknown) => service.request("POST", `/sessions/${id}/${verb}`, body);
const put = (id: string, phase: string) => service.database.sql`update sessions set phase = ${phase} where id = ${id}`;
const microseconds = (time: string) => Number(BigInt(Date.parse(time)) * 1_000n + BigInt(time.slice(23, 26)));
/** Milliseconds from the crash until it may be claimed again. */
const pauseOf = ({ body }: Answer) => (microseconds(body.next_attempt_at) - microseconds(body.ended_at)) / 1_000;
const claimableAt = async (id: string) => {
  const [row] = await service.database.sql`
    select claimable_at is not null as may, claimable_at = updated_at as now,
      to_char(claimable_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at
    from sessions where id = ${id}`;
  return row;
};

describe("a crash", () => {
  it("with auto_recover is followed by another attempt after 5 s, twice as long each time, 600 s at most", async () => {
    const id = await service.create({ auto_recover: true, max_attempts: 1_000 });
    for (const [attempt, seconds] of [
      [1, 5],
      [2, 10],
      [3, 20],
      [7, 320],
      [8, 600],
      [9, 600],
      [999, 600],
    ] as const) {
      await service.database.sql`
        update sessions set phase = 'busy', attempt = ${attempt}, status_reason = null where id = ${id}`;
      const answer = await act(id, "crash", { reason: "killed" });
      expect(answer.body).toMatchObject({ phase: "crashed", attempt, status_reason: "killed" });
      expect([attempt, pauseOf(answer)]).toEqual([attempt, seconds * 1_000]);
      expect(await claimableAt(id)).toMatchObject({ at: answer.body.next_attempt_at });
    }
  });

  it("at the last attempt is final, with the reason attempts_exhausted", async () => {
    for (const [fields, last] of [
      [{}, 3],
      [{ max_attempts: 1 }, 1],
      [{ max_attempts: 5 }, 5],
    ] as const) {
      const id = await service.create({ auto_recover: true, ...fields });
      await service.database.sql`update sessions set attempt = ${last - 1} where id = ${id}`;
      if (last > 1) {
        expect((await act(id, "crash")).body.next_attempt_at).not.toBeNull();
        await put(id, "busy");
      }
      await service.database.sql`update sessions set attempt = ${last} where id = ${id}`;
      const answer = await act(id, "crash", { reason: "killed", error: "out of memory" });
      expect(answer.body).toMatchObject({
        phase: "crashed",
        status_reason: "attempts_exhausted",
        next_attempt_at: null,
        error: { message: "out of memory" },
      });
      expect(await claimableAt(id)).toMatchObject({ may: false });
    }
  });

  it("without auto_recover, and a failure with it, is final until somebody says otherwise", async () => {
    const id = await service.create();
    expect((await act(id, "crash")).body).toMatchObject({ status_reason: null, next_attempt_at: null });
    expect(await claimableAt(id)).toMatchObject({ may: false });
    const failed = await service.create({ auto_recover: true });
    expect((await act(failed, "fail")).body).toMatchObject({ status_reason: null, next_attempt_at: null });
    expect(await claimableAt(failed)).toMatchObject({ may: false });
  });

  it("is judged again when auto_recover or max_attempts are changed afterwards", async () => {
    const id = await service.create();
    await act(id, "crash", { reason: "killed" });
    const patch = (fields: object) => service.request("PATCH", `/sessions/${id}`, fields);
    const allowed = await patch({ auto_recover: true });
    expect(allowed.body).toMatchObject({ phase: "crashed", status_reason: "killed" });
    const [row] = await service.database.sql`
      select next_attempt_at = claimable_at and next_attempt_at = updated_at + interval '5 s' as later
      from sessions where id = ${id}`;
    expect(row).toEqual({ later: true });
    expect((await patch({ name: "no matter" })).body.next_attempt_at).toBe(allowed.body.next_attempt_at);
    expect((await patch({ auto_recover: false })).body.next_attempt_at).toBeNull();
    expect(await claimableAt(id)).toMatchObject({ may: false });

    await service.database.sql`update sessions set attempt = 3, phase = 'busy' where id = ${id}`;
    await patch({ auto_recover: true });
    expect((await act(id, "crash")).body.status_reason).toBe("attempts_exhausted");
    const more = await patch({ max_attempts: 4 });
    expect(more.body.status_reason).toBeNull();
    expect(more.body.next_attempt_at).not.toBeNull();
    expect(await claimableAt(id)).toMatchObject({ may: true });
    const [event] = await service.database.sql`
      select payload -> 'updates' as updates from events where session_id = ${id} order by sequence desc limit 1`;
    expect(event?.["updates"]).toEqual(["max_attempts", "status_reason"]);
  });

  it("that is recovered has no next attempt to wait for any more", async () => {
    const id = await service.create({ auto_recover: true });
    await act(id, "crash");
    const answer = await act(id, "recover");
    expect(answer.body).toMatchObject({ phase: "pending", attempt: 2, next_attempt_at: null, ended_at: null });
    expect(await claimableAt(id)).toMatchObject({ now: true });
  });
});

describe.each(["recover", "restart"])("POST /sessions/{id}/%s", (verb) => {
  it.each(["failed", "crashed"])("takes one that has %s to another attempt, whatever its limit", async (phase) => {
    const id = await service.create({ max_attempts: 1, checkpoint: { step: 3 }, stats: { steps: 9 } });
    await act(id, phase === "failed" ? "fail" : "crash", { error: "bad", result: { half: true } });
    const answer = await act(id, verb, { reason: "the node is back" });
    expect(answer).toMatchObject({
      status: 200,
      body: {
        phase: "pending",
        attempt: 2,
        ended_at: null,
        status_reason: "the node is back",
        checkpoint: { step: 3 },
        stats: { steps: 9 },
        error: { message: "bad" },
        result: null,
      },
    });
    expect(await claimableAt(id)).toMatchObject({ now: true });
    const started = await service.request("PATCH", `/sessions/${id}`, { phase: "running" });
    expect(started.body).toMatchObject({ attempt: 2, started_at: answer.body.started_at });
  });

  it("409 for a live one, which it leaves alone", async () => {
    const id = await service.create();
    for (const phase of ["starting", "running", "ready", "busy", "waiting_input", "stopping"]) {
      await put(id, phase);
      const answer = await act(id, verb, { force: true, reset: true, from_checkpoint: false });
      expect(answer).toMatchObject({ status: 409, body: { code: "invalid_transition", from: phase, to: "pending" } });
      expect(answer.body.detail).toContain(`Invalid state transition: ${phase} → pending`);
    }
    expect((await service.request("GET", `/sessions/${id}`)).body).toMatchObject({ version: 1, attempt: 1 });
  });
});

describe("POST /sessions/{id}/restart", () => {
  it("does a completed session's work again", async () => {
    const id = await service.create();
    await act(id, "complete", { result: [1] });
    expect((await act(id, "restart")).body).toMatchObject({
      phase: "pending",
      status: "active",
      attempt: 2,
      result: null,
    });
  });

  it("begins another attempt at one that was set aside", async () => {
    const id = await service.create();
    await act(id, "pause");
    expect((await act(id, "restart")).body).toMatchObject({ phase: "pending", attempt: 2 });
  });
});

describe("POST /sessions/{id}/recover", () => {
  const ended = async () => {
    const id = await service.create({
      checkpoint: { step: 3 },
      context: { n: 1 },
      stats: { steps: 9 },
      stats_max: { memory: 7 },
    });
    await act(id, "crash");
    return id;
  };

  it.each([
    [{}, { step: 3 }, { steps: 9 }, { memory: 7 }],
    [{ from_checkpoint: true }, { step: 3 }, { steps: 9 }, { memory: 7 }],
    [{ from_checkpoint: false }, null, { steps: 9 }, { memory: 7 }],
    [{ reset: false }, { step: 3 }, { steps: 9 }, { memory: 7 }],
    [{ reset: true }, null, {}, {}],
    [{ reset: true, stats: { steps: 1 } }, null, { steps: 1 }, {}],
    [{ from_checkpoint: null, reset: null, force: null }, { step: 3 }, { steps: 9 }, { memory: 7 }],
  ])("%j carries on from what it says", async (body, checkpoint, stats, statsMax) => {
    const answer = await act(await ended(), "recover", body);
    expect(answer).toMatchObject({ status: 200, body: { phase: "pending", checkpoint, context: { n: 1 } } });
    expect([answer.body.stats, answer.body.stats_max]).toEqual([stats, statsMax]);
  });

  it("with reset names in the event what it cleared", async () => {
    const id = await ended();
    await act(id, "recover", { reset: true });
    const [event] = await service.database.sql`select payload from events where session_id = ${id} and sequence = 3`;
    expect(event?.["payload"].updates).toEqual(["status", "phase", "checkpoint", "stats", "stats_max"]);
  });

  it.each(["expired", "timed_out"])("takes one that has %s by force alone", async (phase) => {
    const id = await service.create();
    await put(id, phase);
    for (const body of [{}, { force: false }, { reset: true }]) {
      expect(await act(id, "recover", body)).toMatchObject({ status: 409, body: { from: phase } });
    }
    for (const word of ["pending", "running"]) {
      expect((await service.request("PATCH", `/sessions/${id}`, { phase: word })).status).toBe(409);
    }
    expect(await act(id, "recover", { force: true })).toMatchObject({
      status: 200,
      body: { phase: "pending", attempt: 2 },
    });
  });

  it("422 for what is no boolean", async () => {
    const id = await ended();
    for (const field of ["force", "reset", "from_checkpoint"]) {
      const answer = await act(id, "recover", { [field]: "true" });
      expect(answer).toMatchObject({ status: 422, body: { errors: [{ pointer: `/${field}` }] } });
    }
  });

  it("of 50 at the same time makes one attempt, and one event", async () => {
    const id = await ended();
    const answers = await Promise.all(Array.from({ length: 50 }, () => act(id, "recover")));
    expect(answers.every(({ status, body }) => status === 200 && body.attempt === 2)).toBe(true);
    const events = await service.database.sql`select from events where session_id = ${id} and sequence > 2`;
    expect(events).toHaveLength(1);
  });
});

describe("GET /sessions/recoverable", () => {
  const other = "00000000-0000-0000-0000-00000000000a";
  let own: TestService;
  const ids: string[] = [];
  beforeAll(async () => {
    own = await startTestService();
    const recoverable = ["failed", "crashed"];
    const rest = ["pending", "running", "busy", "paused", "stopped", "completed", "expired", "timed_out"];
    for (let n = 0; n < 12; n++) {
      for (const phase of [...recoverable, ...rest.slice(0, n === 0 ? rest.length : 1)]) {
        const id = await own.create({ agent_id: n % 3 === 0 ? other : agentId, name: `${n}` });
        await own.database.sql`update sessions set phase = ${phase} where id = ${id}`;
        if (recoverable.includes(phase)) ids.unshift(id);
      }
    }
    const deleted = await own.create();
    await own.database.sql`update sessions set phase = 'crashed' where id = ${deleted}`;
    await own.request("DELETE", `/sessions/${deleted}`);
  });
  afterAll(() => own.stop());
  const list = (query = "") => own.request("GET", `/sessions/recoverable${query}`);
  const idsOf = (answer: Answer) => answer.body.map((session: { id: string }) => session.id);
  const nextOf = (answer: Answer) => /<([^>]+)>; rel="next"/.exec(answer.headers.get("link") ?? "")?.[1];

  it("200 gives a bare array of whole sessions that have failed or crashed, newest first", async () => {
    const answer = await list();
    expect(idsOf(answer)).toEqual(ids);
    expect(answer.body[0]).toEqual((await own.request("GET", `/sessions/${ids[0]}`)).body);
    expect(answer.headers.get("content-type")).toBe("application/json; charset=utf-8");
    expect(nextOf(answer)).toBeUndefined();
    expect((await list("/")).text).toBe(answer.text);
    expect((await own.request("HEAD", "/sessions/recoverable")).status).toBe(200);
  });

  it("200 each of them can be recovered, without force", async () => {
    await using fresh = await startTestService();
    for (const verb of ["fail", "crash"]) await fresh.request("POST", `/sessions/${await fresh.create()}/${verb}`);
    const { body } = await fresh.request("GET", "/sessions/recoverable");
    expect(body).toHaveLength(2);
    for (const { id } of body) expect((await fresh.request("POST", `/sessions/${id}/recover`)).status).toBe(200);
    expect((await fresh.request("GET", "/sessions/recoverable")).text).toBe("[]");
  });

  it("200 filters by agent, in any case, and adds the reader's word", async () => {
    const answer = await list(`?agent_id=${other.toUpperCase()}&vocabulary=operator`);
    expect(answer.body).toHaveLength(8);
    for (const session of answer.body) expect(session).toMatchObject({ agent_id: other, state: "Failed" });
    expect((await list("?agent_id=11111111-1111-1111-1111-111111111111")).text).toBe("[]");
  });

  it.each(["?limit=5", `?limit=3&agent_id=${other}&vocabulary=coding`, "?limit=24"])(
    "200 walks all pages of %s, each session once, in order",
    async (query) => {
      const seen: string[] = [];
      for (let path: string | undefined = query; path !== undefined; ) {
        const answer: Answer = await list(path);
        expect(answer.status).toBe(200);
        seen.push(...idsOf(answer));
        const next = nextOf(answer);
        expect(next ?? "/sessions/recoverable?").toMatch(/^\/sessions\/recoverable\?/);
        if (query.includes("vocabulary")) expect(answer.body[0].state).toBe("failed");
        path = next?.slice("/sessions/recoverable".length);
      }
      const all = await list(query.replace(/limit=\d+/, "limit=100"));
      expect(seen).toEqual(idsOf(all));
      expect(seen.length).toBeGreaterThan(7);
    },
  );

  it("400 for a cursor that was altered, or comes from the plain list", async () => {
    const plain = nextOf(await own.request("GET", "/sessions/?limit=2"))?.split("cursor=")[1];
    const ours = nextOf(await list("?limit=2"))?.split("cursor=")[1] ?? "";
    for (const cursor of [plain, "x", `${ours}x`, ours.slice(1)]) {
      expect(await list(`?cursor=${cursor}`)).toMatchObject({ status: 400, body: { code: "invalid_cursor" } });
    }
    expect(await list(`?agent_id=${other}&cursor=${ours}`)).toMatchObject({ status: 400 });
  });

  it("422 names the parameter that is not right", async () => {
    for (const [query, parameter] of [
      ["?agent_id=7", "agent_id"],
      ["?limit=0", "limit"],
      ["?limit=-1", "limit"],
      ["?limit=x", "limit"],
      ["?vocabulary=x", "vocabulary"],
      ["?cursor=a&cursor=b", "cursor"],
    ] as const) {
      expect(await list(query)).toMatchObject({ status: 422, body: { errors: [{ parameter }] } });
    }
  });

  it("stands beside the sessions, and hides none: other methods are refused", async () => {
    expect(await own.request("POST", "/sessions/recoverable", {})).toMatchObject({ status: 405 });
    expect(await own.request("PATCH", "/sessions/recoverable", {})).toMatchObject({ status: 404 });
  });
});
