import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { phases } from "../../src/sessions/lifecycle.ts";
import { startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  // What is diagnosed stays as it is meanwhile: the first sweep comes after the tests.
  service = await startTestService({ SWEEP_INTERVAL_MS: "60000" });
  await service.database.sql`update sweeps set swept_at = clock_timestamp()`;
});
afterAll(() => service.stop());

const diagnose = async (id: string) => {
  const answer = await service.request("GET", `/sessions/${id}/diagnosis`);
  expect(answer.status, answer.text).toBe(200);
  return answer.body;
};

const act = async (id: string, verb: string, body?: object) => {
  const answer = await service.request("POST", `/sessions/${id}/${verb}`, body);
  expect(answer.status, answer.text).toBe(200);
  return answer.body;
};

/** The session was so much longer in all that it has been in up to now. */
const age = (id: string, interval: string) =>
  service.database.sql`
    update sessions set created_at = created_at - ${interval}::interval, phase_since = phase_since - ${interval}::interval,
      started_at = started_at - ${interval}::interval, attempt_started_at = attempt_started_at - ${interval}::interval,
      last_activity_at = last_activity_at - ${interval}::interval, claimable_at = claimable_at - ${interval}::interval
    where id = ${id}`;

const hold = (id: string, seconds: number) =>
  service.database.sql`
    update sessions set lease_owner = 'worker-7', lease_token = 1, lease_seconds = 30,
      lease_expires_at = clock_timestamp() + make_interval(secs => ${seconds})
    where id = ${id}`;

/** The names of the timers, in their order. */
const names = (body: { timers: { name: string }[] }) => body.timers.map(({ name }) => name);

const timerOf = (body: { timers: { name: string }[] }, name: string) => body.timers.find((one) => one.name === name);

const utc = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

describe("200 GET /sessions/{id}/diagnosis", () => {
  it("with and without a trailing slash, and to HEAD", async () => {
    const id = await service.create();
    for (const path of [
      `/sessions/${id}/diagnosis`,
      `/sessions/${id}/diagnosis/`,
      `/sessions/${id.toUpperCase()}/diagnosis`,
    ]) {
      expect(await service.request("GET", path), path).toMatchObject({ status: 200, body: { id } });
    }
    expect(await service.request("HEAD", `/sessions/${id}/diagnosis`)).toMatchObject({ status: 200, text: "" });
  });

  it("tells the phase and since when, as of the database's clock", async () => {
    const id = await service.create({ phase: "ready" });
    await age(id, "3 hours");
    const body = await diagnose(id);
    expect(body).toMatchObject({
      id,
      status: "active",
      phase: "ready",
      status_reason: null,
      exit_requested: false,
      attempt: 1,
      max_attempts: 3,
      auto_recover: false,
      lease: null,
      timers: [],
      next_timer: null,
    });
    const [row] = await service.database.sql`
      select to_char(phase_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as since,
        extract(epoch from ${body.checked_at}::text::timestamptz - phase_since)::float8 as seconds
      from sessions where id = ${id}`;
    expect(body.phase_since).toBe(row?.["since"]);
    expect(body.phase_seconds).toBeCloseTo(row?.["seconds"], 2);
    expect(body.checked_at).toMatch(utc);
    expect(body.summary).toMatch(
      /^Ready for input for 3 h; nobody holds it and no timer runs, so nothing will ever end/,
    );
  });

  it("has durations of at most three decimals", async () => {
    const id = await service.create({ timeout_seconds: 100, idle_timeout_seconds: 50 });
    await hold(id, 12.3456789);
    const { text } = await service.request("GET", `/sessions/${id}/diagnosis`);
    expect(text.match(/seconds[a-z_]*":-?[\d.]+/g)?.length).toBeGreaterThanOrEqual(6);
    expect(text).not.toMatch(/seconds[a-z_]*":-?\d+\.\d{4}/);
  });

  it("tells the reason, the attempt, and that an exit was asked for", async () => {
    const id = await service.create({ max_attempts: 5, auto_recover: true });
    await act(id, "fail", { reason: "out of memory" });
    expect(await diagnose(id)).toMatchObject({ phase: "failed", status_reason: "out of memory", max_attempts: 5 });
    await act(id, "recover");
    expect(await diagnose(id)).toMatchObject({ phase: "pending", attempt: 2 });
    await act(id, "start");
    await act(id, "request-exit");
    const body = await diagnose(id);
    expect(body.exit_requested).toBe(true);
    expect(body.summary).toContain("It has been asked to exit.");
  });
});

describe("the lease", () => {
  it("is told with its holder, its end and how long it has left", async () => {
    const id = await service.create({ auto_recover: true });
    await age(id, "3 hours");
    await hold(id, 20);
    const body = await diagnose(id);
    expect(body.lease).toMatchObject({ owner: "worker-7", live: true });
    expect(body.lease.seconds_left).toBeGreaterThan(5);
    expect(body.lease.seconds_left).toBeLessThanOrEqual(20);
    expect(names(body)).toEqual(["lease"]);
    expect(body.next_timer).toEqual({
      name: "lease",
      outcome: "crashed",
      due_at: body.lease.expires_at,
      seconds_left: body.lease.seconds_left,
    });
    expect(body.summary).toMatch(
      /^Running for 3 h; held by worker-7, whose lease runs out in \d+ s unless it is renewed; then the session crashes and, with 2 of 3 attempts left, may be claimed again 5 s later\.$/,
    );
  });

  it("of a claim is the one that the worker was given", async () => {
    const id = await service.create({ phase: "pending", session_type: "claimed" });
    const filter = { session_type: "claimed" };
    const claimed = await service.request("POST", "/sessions/claim", {
      worker_id: "worker-9",
      lease_seconds: 30,
      filter,
    });
    expect(claimed, claimed.text).toMatchObject({ status: 200, body: { id } });
    const body = await diagnose(id);
    expect(body).toMatchObject({ phase: "running", claim: { claimable: false, claimable_at: null } });
    expect(body.lease).toMatchObject({ owner: "worker-9", expires_at: claimed.body.lease_expires_at, live: true });
    await act(id, "pause");
    expect((await diagnose(id)).lease).toBe(null);
  });

  it("that has run out is told as such", async () => {
    const id = await service.create();
    await hold(id, -60);
    const body = await diagnose(id);
    expect(body.lease).toMatchObject({ owner: "worker-7", live: false });
    expect(body.lease.seconds_left).toBeLessThanOrEqual(-60);
    expect(body.summary).toMatch(/whose lease ran out 1 min( \d+ s)? ago; at the next sweep the session crashes/);
  });

  it("is good for its length after sweeps begin again, for nobody could renew it meanwhile", async () => {
    const id = await service.create();
    await hold(id, -60);
    await service.database.sql`update sweeps set leases_renewed_at = clock_timestamp(), swept_at = clock_timestamp()`;
    const body = await diagnose(id);
    await service.database.sql`update sweeps set leases_renewed_at = '-infinity'`;
    expect(body.lease.live).toBe(true);
    expect(body.lease.seconds_left).toBeGreaterThan(15);
    expect(body.lease.seconds_left).toBeLessThanOrEqual(30);
  });
});

describe("the timers", () => {
  it("that run are told with what comes of them, the next one first", async () => {
    const id = await service.create({
      timeout_seconds: 7_200,
      waiting_timeout_seconds: 600,
      idle_timeout_seconds: 3_600,
      pending_timeout_seconds: 60,
      expires_at: "2126-01-31T09:30:00Z",
    });
    const body = await diagnose(id);
    expect(body.timers.map(({ name, outcome }: { name: string; outcome: string }) => [name, outcome])).toEqual([
      ["waiting_timeout_seconds", "idle"],
      ["idle_timeout_seconds", "expired"],
      ["timeout_seconds", "timed_out"],
      ["expires_at", "deleted"],
    ]);
    expect(body.next_timer).toEqual(body.timers[0]);
    const [row] = await service.database.sql`
      select extract(epoch from ${body.timers[1].due_at}::text::timestamptz - last_activity_at)::float8 as idle,
        extract(epoch from ${body.timers[2].due_at}::text::timestamptz - attempt_started_at)::float8 as whole
      from sessions where id = ${id}`;
    expect(row).toEqual({ idle: 3_600, whole: 7_200 });
    expect(body.timers[3].due_at).toBe("2126-01-31T09:30:00.000000Z");
    expect(body.summary).toMatch(/it is set aside as idle in (10 min|9 min 5\d s) \(waiting_timeout_seconds\)\.$/);
  });

  it("of a pending session are its own", async () => {
    const id = await service.create({ phase: "pending", pending_timeout_seconds: 600, timeout_seconds: 60 });
    await age(id, "8 minutes");
    const body = await diagnose(id);
    expect(names(body)).toEqual(["pending_timeout_seconds"]);
    expect(body.next_timer).toMatchObject({ outcome: "expired" });
    expect(body.next_timer.seconds_left).toBeGreaterThan(90);
    expect(body.next_timer.seconds_left).toBeLessThanOrEqual(120);
  });

  it("do not count the time in which it was paused", async () => {
    const id = await service.create({ timeout_seconds: 3_600 });
    await age(id, "20 minutes");
    await act(id, "pause");
    expect(names(await diagnose(id))).toEqual([]);
    await age(id, "10 minutes");
    await act(id, "resume");
    const timer = timerOf(await diagnose(id), "timeout_seconds") as unknown as { seconds_left: number };
    expect(timer.seconds_left).toBeGreaterThan(2_370);
    expect(timer.seconds_left).toBeLessThanOrEqual(2_400);
  });

  it("that are set to 0 do not run", async () => {
    const id = await service.create({ timeout_seconds: 0, waiting_timeout_seconds: 0, idle_timeout_seconds: 0 });
    expect(names(await diagnose(id))).toEqual([]);
  });

  it("leave out the idle one of who is busy and has a lease", async () => {
    const id = await service.create({ idle_timeout_seconds: 3_600 });
    await service.request("PATCH", `/sessions/${id}`, { phase: "busy" });
    expect(names(await diagnose(id))).toEqual(["idle_timeout_seconds"]);
    await hold(id, 30);
    expect(names(await diagnose(id))).toEqual(["lease"]);
  });
});

describe("the last activity", () => {
  it("is told with when it was", async () => {
    const id = await service.create();
    await age(id, "1 hour");
    const body = await diagnose(id);
    expect(body.last_activity).toMatchObject({ kind: "change", at: expect.stringMatching(utc) });
    expect(body.last_activity.seconds_ago).toBeGreaterThanOrEqual(3_600);
    expect(body.last_activity.seconds_ago).toBeLessThan(3_630);
  });

  it("is told with its kind: a change, a heartbeat, or an event", async () => {
    const id = await service.create();
    const kind = async () => (await diagnose(id)).last_activity.kind;
    await act(id, "heartbeat");
    expect(await kind()).toBe("heartbeat");
    await service.request("POST", `/sessions/${id}/events`, { event_type: "thinking", payload: {} });
    expect(await kind()).toBe("event");
    await service.request("PATCH", `/sessions/${id}`, { context: { changed: true } });
    expect(await kind()).toBe("change");
  });
});

describe("whether it may be claimed", () => {
  it("is yes for who waits, with since when", async () => {
    const id = await service.create({ phase: "pending" });
    await age(id, "5 minutes");
    const body = await diagnose(id);
    expect(body.claim).toMatchObject({ claimable: true, claimable_at: body.phase_since, next_attempt_at: null });
    expect(body.summary).toMatch(/^Pending for 5 min.*, and nobody has claimed it in the 5 min.* that it could be; /);
  });

  it("is not yet for who is scheduled", async () => {
    const id = await service.create({ phase: "pending", scheduled_at: "2126-01-31T09:30:00Z" });
    const body = await diagnose(id);
    const at = "2126-01-31T09:30:00.000000Z";
    expect(body.claim).toEqual({ claimable: false, claimable_at: at, scheduled_at: at, next_attempt_at: null });
    expect(body.summary).toMatch(/it is scheduled, and may be claimed in \d+ d/);
  });

  it("is not yet for who crashed just now, and no for who has no attempt left", async () => {
    const id = await service.create({ auto_recover: true, max_attempts: 2 });
    await act(id, "crash");
    const body = await diagnose(id);
    expect(body.claim).toMatchObject({ claimable: false, claimable_at: body.claim.next_attempt_at });
    expect(Date.parse(body.claim.next_attempt_at) - Date.parse(body.phase_since)).toBe(5_000);
    expect(body.summary).toMatch(/it may be claimed again in .*, for attempt 2 of 2\.$/);
    await act(id, "recover");
    await act(id, "start");
    await act(id, "crash");
    const exhausted = await diagnose(id);
    expect(exhausted).toMatchObject({
      status_reason: "attempts_exhausted",
      claim: { claimable: false, claimable_at: null },
    });
    expect(exhausted.summary).toContain("its attempts are exhausted (2 of 2)");
  });

  it("is yes for who was paused by the shutdown of its worker", async () => {
    const id = await service.create();
    await act(id, "pause", { reason: "worker_shutdown", auto_resume: true });
    const body = await diagnose(id);
    expect(body.claim.claimable).toBe(true);
    expect(body.summary).toContain("(worker_shutdown); it waits to be claimed");
  });

  it("is not yet for who was paused so, and is scheduled", async () => {
    const id = await service.create({ session_type: "scheduled" });
    await act(id, "pause", { auto_resume: true });
    await service.request("PATCH", `/sessions/${id}`, { scheduled_at: "2126-01-31T09:30:00Z" });
    const body = await diagnose(id);
    expect(body.claim).toMatchObject({ claimable: false, claimable_at: "2126-01-31T09:30:00.000000Z" });
    expect(body.summary).toMatch(/^Paused for .*; it is scheduled, may be claimed in \d+ d/);
    const filter = { session_type: "scheduled" };
    expect((await service.request("POST", "/sessions/claim", { worker_id: "w", filter })).status).toBe(204);
  });

  it("is no for who is at work", async () => {
    expect((await diagnose(await service.create())).claim).toMatchObject({ claimable: false, claimable_at: null });
  });
});

describe("the open transitions", () => {
  const begun = async (phase: string) => {
    const isInitial = ["pending", "starting", "running", "ready"].includes(phase);
    const id = await service.create(isInitial ? { phase } : {});
    if (!isInitial) expect((await service.request("PATCH", `/sessions/${id}`, { phase })).status, phase).toBe(200);
    return id;
  };

  it.each(phases)("of %s are the ones that are allowed, and each verb that is named leads there", async (phase) => {
    const { transitions } = await diagnose(await begun(phase));
    expect(transitions.length).toBeGreaterThan(0);
    for (const { to, verbs } of transitions as { to: string; verbs: string[] }[]) {
      if (!["completed", "expired", "timed_out"].includes(phase)) {
        const changed = await service.request("PATCH", `/sessions/${await begun(phase)}`, { phase: to });
        expect([to, changed.status]).toEqual([to, 200]);
      }
      for (const verb of verbs) {
        const body = verb === "start" ? { phase: to } : verb === "recover" ? { force: true } : undefined;
        expect([verb, (await act(await begun(phase), verb, body)).phase]).toEqual([verb, to]);
      }
    }
  });

  it("of who has ended are those of the verbs alone", async () => {
    const id = await service.create();
    await act(id, "complete");
    expect((await diagnose(id)).transitions).toEqual([{ to: "pending", verbs: ["restart"] }]);
  });
});

describe("a deadline", () => {
  it("beyond what RFC 3339 can write is told as the last time that it can", async () => {
    const id = await service.create({ scheduled_at: "9999-12-31T23:00:00Z", pending_timeout_seconds: 86_400 });
    expect(JSON.stringify(await diagnose(id))).toContain("9999-12-31T23:59:59.999999Z");
  });
});

describe("the last sweep", () => {
  it("is told with when it was, and whether sweeps have stopped", async () => {
    const id = await service.create({ timeout_seconds: 60 });
    const { sql } = service.database;
    const swept = async (at: string) => {
      await sql.unsafe(`update sweeps set swept_at = ${at}`);
      return diagnose(id);
    };
    const never = await swept("'-infinity'");
    expect(never.last_sweep).toEqual({ at: null, seconds_ago: null, overdue: true });
    expect(never.summary).toContain("No sweep has ever run, so no timer fires");
    const stopped = await swept("clock_timestamp() - interval '1 hour'");
    expect(stopped.last_sweep).toMatchObject({ at: expect.stringMatching(utc), overdue: true });
    expect(stopped.last_sweep.seconds_ago).toBeCloseTo(3_600, -1);
    expect(stopped.summary).toContain("No sweep has run for 1 h, so no timer fires");
    const running = await swept("clock_timestamp()");
    expect(running.last_sweep).toMatchObject({ at: expect.stringMatching(utc), overdue: false });
    expect(running.summary).not.toContain("sweep");
  });
});

describe("404 GET /sessions/{id}/diagnosis", () => {
  it("for a session that is unknown, malformed or deleted", async () => {
    const deleted = await service.create();
    await service.request("DELETE", `/sessions/${deleted}`);
    for (const id of ["00000000-0000-0000-0000-000000000000", "nonsense", deleted]) {
      const answer = await service.request("GET", `/sessions/${id}/diagnosis`);
      expect(answer, id).toMatchObject({ status: 404, body: { code: "session_not_found" } });
    }
  });
});
