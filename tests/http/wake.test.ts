import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

interface Stored {
  readonly event_type: string;
  readonly sequence: number;
  readonly session_version: number;
  readonly position: string;
  readonly payload: Record<string, unknown>;
  readonly metadata: Record<string, unknown>;
}

let service: TestService;
beforeAll(async () => {
  // Timers are none of its business.
  service = await startTestService({ SWEEP_INTERVAL_MS: "60000" });
});
afterAll(() => service.stop());

const numbers = (from: number, count: number) => Array.from({ length: count }, (_, at) => from + at);

const post = (id: string, body: unknown, headers?: Record<string, string>) =>
  service.request("POST", `/sessions/${id}/events`, body, headers);
const read = async (id: string) => (await service.request("GET", `/sessions/${id}`)).body;
const stored = (id: string) => service.database.sql<Stored[]>`
  select event_type, sequence, session_version, position::text, payload, metadata
  from events where session_id = ${id} order by sequence`;

async function idleSession(): Promise<string> {
  const id = await service.create();
  const answer = await service.request("PATCH", `/sessions/${id}`, { phase: "idle" });
  expect(answer).toMatchObject({ status: 200, body: { phase: "idle", version: 2 } });
  return id;
}

describe("Events posted to an idle session", () => {
  it("wake it to ready: first what was reported, with the version before, then one change, for the reason input", async () => {
    const id = await idleSession();
    const before = await read(id);
    const answer = await post(
      id,
      [
        { event_type: "step", payload: { n: 1 } },
        { event_type: "step", payload: { n: 2 } },
      ],
      { "x-request-id": "input-1" },
    );
    expect(answer.status, answer.text).toBe(201);
    expect(
      answer.body.map(({ sequence, session_version, event_type }: Stored) => [sequence, session_version, event_type]),
    ).toEqual([
      [3, 2, "session.step"],
      [4, 2, "session.step"],
    ]);
    const events = await stored(id);
    expect(
      events.slice(2).map(({ sequence, session_version, event_type }) => [sequence, session_version, event_type]),
    ).toEqual([
      [3, 2, "session.step"],
      [4, 2, "session.step"],
      [5, 3, "session.updated"],
    ]);
    expect(events.at(-1)).toMatchObject({
      payload: {
        agent_id: before.agent_id,
        status: "active",
        phase: "ready",
        updates: ["status", "phase", "status_reason"],
        from: "idle",
        to: "ready",
        reason: "input",
      },
      metadata: { request_id: "input-1" },
    });
    const positions = events.map(({ position }) => Number(position));
    expect(positions).toEqual(positions.toSorted((a, b) => a - b));
    const after = await read(id);
    expect(after).toMatchObject({ phase: "ready", status: "active", status_reason: "input", version: 3, attempt: 1 });
    expect(after.updated_at > before.updated_at).toBe(true);
    expect(after.last_activity_at).toBe(after.updated_at);
  });

  it("wake it once, however many report at the same time, and lose nothing", async () => {
    const id = await idleSession();
    const answers = await Promise.all(numbers(0, 30).map((n) => post(id, { event_type: "step", payload: { n } })));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    const events = await stored(id);
    expect(events.map(({ sequence }) => sequence)).toEqual(numbers(1, 2 + 30 + 1));
    expect(events.filter(({ event_type: type }) => type === "session.updated")).toHaveLength(2);
    expect(await read(id)).toMatchObject({ phase: "ready", version: 3 });
  });

  it("wake each of many, and the events of sessions that are awake are stored among them", async () => {
    const [idle, awake] = await Promise.all([
      Promise.all(numbers(0, 20).map(idleSession)),
      Promise.all(numbers(0, 20).map(() => service.create())),
    ]);
    const answers = await Promise.all([...idle, ...awake].map((id) => post(id, { event_type: "step" })));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    for (const id of idle) expect(await read(id)).toMatchObject({ phase: "ready", version: 3 });
    for (const id of awake) expect(await read(id)).toMatchObject({ phase: "running", version: 1 });
  });

  it("wake it once when the request is sent again with its Idempotency-Key", async () => {
    const id = await idleSession();
    const send = () => post(id, { event_type: "step" }, { "idempotency-key": `wake-${id}` });
    const [first, again] = [await send(), await send()];
    expect(again.text).toBe(first.text);
    expect(await stored(id)).toHaveLength(4);
    expect(await read(id)).toMatchObject({ phase: "ready", version: 3 });
  });

  it("bring what is due after input nearer: the sweeper looks when its timers could be", async () => {
    const id = await service.create({ waiting_timeout_seconds: 100 });
    await service.request("PATCH", `/sessions/${id}`, { phase: "idle" });
    await service.database.sql`update sessions set next_check_at = null where id = ${id}`;
    await post(id, { event_type: "step" });
    const [row] = await service.database.sql`
      select extract(epoch from next_check_at - last_activity_at)::float8 as seconds from sessions where id = ${id}`;
    expect(row?.["seconds"]).toBe(100);
  });
});

describe("Events posted to any other session that is set aside", () => {
  it.each(["paused", "stopped", "completed"])("leave it %s", async (phase) => {
    const id = await service.create();
    await service.request("PATCH", `/sessions/${id}`, { phase });
    expect((await post(id, { event_type: "step" })).status).toBe(201);
    expect(await read(id)).toMatchObject({ phase, version: 2 });
  });
});

describe("Events posted with a Lease-Token", () => {
  async function heldSession(): Promise<string> {
    const id = await service.create();
    await service.database.sql`
      update sessions set lease_owner = 'worker-1', lease_token = 7, lease_seconds = 60,
        lease_expires_at = clock_timestamp() + interval '1 s'
      where id = ${id}`;
    return id;
  }
  const secondsLeft = async (id: string) => {
    const [row] = await service.database.sql<{ seconds: number }[]>`
      select extract(epoch from lease_expires_at - last_activity_at)::float8 as seconds from sessions where id = ${id}`;
    return row?.seconds;
  };

  it("of the lease renew it", async () => {
    const id = await heldSession();
    expect((await post(id, { event_type: "step" }, { "lease-token": "7" })).status).toBe(201);
    expect(await secondsLeft(id)).toBeCloseTo(60, 1);
  });

  it("of the lease renew it with an Idempotency-Key, too", async () => {
    const id = await heldSession();
    const headers = { "lease-token": "7", "idempotency-key": `renew-${id}` };
    expect((await post(id, { event_type: "step" }, headers)).status).toBe(201);
    expect(await secondsLeft(id)).toBeCloseTo(60, 1);
  });

  it("that is not the current one are 409 lease_lost, and nothing is stored", async () => {
    const held = await heldSession();
    const idle = await idleSession();
    for (const [id, token] of [
      [held, "6"],
      [held, "8"],
      [idle, "7"],
      [await service.create(), "1"],
    ] as const) {
      const before = await stored(id);
      const answer = await post(id, { event_type: "step" }, { "lease-token": token });
      expect(answer).toMatchObject({ status: 409, body: { code: "lease_lost" } });
      expect(await stored(id)).toEqual(before);
    }
    expect(await secondsLeft(held)).toBeLessThan(2);
    expect(await read(idle)).toMatchObject({ phase: "idle", version: 2 });
  });

  it("that is no number are 422", async () => {
    const answer = await post(await heldSession(), { event_type: "step" }, { "lease-token": "abc" });
    expect(answer).toMatchObject({ status: 422, body: { code: "validation_failed" } });
  });

  it("need none: without it they are stored, and renew nothing", async () => {
    const id = await heldSession();
    expect((await post(id, { event_type: "step" })).status).toBe(201);
    expect(await secondsLeft(id)).toBeLessThan(2);
  });
});

it("Events count as activity, of the kind event", async () => {
  const id = await service.create();
  await post(id, { event_type: "step" });
  const [row] = await service.database.sql`
    select last_activity_kind, last_activity_at > updated_at as later from sessions where id = ${id}`;
  expect(row).toEqual({ last_activity_kind: "event", later: true });
});
