/** What follows from a transition: times, attempts, the lease, and what is forgotten. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { endedPhases, livePhases, type Phase, phases, statusOf, transitions } from "../../src/sessions/lifecycle.ts";
import { startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const isLive = (phase: Phase) => (livePhases as readonly Phase[]).includes(phase);
const isOver = (phase: Phase) => (endedPhases as readonly Phase[]).includes(phase);
const isRecovery = (from: Phase, to: Phase) => statusOf[from] === "crashed" && !isOver(to);

/** Every transition that a change may make. */
const legal = phases.flatMap((from) => transitions[from].map((to): [Phase, Phase] => [from, to]));

/** What the row says beside the answer. */
async function rowOf(id: string) {
  const [row] = await service.database.sql`
    select *, updated_at = phase_since as since_now, updated_at = ended_at as ended_now,
      updated_at = attempt_started_at as attempt_now, updated_at = started_at as started_now,
      updated_at = claimable_at as claimable_now
    from sessions where id = ${id}`;
  if (row === undefined) throw new Error("it is gone");
  return row;
}

/** A session that has been in a phase for 10 s, and at work for 60 s before, with all that a transition may touch. */
async function sessionIn(phase: Phase): Promise<string> {
  const id = await service.create();
  await service.database.sql`
    update sessions set phase = ${phase}, phase_since = clock_timestamp() - interval '10 s', active_ms = 60000,
      phase_ms = '{"busy": 60000}', transitions = 5, attempt = 2, attempt_base_ms = 20000,
      attempt_started_at = created_at - interval '1 minute', started_at = created_at - interval '1 hour',
      ended_at = case when ${isOver(phase)} then created_at end,
      claimable_at = case when ${phase === "pending"} then created_at end,
      lease_owner = case when ${isLive(phase)} then 'worker-7' end,
      lease_expires_at = case when ${isLive(phase)} then clock_timestamp() + interval '1 hour' end,
      lease_seconds = case when ${isLive(phase)} then 3600 end, lease_token = 7,
      status_reason = 'before', exit_requested = true, error = '{"message": "bad"}', result = '{"n": 1.0}',
      auto_resume = case when ${statusOf[phase] === "paused"} then true end, outcome_bytes = 30
    where id = ${id}`;
  return id;
}

const to = (id: string, phase: Phase, fields: object = {}) =>
  service.request("PATCH", `/sessions/${id}`, { phase, ...fields });

describe.each(legal)("from %s to %s", (from, target) => {
  it("keeps the figures, the times and the lease as the lifecycle says", async () => {
    const id = await sessionIn(from);
    const answer = await to(id, target);
    expect(answer.status).toBe(200);
    const row = await rowOf(id);
    const recovers = isRecovery(from, target);
    expect(row).toMatchObject({ since_now: true, transitions: 6, attempt: recovers ? 3 : 2, auto_resume: null });
    const active = Number(row["active_ms"]);
    if (isLive(from)) expect(active).toBeGreaterThanOrEqual(70_000);
    else expect(active).toBe(60_000);
    expect(active).toBeLessThan(100_000);
    const spent = row["phase_ms"] as Record<string, number>;
    const before = from === "busy" ? 60_000 : 0;
    expect(spent[from]).toBeGreaterThanOrEqual(before + 10_000);
    expect(spent["busy"]).toBeGreaterThanOrEqual(60_000);

    // The first start is kept for ever; that of the attempt is the recovery's, once it is live.
    expect(row["started_now"]).toBe(false);
    if (!recovers) expect(row["attempt_now"]).toBe(false);
    else expect(row["attempt_now"]).toBe(isLive(target) ? true : null);
    if (recovers && isLive(target)) expect(Number(row["attempt_base_ms"])).toBe(60_000);
    else expect(Number(row["attempt_base_ms"])).toBe(20_000);
    expect(row["ended_now"]).toBe(isOver(target) ? true : null);
    expect(row["claimable_now"]).toBe(target === "pending" ? true : null);

    const frees = target === "pending" || statusOf[target] !== "active";
    const owner = isLive(from) && !frees ? "worker-7" : null;
    expect(row).toMatchObject({ lease_owner: owner, lease_seconds: owner && 3_600, lease_token: "7" });
    expect(row["lease_expires_at"] === null).toBe(owner === null);
    expect(row["lease_token"]).toBe("7");
  });

  it("forgets what no longer holds, and names exactly that in the event", async () => {
    const id = await sessionIn(from);
    const answer = await to(id, target);
    const goesOn = (phase: Phase) => phase === "pending" || isLive(phase);
    // Those that are set aside here wait for a worker (`auto_resume`), and what was asked of them is asked still.
    const begins = goesOn(target) && !goesOn(from) && statusOf[from] !== "paused";
    const recovers = isRecovery(from, target);
    expect(answer.body).toMatchObject({
      exit_requested: !begins,
      error: target === "completed" ? null : { message: "bad" },
      result: recovers ? null : { n: 1 },
    });
    const frees = target === "pending" || statusOf[target] !== "active";
    // Why it was to stop is why it has stopped.
    const reason = from === "stopping" && target === "stopped" ? "before" : null;
    expect(answer.body.status_reason).toBe(reason);
    const updates = [
      ...(statusOf[from] === statusOf[target] ? [] : ["status"]),
      "phase",
      ...(reason === null ? ["status_reason"] : []),
      ...(begins ? ["exit_requested"] : []),
      ...(target === "completed" ? ["error"] : []),
      ...(recovers ? ["result"] : []),
      ...(isLive(from) && frees ? ["lease_owner"] : []),
      ...(statusOf[from] === "paused" ? ["auto_resume"] : []),
    ];
    const [event] = await service.database.sql`select payload from events where session_id = ${id} and sequence = 2`;
    expect(event?.["payload"].updates).toEqual(updates);
    expect(event?.["payload"].reason ?? null).toBe(reason);
  });
});

describe("what a change sets itself", () => {
  it("is not forgotten by its transition, also where it says what was there already", async () => {
    const id = await sessionIn("crashed");
    const fields = { exit_requested: true, error: { message: "bad" }, result: { n: 1 } };
    const answer = await to(id, "running", { ...fields, reason: "after" });
    expect(answer.body).toMatchObject({ ...fields, status_reason: "after" });
    const closed = await service.request("POST", `/sessions/${await sessionIn("failed")}/complete`, {
      error: { message: "bad" },
    });
    expect(closed.body).toMatchObject({ phase: "completed", error: { message: "bad" } });
  });

  it("holds for the transition in the same request: scheduled_at, auto_recover, max_attempts", async () => {
    const id = await service.create({ phase: "pending", scheduled_at: "2999-01-01T00:00:00Z" });
    await to(id, "stopped");
    const sooner = await to(id, "pending", { scheduled_at: null });
    expect(sooner.body).toMatchObject({ phase: "pending", scheduled_at: null });
    expect((await rowOf(id))["claimable_now"]).toBe(true);

    const other = await service.create();
    const crashed = await to(other, "crashed", { auto_recover: true });
    expect(crashed.body.next_attempt_at).not.toBeNull();
    const last = await service.create({ auto_recover: true });
    expect((await to(last, "crashed", { max_attempts: 1 })).body).toMatchObject({
      status_reason: "attempts_exhausted",
      next_attempt_at: null,
    });
  });

  it("says nothing of the phase where it stays: no reason, no time, no figure", async () => {
    const id = await sessionIn("busy");
    const answer = await to(id, "busy", { reason: "again", auto_resume: true, context: { n: 1 } });
    expect(answer.body).toMatchObject({ phase: "busy", status_reason: "before", auto_resume: false, version: 2 });
    expect(await rowOf(id)).toMatchObject({ transitions: 5, since_now: false });
  });
});

describe("a session that begins", () => {
  it.each([
    ["pending", [null, null, true]],
    ["starting", [true, true, null]],
    ["running", [true, true, null]],
    ["ready", [true, true, null]],
  ] as const)("as %s has started, or may be claimed", async (phase, expected) => {
    const row = await rowOf(await service.create({ phase }));
    expect([row["started_now"], row["attempt_now"], row["claimable_now"]]).toEqual(expected);
    expect(row).toMatchObject({ attempt: 1, ended_at: null, since_now: true, active_ms: "0", transitions: 0 });
  });

  it("as pending starts when it goes live", async () => {
    const id = await service.create({ phase: "pending" });
    const answer = await to(id, "starting");
    expect(answer.body.started_at).toBe(answer.body.updated_at);
    expect(await rowOf(id)).toMatchObject({ attempt_now: true, attempt_base_ms: "0", claimable_at: null });
  });

  it("with a time to be scheduled at is pending, and not to be claimed before", async () => {
    const answer = await service.request("POST", "/sessions/", {
      agent_id: "550e8400-e29b-41d4-a716-446655440000",
      scheduled_at: "2999-01-01T00:00:00Z",
    });
    expect(answer.body).toMatchObject({ phase: "pending", scheduled_at: "2999-01-01T00:00:00.000000Z" });
    const row = await rowOf(answer.body.id);
    expect(row["claimable_at"].toISOString()).toBe("2999-01-01T00:00:00.000Z");
    await service.request("PATCH", `/sessions/${answer.body.id}`, { scheduled_at: null });
    expect((await rowOf(answer.body.id))["claimable_now"]).toBe(true);
  });
});
