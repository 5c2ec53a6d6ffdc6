import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentId, startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ SWEEP_INTERVAL_MS: "60000" });
});
afterAll(() => service.stop());

const metrics = async (id: string) => {
  const answer = await service.request("GET", `/sessions/${id}/metrics`);
  expect(answer.status, answer.text).toBe(200);
  return answer.body;
};

const figures = async (query = "", of = service) => {
  const answer = await of.request("GET", `/metrics/sessions${query}`);
  expect(answer.status, answer.text).toBe(200);
  return answer.body;
};

const act = async (id: string, verb: string) => {
  const answer = await service.request("POST", `/sessions/${id}/${verb}`);
  expect(answer.status, answer.text).toBe(200);
};

/** The session has been in its phase for so many minutes longer, and in all that came before as long as it was. */
const stay = (id: string, minutes: number) =>
  service.database.sql`
    update sessions set created_at = created_at - make_interval(mins => ${minutes}),
      phase_since = phase_since - make_interval(mins => ${minutes}),
      started_at = started_at - make_interval(mins => ${minutes})
    where id = ${id}`;

const minute = 60_000;
/** What the requests of a test may take. */
const slack = 15_000;

function expectAbout(ms: number, minutes: number) {
  expect(ms).toBeGreaterThanOrEqual(minutes * minute);
  expect(ms).toBeLessThan(minutes * minute + slack);
}

describe("200 GET /sessions/{id}/metrics", () => {
  it("with and without a trailing slash, and to HEAD", async () => {
    const id = await service.create();
    for (const path of [`/sessions/${id}/metrics`, `/sessions/${id}/metrics/`]) {
      expect(await service.request("GET", path), path).toMatchObject({ status: 200, body: { id, phase: "running" } });
    }
    expect(await service.request("HEAD", `/sessions/${id}/metrics`)).toMatchObject({ status: 200, text: "" });
  });

  it("counts nothing that has not been: a session that never started has no duration", async () => {
    const id = await service.create({ phase: "pending" });
    await stay(id, 10);
    const body = await metrics(id);
    expect(body).toMatchObject({
      attempt: 1,
      transitions: 0,
      started_at: null,
      ended_at: null,
      duration_ms: null,
      active_duration_ms: 0,
      events: { total: 1, by_type: { "session.created": 1 }, complete: true },
      stats: {},
      stats_max: {},
      checkpoint_bytes: 0,
      details_bytes: 0,
    });
    expect(Object.keys(body.phase_ms)).toEqual(["pending"]);
    expectAbout(body.phase_ms.pending, 10);
  });

  it("leaves time in which it was paused out of the active duration, and not out of the duration", async () => {
    const id = await service.create();
    await stay(id, 20);
    await act(id, "pause");
    await stay(id, 10);
    const paused = await metrics(id);
    expectAbout(paused.duration_ms, 30);
    expectAbout(paused.active_duration_ms, 20);
    await act(id, "resume");
    await stay(id, 5);
    const body = await metrics(id);
    expectAbout(body.duration_ms, 35);
    expectAbout(body.active_duration_ms, 25);
    expectAbout(body.phase_ms.running, 25);
    expectAbout(body.phase_ms.paused, 10);
    expect(body.transitions).toBe(2);
  });

  it("stops the clock at the end", async () => {
    const id = await service.create();
    await stay(id, 20);
    await act(id, "complete");
    await service.database.sql`
      update sessions set phase_since = phase_since - interval '1 hour', started_at = started_at - interval '1 hour',
        ended_at = ended_at - interval '1 hour', created_at = created_at - interval '1 hour' where id = ${id}`;
    const body = await metrics(id);
    expectAbout(body.duration_ms, 20);
    expectAbout(body.active_duration_ms, 20);
    expectAbout(body.phase_ms.completed, 60);
    const [row] = await service.database.sql`
      select round(extract(epoch from ended_at - started_at) * 1000)::float8 as ms from sessions where id = ${id}`;
    expect(body.duration_ms).toBe(row?.["ms"]);
  });

  it("goes on counting after a restart", async () => {
    const id = await service.create();
    await stay(id, 20);
    await act(id, "complete");
    await stay(id, 60);
    await act(id, "restart");
    await act(id, "start");
    await stay(id, 5);
    const body = await metrics(id);
    expect(body).toMatchObject({ attempt: 2, transitions: 3, ended_at: null });
    expectAbout(body.active_duration_ms, 25);
    expectAbout(body.phase_ms.running, 25);
    expectAbout(body.phase_ms.completed, 60);
    expectAbout(body.duration_ms, 85);
  });

  it("accounts for all of the session's time, phase by phase, in the order of the phases", async () => {
    const id = await service.create({ phase: "pending" });
    for (const phase of [
      "starting",
      "running",
      "busy",
      "waiting_input",
      "ready",
      "idle",
      "running",
      "stopped",
      "completed",
    ]) {
      await stay(id, 3);
      const answer = await service.request("PATCH", `/sessions/${id}`, { phase });
      expect(answer.status, answer.text).toBe(200);
    }
    const body = await metrics(id);
    const [row] = await service.database.sql`
      select (extract(epoch from ${body.checked_at}::text::timestamptz - created_at) * 1000)::float8 as ms
      from sessions where id = ${id}`;
    const spent = Object.values<number>(body.phase_ms);
    expect(Math.abs(spent.reduce((sum, ms) => sum + ms) - row?.["ms"])).toBeLessThan(spent.length);
    expect(Object.keys(body.phase_ms)).toEqual([
      "pending",
      "starting",
      "running",
      "ready",
      "busy",
      "waiting_input",
      "idle",
      "stopped",
      "completed",
    ]);
  });

  it("counts the events by type, those included that a runtime posted", async () => {
    const id = await service.create();
    for (let time = 0; time < 3; time++) {
      await service.request("POST", `/sessions/${id}/events`, { event_type: "tool_call", payload: {} });
    }
    await act(id, "pause");
    const { events } = await metrics(id);
    expect(events).toEqual({
      total: 5,
      by_type: { "session.created": 1, "session.tool_call": 3, "session.updated": 1 },
      complete: true,
    });
  });

  it("tells what its runtime counted, to the last digit, and the size of its documents", async () => {
    const id = await service.create({ context: { text: "ü" }, runtime_metadata: { pid: 1 }, name: "a session" });
    const patch = '{"checkpoint":{"step":5},"stats":{"input_tokens":12345678901234567890},"stats_max":{"memory":1.50}}';
    expect((await service.request("PATCH", `/sessions/${id}`, patch)).status).toBe(200);
    const { text, body } = await service.request("GET", `/sessions/${id}/metrics`);
    expect(text).toContain('"stats":{"input_tokens": 12345678901234567890}');
    expect(text).toContain('"stats_max":{"memory": 1.50}');
    const [row] = await service.database.sql`
      select octet_length(context::text) as context_bytes, octet_length(checkpoint::text) as checkpoint_bytes,
        octet_length(runtime_metadata::text) as runtime_metadata_bytes, octet_length(details::text) as details_bytes
      from sessions where id = ${id}`;
    expect(body).toMatchObject({ ...row });
  });
});

describe("404 GET /sessions/{id}/metrics", () => {
  it("for a session that is unknown, malformed or deleted", async () => {
    const deleted = await service.create();
    await service.request("DELETE", `/sessions/${deleted}`);
    for (const id of ["00000000-0000-0000-0000-000000000000", "nonsense", deleted]) {
      const answer = await service.request("GET", `/sessions/${id}/metrics`);
      expect(answer, id).toMatchObject({ status: 404, body: { code: "session_not_found" } });
    }
  });
});

describe("200 GET /metrics/sessions", () => {
  let own: TestService;
  beforeAll(async () => {
    own = await startTestService({ SWEEP_INTERVAL_MS: "60000" });
  });
  afterAll(() => own.stop());

  const otherAgent = "550e8400-e29b-41d4-a716-446655440001";
  const nobody = "550e8400-e29b-41d4-a716-44665544ffff";
  const phaseOf = async (id: string, phase: string) => {
    const answer = await own.request("PATCH", `/sessions/${id}`, { phase });
    expect(answer.status, answer.text).toBe(200);
  };

  it("of an empty database is zeros and nulls", async () => {
    for (const query of ["", "?group_by=agent_id", `?agent_id=${nobody}`, "?since=366d"]) {
      expect(await figures(query, own), query).toMatchObject({
        complete: true,
        total: 0,
        groups: [],
        more_groups: 0,
        ended: 0,
        expired: 0,
        expiry_rate: 0,
        duration_ms: { mean: null, p50: null, p95: null },
        events: { total: 0, by_type: {}, complete: true },
      });
    }
  });

  it("counts sessions by status, phase, type and agent, the deleted ones left out", async () => {
    const ids = [
      await own.create({ session_type: "task" }),
      await own.create({ session_type: "task" }),
      await own.create({ session_type: "batch" }),
      await own.create({ session_type: "task", agent_id: otherAgent }),
      await own.create(),
    ];
    await phaseOf(ids[0] ?? "", "busy");
    await phaseOf(ids[2] ?? "", "paused");
    await own.request("DELETE", `/sessions/${ids[4]}`);
    const groups = async (by: string) => (await figures(`?group_by=${by}`, own)).groups;
    expect(await groups("status")).toEqual([
      { value: "active", count: 3, share: 0.75 },
      { value: "paused", count: 1, share: 0.25 },
    ]);
    expect(await groups("phase")).toEqual([
      { value: "running", count: 2, share: 0.5 },
      { value: "busy", count: 1, share: 0.25 },
      { value: "paused", count: 1, share: 0.25 },
    ]);
    expect(await groups("session_type")).toEqual([
      { value: "task", count: 3, share: 0.75 },
      { value: "batch", count: 1, share: 0.25 },
    ]);
    expect(await groups("agent_id")).toEqual([
      { value: agentId, count: 3, share: 0.75 },
      { value: otherAgent, count: 1, share: 0.25 },
    ]);
    expect(await figures("", own)).toMatchObject({
      group_by: "status",
      total: 4,
      more_groups: 0,
      events: { total: 8, by_type: { "session.created": 5, "session.updated": 2, "session.deleted": 1 } },
    });
  });

  it("of one agent are of its sessions and their events", async () => {
    expect(await figures(`?agent_id=${otherAgent.toUpperCase()}&group_by=session_type`, own)).toMatchObject({
      total: 1,
      groups: [{ value: "task", count: 1, share: 1 }],
      events: { total: 1, by_type: { "session.created": 1 } },
    });
  });

  it("tells how long those lasted that have ended, and how many ran out of time", async () => {
    const agent_id = "550e8400-e29b-41d4-a716-446655440002";
    const minutes = Array.from({ length: 21 }, (_, at) => at);
    for (const lasted of minutes) {
      const id = await own.create({ agent_id });
      await own.database.sql`
        update sessions set started_at = started_at - make_interval(mins => ${lasted}) where id = ${id}`;
      await phaseOf(id, lasted < 3 ? "expired" : lasted < 5 ? "timed_out" : lasted < 8 ? "crashed" : "completed");
    }
    const never = await own.create({ agent_id, phase: "pending" });
    await phaseOf(never, "failed");
    await own.create({ agent_id });
    const body = await figures(`?agent_id=${agent_id}&group_by=phase`, own);
    expect(body).toMatchObject({ total: 23, ended: 22, expired: 5, expiry_rate: 0.227273 });
    expectAbout(body.duration_ms.mean, 10);
    expectAbout(body.duration_ms.p50, 10);
    expectAbout(body.duration_ms.p95, 19);
    expect(body.groups).toEqual([
      { value: "completed", count: 13, share: 0.565217 },
      { value: "crashed", count: 3, share: 0.130435 },
      { value: "expired", count: 3, share: 0.130435 },
      { value: "timed_out", count: 2, share: 0.086957 },
      { value: "failed", count: 1, share: 0.043478 },
      { value: "running", count: 1, share: 0.043478 },
    ]);
  });

  it("counts who was created since then, by the database's clock: 24h unless said otherwise", async () => {
    const agent_id = "550e8400-e29b-41d4-a716-446655440003";
    for (const hours of [1, 23, 25, 49]) {
      const id = await own.create({ agent_id });
      await own.database.sql`
        update sessions set created_at = created_at - make_interval(hours => ${hours}) where id = ${id}`;
    }
    const total = async (since?: string) =>
      (await figures(`?agent_id=${agent_id}${since === undefined ? "" : `&since=${encodeURIComponent(since)}`}`, own))
        .total;
    expect(await total()).toBe(2);
    for (const [since, count] of [
      ["24h", 2],
      ["86400s", 2],
      ["30m", 0],
      ["90M", 1],
      ["2d", 3],
      ["366d", 4],
    ] as const) {
      expect(await total(since), since).toBe(count);
    }
    const [row] = await own.database.sql`
      select to_char((clock_timestamp() - interval '24 hours') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as a,
        to_char((clock_timestamp() - interval '22 hours') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+02:00"') as b`;
    expect(await total(row?.["a"])).toBe(2);
    // Two hours east of Greenwich: the same moment as the one above.
    expect(await total(row?.["b"])).toBe(2);
    expect((await figures(`?since=${row?.["a"]}`, own)).since).toBe(row?.["a"]);
    expect(await total("2126-01-31T09:30:00Z")).toBe(0);
  });

  it("tells the 100 largest groups, and how many more there are", async () => {
    await own.database.sql`
      insert into sessions (id, agent_id, session_type, created_at, updated_at, last_activity_at, phase_since)
      select gen_random_uuid(), gen_random_uuid(), 'many', now(), now(), now(), now() from generate_series(1, 130)`;
    const { groups, more_groups, total } = await figures("?group_by=agent_id", own);
    expect(groups).toHaveLength(100);
    expect(groups[0].count).toBeGreaterThan(20);
    expect(groups.map(({ count }: { count: number }) => count)).toEqual(
      groups.map(({ count }: { count: number }) => count).toSorted((a: number, b: number) => b - a),
    );
    const [row] = await own.database.sql`
      select count(distinct agent_id)::int as agents, count(*)::int as sessions from sessions
      where created_at > now() - interval '24 hours' and deleted_at is null`;
    expect([more_groups, total]).toEqual([row?.["agents"] - 100, row?.["sessions"]]);
  });

  it("with and without a trailing slash, and to HEAD", async () => {
    expect((await own.request("GET", "/metrics/sessions/?since=1h")).status).toBe(200);
    expect(await own.request("HEAD", "/metrics/sessions")).toMatchObject({ status: 200, text: "" });
  });
});

describe("422 GET /metrics/sessions", () => {
  it.each([
    [
      "since",
      ["", "24", "h", "-1h", "0h", "1.5h", "1w", "1h1m", "9999999999s", "367d", "soon", "24h&since=1h", "NaNh"],
    ],
    ["since", ["2020-01-31T09:30:00Z", "0001-01-01T00:00:00Z", "2026-02-31T09:30:00Z", "2026-01-31"]],
    ["group_by", ["", "model", "Status,phase", "id", "status&group_by=phase"]],
    ["agent_id", ["", "me", "550e8400"]],
  ])("for a bad %s, which it names: %j", async (parameter, values) => {
    for (const value of values) {
      const { status, body } = await service.request("GET", `/metrics/sessions?${parameter}=${value}`);
      expect([value, status, body.code]).toEqual([value, 422, "validation_failed"]);
      expect(body.errors).toEqual([{ parameter, detail: expect.stringMatching(/^must be /) }]);
    }
  });
});
