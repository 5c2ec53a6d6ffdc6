import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const heartbeat = (id: string, body?: unknown, headers: Record<string, string> = {}) =>
  service.request("POST", `/sessions/${id}/heartbeat`, body, headers);
const read = async (id: string) => (await service.request("GET", `/sessions/${id}`)).body;

async function claimed(): Promise<{ id: string; token: string }> {
  await service.create({ phase: "pending" });
  const { body } = await service.request("POST", "/sessions/claim", { worker_id: "a", lease_seconds: 30 });
  return { id: body.id, token: String(body.lease_token) };
}

describe("200 POST /sessions/{id}/heartbeat", () => {
  it("moves the last activity, and nothing else: no version, no event, no other time", async () => {
    const id = await service.create();
    const { last_activity_at: before, ...session } = await read(id);
    const answer = await heartbeat(id);
    expect(answer.status, answer.text).toBe(200);
    const { last_activity_at: after, ...same } = await read(id);
    expect(same).toEqual(session);
    expect(after > before).toBe(true);
    expect(answer.body).toEqual({
      id,
      status: "active",
      phase: "running",
      version: 1,
      attempt: 1,
      exit_requested: false,
      lease_owner: null,
      lease_token: null,
      lease_expires_at: null,
      last_activity_at: after,
    });
    expect((await service.request("GET", `/sessions/${id}/events`)).body).toHaveLength(1);
    const [row] = await service.database.sql`select last_activity_kind as kind from sessions where id = ${id}`;
    expect(row).toEqual({ kind: "heartbeat" });
  });

  it("renews the lease of the token that it names, in the header or in the body: as long as before, or as it says", async () => {
    const { id, token } = await claimed();
    const lasts = ({ lease_expires_at: end, last_activity_at: from }: Record<string, string>) =>
      Date.parse(end ?? "") - Date.parse(from ?? "");
    const before = await read(id);
    const first = await heartbeat(id, undefined, { "lease-token": token });
    expect(first.body).toMatchObject({ lease_owner: "a", lease_token: Number(token), version: before.version });
    expect(first.body.lease_expires_at > before.lease_expires_at).toBe(true);
    expect(lasts(first.body)).toBe(30_000);
    expect(lasts((await heartbeat(id, { lease_token: Number(token), lease_seconds: 90 })).body)).toBe(90_000);
    expect(lasts((await heartbeat(id, { lease_token: Number(token) })).body)).toBe(90_000);
    const now = await read(id);
    expect(now).toMatchObject({ version: before.version, updated_at: before.updated_at });
  });

  it("renews nothing without a token, and does not tell whose lease it is by which token", async () => {
    const { id } = await claimed();
    const { lease_expires_at: before } = await read(id);
    const { body } = await heartbeat(id);
    expect(body).toMatchObject({ lease_owner: "a", lease_token: null, lease_expires_at: before });
  });

  it("takes a body that is empty, whatever type it says, and one that is an empty object", async () => {
    const id = await service.create();
    for (const [body, type] of [
      [undefined, undefined],
      ["", "application/json"],
      ["", "text/plain"],
      ["\n", "application/json"],
      [{}, "application/json"],
    ] as const) {
      const answer = await heartbeat(id, body, type === undefined ? {} : { "content-type": type });
      expect([type, answer.status]).toEqual([type, 200]);
    }
  });

  it("is heard of sessions that are set aside, or wait, too", async () => {
    for (const phase of ["paused", "idle", "stopped"]) {
      const id = await service.create();
      await service.request("PATCH", `/sessions/${id}`, { phase });
      expect([phase, (await heartbeat(id)).body.phase]).toEqual([phase, phase]);
    }
    expect((await heartbeat(await service.create({ phase: "pending" }))).body.phase).toBe("pending");
  });

  it("says that the worker is asked to come to an end", async () => {
    const { id, token } = await claimed();
    await service.request("POST", `/sessions/${id}/request-exit`);
    expect((await heartbeat(id, {}, { "lease-token": token })).body.exit_requested).toBe(true);
  });

  it("touches no index: they are HOT updates", async () => {
    // A connection counts its updates when it ends another transaction a second later: there is one, and it is kept busy.
    await using own = await startTestService({ DATABASE_POOL_SIZE: "1", SWEEP_INTERVAL_MS: "50" });
    const id = await own.create();
    const lease = (await own.request("POST", `/sessions/${id}/lease`, { worker_id: "a" })).body;
    const updates = async () => {
      const [row] = await own.database.sql<{ all: number; hot: number }[]>`
        select n_tup_upd::int as all, n_tup_hot_upd::int as hot from pg_stat_user_tables where relname = 'sessions'`;
      return row ?? { all: 0, hot: 0 };
    };
    await until(async () => (await updates()).all >= 1, "the update before to be counted");
    const before = await updates();
    for (let at = 0; at < 60; at++) {
      const headers = { "lease-token": String(lease.lease_token) };
      await own.request("POST", `/sessions/${id}/heartbeat`, at % 2 === 0 ? undefined : { lease_seconds: 30 }, headers);
    }
    await until(async () => (await updates()).all >= before.all + 60, "the updates to be counted");
    const after = await updates();
    // A page that somebody's snapshot keeps full takes no more; an index would make it none of them.
    expect(after.hot - before.hot).toBeGreaterThanOrEqual(0.9 * (after.all - before.all));
  });

  it("that are many at the same time, of one session and of many, are all heard", async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, () => service.create()));
    const answers = await Promise.all(Array.from({ length: 400 }, (_, at) => heartbeat(ids[at % 20] ?? "")));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    answers.forEach(({ body }, at) => {
      expect(body.id).toBe(ids[at % 20]);
    });
  });
});

describe("a heartbeat that is refused", () => {
  it("409 session_not_live once the work is over, saying what became of it", async () => {
    for (const phase of ["completed", "failed", "crashed", "expired", "timed_out"]) {
      const id = await service.create();
      await service.request("PATCH", `/sessions/${id}`, { phase });
      const before = await read(id);
      const { status, body } = await heartbeat(id);
      expect([status, body.code, body.phase]).toEqual([409, "session_not_live", phase]);
      expect(body.detail).toContain(phase);
      expect(await read(id)).toEqual(before);
    }
  });

  it("409 lease_lost for a token that is not the lease's, also when the session is over", async () => {
    const { id, token } = await claimed();
    const other = await heartbeat(id, {}, { "lease-token": String(Number(token) + 1) });
    expect([other.status, other.body.code]).toEqual([409, "lease_lost"]);
    await service.request("PATCH", `/sessions/${id}`, { status: "completed" });
    expect((await heartbeat(id, {}, { "lease-token": token })).body.code).toBe("lease_lost");
    const unheld = await service.create();
    expect((await heartbeat(unheld, { lease_token: 1 })).body.code).toBe("lease_lost");
  });

  it("422 for a token that is none, for a lease of more than an hour, and for a time without a token", async () => {
    const { id, token } = await claimed();
    for (const [body, headers] of [
      [{}, { "lease-token": "abc" }],
      [{ lease_token: "7" }, {}],
      [{ lease_token: -1 }, {}],
      [{ lease_seconds: 3_601 }, { "lease-token": token }],
      [{ lease_seconds: 0 }, { "lease-token": token }],
      [{ lease_seconds: 30 }, {}],
      [[], {}],
    ] as const) {
      const answer = await heartbeat(id, body, headers as Record<string, string>);
      expect([body, answer.status, answer.body.code]).toEqual([body, 422, "validation_failed"]);
    }
  });

  it("404 for a session that is unknown, malformed or deleted", async () => {
    const id = await service.create();
    await service.request("DELETE", `/sessions/${id}`);
    for (const one of [id, "nonsense", "00000000-0000-0000-0000-000000000000"]) {
      expect([one, (await heartbeat(one)).status]).toEqual([one, 404]);
    }
  });
});
