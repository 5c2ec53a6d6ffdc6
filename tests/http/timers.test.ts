import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, subscribe, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ SWEEP_INTERVAL_MS: "50" });
});
afterAll(() => service.stop());

const patch = (id: string, fields: object) => service.request("PATCH", `/sessions/${id}`, fields);
const post = (id: string) => service.request("POST", `/sessions/${id}/events`, { event_type: "step" });
const read = async (id: string) => (await service.request("GET", `/sessions/${id}`)).body;

const becomes = (id: string, phase: string) => until(async () => (await read(id)).phase === phase, `it to be ${phase}`);

interface Stored {
  readonly event_type: string;
  readonly session_version: number;
  readonly payload: Record<string, unknown>;
  readonly metadata: Record<string, unknown>;
}

const stored = (id: string) => service.database.sql<Stored[]>`
  select event_type, session_version, payload, metadata from events where session_id = ${id} order by sequence`;

/** Seconds between two columns of a session, by the database's clock. */
async function secondsBetween(id: string, from: string, to: string): Promise<number> {
  const [row] = await service.database.sql.unsafe<{ seconds: number }[]>(
    `select extract(epoch from (${to}) - (${from}))::float8 as seconds from sessions where id = '${id}'`,
  );
  return row?.seconds ?? Number.NaN;
}

/** Waits until a sweeper has looked at the session, which says when it shall be looked at next. */
async function nextCheck(id: string): Promise<Date | null> {
  const mark = new Date("2001-01-01");
  await service.database.sql`update sessions set next_check_at = ${mark} where id = ${id}`;
  let next: Date | null = mark;
  const isLookedAt = async () => {
    const [row] = await service.database.sql<{ next: Date | null }[]>`
      select next_check_at as next from sessions where id = ${id}`;
    next = row?.next ?? null;
    return next?.getTime() !== mark.getTime();
  };
  await until(isLookedAt, "a sweeper to look at it");
  return next;
}

describe.concurrent("timeout_seconds", () => {
  it("ends an attempt that runs longer: timed_out, for the reason timeout, with one event", async () => {
    const id = await service.create({ timeout_seconds: 1 });
    await becomes(id, "timed_out");
    expect(await read(id)).toMatchObject({ status: "crashed", status_reason: "timeout", version: 2 });
    expect(await secondsBetween(id, "attempt_started_at", "ended_at")).toBeGreaterThanOrEqual(1);
    expect((await stored(id)).slice(1)).toEqual([
      {
        event_type: "session.updated",
        session_version: 2,
        payload: {
          agent_id: expect.any(String),
          status: "crashed",
          phase: "timed_out",
          updates: ["status", "phase", "status_reason"],
          from: "running",
          to: "timed_out",
          reason: "timeout",
        },
        metadata: { actor: "sweeper" },
      },
    ]);
  });

  it("is not moved by activity", async () => {
    const id = await service.create({ timeout_seconds: 2 });
    await until(
      async () => {
        await post(id);
        return (await read(id)).phase === "timed_out";
      },
      "it to time out",
      { everyMs: 100 },
    );
  });

  it("does not count the time in which it is paused", async () => {
    const id = await service.create({ timeout_seconds: 2 });
    await patch(id, { phase: "paused" });
    await until(async () => (await secondsBetween(id, "created_at", "clock_timestamp()")) > 2.5, "the time to be over");
    await nextCheck(id);
    expect(await read(id)).toMatchObject({ phase: "paused" });
    await patch(id, { phase: "running" });
    await becomes(id, "timed_out");
    expect(await secondsBetween(id, "attempt_started_at", "ended_at")).toBeGreaterThan(4);
    const [row] = await service.database.sql`select active_ms::int as active from sessions where id = ${id}`;
    expect(row?.["active"]).toBeGreaterThanOrEqual(2_000);
  });

  it("counts from the beginning of the attempt when it is set later", async () => {
    const id = await service.create();
    await service.database.sql`
      update sessions set phase_since = phase_since - interval '1 h', attempt_started_at = attempt_started_at - interval '1 h'
      where id = ${id}`;
    await patch(id, { timeout_seconds: 1800 });
    await becomes(id, "timed_out");
  });
});

describe.concurrent("waiting_timeout_seconds", () => {
  it("sets a session aside that gets no input, which wakes it each time", async () => {
    const id = await service.create({ phase: "ready", waiting_timeout_seconds: 1 });
    for (const round of [1, 2]) {
      await becomes(id, "idle");
      expect(await read(id)).toMatchObject({ status: "paused", status_reason: "waiting_timeout", version: 2 * round });
      expect((await stored(id)).at(-1)).toMatchObject({
        payload: { from: "ready", to: "idle", reason: "waiting_timeout" },
        metadata: { actor: "sweeper" },
      });
      expect((await post(id)).status).toBe(201);
      expect(await read(id)).toMatchObject({ phase: "ready", version: 2 * round + 1 });
    }
  });

  it("leaves a session alone that is at work, or waits for a person", async () => {
    for (const phase of ["busy", "waiting_input", "stopping", "paused"]) {
      const id = await service.create({ waiting_timeout_seconds: 1 });
      await patch(id, { phase });
      await service.database.sql`update sessions set last_activity_at = now() - interval '1 h' where id = ${id}`;
      expect(await nextCheck(id)).toBeNull();
      expect(await read(id)).toMatchObject({ phase });
    }
  });
});

describe.concurrent("idle_timeout_seconds", () => {
  const inactive = (id: string) =>
    service.database.sql`update sessions set last_activity_at = now() - interval '1 h' where id = ${id}`;

  it.each(["running", "ready", "busy", "paused", "idle", "stopped"])("expires a session that is %s", async (phase) => {
    const id = await service.create({ idle_timeout_seconds: 1800 });
    await patch(id, { phase });
    const { version } = await read(id);
    await inactive(id);
    await nextCheck(id);
    expect(await read(id)).toMatchObject({
      phase: "expired",
      status: "crashed",
      status_reason: "idle_timeout",
      version: version + 1,
    });
    expect((await stored(id)).at(-1)).toMatchObject({
      session_version: version + 1,
      payload: { from: phase, to: "expired", reason: "idle_timeout" },
    });
  });

  it.each([
    ["starting", ["starting"]],
    ["waiting_input", ["waiting_input"]],
    ["stopping", ["stopping"]],
    ["completed", ["completed"]],
    ["failed", ["failed"]],
  ])("leaves a session alone that is %s", async (phase, path) => {
    const id = await service.create({ phase: phase === "starting" ? phase : "running", idle_timeout_seconds: 1800 });
    for (const step of path) await patch(id, { phase: step });
    await inactive(id);
    expect(await nextCheck(id)).toBeNull();
    expect(await read(id)).toMatchObject({ phase });
  });

  it("leaves a busy session alone that somebody holds, and looks again when its lease ends", async () => {
    const id = await service.create({ idle_timeout_seconds: 1800 });
    await patch(id, { phase: "busy" });
    await service.database.sql`
      update sessions set lease_owner = 'worker-1', lease_token = 1, lease_seconds = 600,
        lease_expires_at = now() + interval '10 min'
      where id = ${id}`;
    await inactive(id);
    const next = await nextCheck(id);
    expect(await read(id)).toMatchObject({ phase: "busy" });
    const [row] = await service.database.sql`select lease_expires_at from sessions where id = ${id}`;
    expect(next).toEqual(row?.["lease_expires_at"]);
  });

  it("counts from the last change or event", async () => {
    const id = await service.create({ idle_timeout_seconds: 2 });
    const began = await read(id);
    for (const act of [() => post(id), () => patch(id, { checkpoint: { n: Math.random() } })]) {
      await until(
        async () => (await secondsBetween(id, "last_activity_at", "clock_timestamp()")) > 1.2,
        "some time to pass",
      );
      expect(await act()).toMatchObject({ status: expect.toSatisfy((status: number) => status < 300) });
    }
    await becomes(id, "expired");
    expect(await secondsBetween(id, "last_activity_at", "ended_at")).toBeGreaterThanOrEqual(2);
    expect(await secondsBetween(id, `'${began.created_at}'::timestamptz`, "ended_at")).toBeGreaterThan(4.4);
  });

  it("counts on while the session is idle: the sweeper's own change is no activity", async () => {
    const id = await service.create({ waiting_timeout_seconds: 1, idle_timeout_seconds: 2 });
    await becomes(id, "expired");
    expect(
      (await stored(id)).slice(1).map(({ payload }) => [payload["from"], payload["to"], payload["reason"]]),
    ).toEqual([
      ["running", "idle", "waiting_timeout"],
      ["idle", "expired", "idle_timeout"],
    ]);
    expect(await secondsBetween(id, "created_at", "last_activity_at")).toBe(0);
  });
});

describe.concurrent("pending_timeout_seconds", () => {
  it("expires a session that nobody claims", async () => {
    const id = await service.create({ phase: "pending", pending_timeout_seconds: 1 });
    await becomes(id, "expired");
    expect(await read(id)).toMatchObject({ status: "crashed", status_reason: "pending_timeout", version: 2 });
    expect((await stored(id)).at(-1)).toMatchObject({ payload: { from: "pending", reason: "pending_timeout" } });
    const [row] = await service.database.sql`select claimable_at from sessions where id = ${id}`;
    expect(row).toEqual({ claimable_at: null });
  });

  it("counts from when it may be claimed", async () => {
    const scheduled = new Date(Date.now() + 3_600_000);
    const id = await service.create({
      phase: "pending",
      pending_timeout_seconds: 1,
      scheduled_at: scheduled.toISOString(),
    });
    expect(await nextCheck(id)).toEqual(new Date(scheduled.getTime() + 1_000));
    expect(await read(id)).toMatchObject({ phase: "pending" });
  });

  it("is over once the session runs", async () => {
    const id = await service.create({ phase: "pending", pending_timeout_seconds: 1 });
    await patch(id, { phase: "running" });
    await until(async () => (await secondsBetween(id, "created_at", "clock_timestamp()")) > 1.2, "the time to be over");
    expect(await nextCheck(id)).toBeNull();
    expect(await read(id)).toMatchObject({ phase: "running" });
  });
});

describe.concurrent("a lease", () => {
  const hold = (id: string, seconds: number) => service.database.sql`
    update sessions set lease_owner = 'worker-1', lease_token = 3, lease_seconds = 1,
      lease_expires_at = clock_timestamp() + make_interval(secs => ${seconds}), next_check_at = clock_timestamp()
    where id = ${id}`;

  it.each(["starting", "running", "ready", "busy", "waiting_input", "stopping"])(
    "that runs out crashes a session that is %s, and is freed",
    async (phase) => {
      const id = await service.create({ phase: phase === "starting" ? phase : "running" });
      await patch(id, { phase });
      await hold(id, 0.5);
      await becomes(id, "crashed");
      expect(await read(id)).toMatchObject({
        status_reason: "lease_expired",
        lease_owner: null,
        lease_expires_at: null,
      });
      expect((await stored(id)).at(-1)).toMatchObject({
        payload: {
          from: phase,
          to: "crashed",
          reason: "lease_expired",
          updates: ["status", "phase", "status_reason", "lease_owner"],
        },
      });
      // It is over, but a late write that names its token is refused still.
      const late = await service.request(
        "POST",
        `/sessions/${id}/events`,
        { event_type: "step" },
        { "lease-token": "3" },
      );
      expect(late).toMatchObject({ status: 409, body: { code: "lease_lost" } });
    },
  );

  it("that is renewed keeps the session", async () => {
    const id = await service.create();
    await hold(id, 1);
    await until(
      async () => {
        const renewal = await service.request(
          "POST",
          `/sessions/${id}/events`,
          { event_type: "step" },
          { "lease-token": "3" },
        );
        expect(renewal.status).toBe(201);
        return (await secondsBetween(id, "created_at", "clock_timestamp()")) > 3;
      },
      "three times the lease",
      { everyMs: 200 },
    );
    expect(await read(id)).toMatchObject({ phase: "running", version: 1 });
    await becomes(id, "crashed");
  });

  it("that runs out makes a session claimable that recovers by itself, until its attempts are exhausted", async () => {
    const id = await service.create({ auto_recover: true, max_attempts: 2 });
    await hold(id, 0);
    await becomes(id, "crashed");
    expect(await read(id)).toMatchObject({ status_reason: "lease_expired", next_attempt_at: expect.any(String) });
    expect(await secondsBetween(id, "ended_at", "claimable_at")).toBe(5);
    await patch(id, { phase: "running" });
    expect(await read(id)).toMatchObject({ attempt: 2 });
    await hold(id, 0);
    await becomes(id, "crashed");
    expect(await read(id)).toMatchObject({ status_reason: "attempts_exhausted", next_attempt_at: null });
    expect((await stored(id)).at(-1)).toMatchObject({ payload: { reason: "attempts_exhausted" } });
  });
});

describe.concurrent("expires_at", () => {
  const soon = () => new Date(Date.now() + 1_000).toISOString();

  it.each(["running", "paused", "completed"])("deletes a session that is %s, softly", async (phase) => {
    const id = await service.create({ expires_at: soon() });
    await patch(id, { phase });
    const { version } = await read(id);
    await until(async () => (await service.request("GET", `/sessions/${id}`)).status === 404, "it to be gone");
    const [row] = await service.database.sql`
      select version, phase, deleted_at >= expires_at as in_time, next_check_at, claimable_at, lease_owner
      from sessions where id = ${id}`;
    expect(row).toEqual({
      version: version + 1,
      phase,
      in_time: true,
      next_check_at: null,
      claimable_at: null,
      lease_owner: null,
    });
    const events = (await stored(id)).filter(({ session_version }) => session_version > version);
    expect(events).toMatchObject([
      { event_type: "session.deleted", payload: { phase, reason: "expires_at" }, metadata: { actor: "sweeper" } },
    ]);
  });

  it("leaves a session under a legal hold", async () => {
    const id = await service.create({ expires_at: soon() });
    await service.database.sql`
      update sessions set legal_hold = true, expires_at = now() - interval '1 h' where id = ${id}`;
    expect(await nextCheck(id)).toBeNull();
    expect((await service.request("GET", `/sessions/${id}`)).status).toBe(200);
  });
});

describe.concurrent("a timer", () => {
  const off = {
    timeout_seconds: 0,
    waiting_timeout_seconds: 0,
    idle_timeout_seconds: 0,
    pending_timeout_seconds: 0,
  };

  it.each(["pending", "starting", "running", "ready"])("of 0 is off, of a session that is %s", async (phase) => {
    const id = await service.create({ phase, ...off });
    await service.database.sql`
      update sessions set last_activity_at = last_activity_at - interval '1 year',
        phase_since = phase_since - interval '1 year', claimable_at = claimable_at - interval '1 year'
      where id = ${id}`;
    expect(await nextCheck(id)).toBeNull();
    expect(await read(id)).toMatchObject({ phase, version: 1 });
  });

  it("that is switched off, or set longer, no longer acts", async () => {
    const [switched, longer] = [
      await service.create({ idle_timeout_seconds: 2 }),
      await service.create({ idle_timeout_seconds: 2 }),
    ];
    await patch(switched, { idle_timeout_seconds: 0 });
    await patch(longer, { idle_timeout_seconds: 3600 });
    await until(
      async () => (await secondsBetween(longer, "last_activity_at", "clock_timestamp()")) > 2.3,
      "the time to be over",
    );
    expect(await nextCheck(switched)).toBeNull();
    expect((await nextCheck(longer))?.getTime()).toBeGreaterThan(Date.now() + 3_000_000);
    for (const id of [switched, longer]) expect(await read(id)).toMatchObject({ phase: "running", version: 2 });
  });

  it("that is set on a session without one acts", async () => {
    const id = await service.create();
    await patch(id, { idle_timeout_seconds: 1 });
    await becomes(id, "expired");
  });

  it("that is set shorter acts sooner", async () => {
    const id = await service.create({ idle_timeout_seconds: 3600 });
    expect((await nextCheck(id))?.getTime()).toBeGreaterThan(Date.now() + 3_000_000);
    await patch(id, { idle_timeout_seconds: 1 });
    await becomes(id, "expired");
  });
});

it("What a timer makes of a session is published like any other change", async () => {
  await using subscription = await subscribe(service.redisUrl);
  const id = await service.create({ timeout_seconds: 1 });
  const events = await subscription.ofSession(id, 2);
  expect(events.at(-1)).toMatchObject({
    event_type: "session.updated",
    payload: { phase: "timed_out", reason: "timeout" },
    metadata: { actor: "sweeper" },
  });
});

it("What timers did is counted", async () => {
  const id = await service.create({ timeout_seconds: 1 });
  await becomes(id, "timed_out");
  const counted = async (series: string) => {
    const { text } = await service.request("GET", "/metrics");
    return Number(new RegExp(`^session_service_${series} (\\d+)$`, "m").exec(text)?.[1] ?? 0);
  };
  expect(await counted('transitions_total{from="running",to="timed_out"}'.replaceAll(/[{}]/g, "\\$&"))).toBeGreaterThan(
    0,
  );
  await until(
    async () => (await counted('swept_sessions_total\\{outcome="timed_out"\\}')) > 0,
    "the sweep to be counted",
  );
  expect(await counted("sweep_seconds_count")).toBeGreaterThan(1);
});
