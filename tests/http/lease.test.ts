import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const lease = (id: string, body: object, headers: Record<string, string> = {}) =>
  service.request("POST", `/sessions/${id}/lease`, body, headers);
const read = async (id: string) => (await service.request("GET", `/sessions/${id}`)).body;
const events = async (id: string) => (await service.request("GET", `/sessions/${id}/events`)).body;

/** Lets the time of a lease run out, unnoticed by any sweep. */
async function runOut(id: string): Promise<void> {
  await service.database.sql`
    update sessions set lease_expires_at = now() - interval '1 s', next_check_at = null where id = ${id}`;
}

async function held(fields: object = { worker_id: "a", lease_seconds: 60 }) {
  const id = await service.create();
  const { body } = await lease(id, fields);
  return { id, token: body.lease_token as number };
}

describe("POST /sessions/{id}/lease, take", () => {
  it("gives a live session that nobody holds to the worker, in the phase that it has", async () => {
    const id = await service.create({ phase: "ready" });
    const answer = await lease(id, { worker_id: "a", lease_seconds: 60 });
    expect(answer.status, answer.text).toBe(200);
    const session = await read(id);
    expect(answer.body).toEqual({
      id,
      status: "active",
      phase: "ready",
      version: 2,
      attempt: 1,
      exit_requested: false,
      lease_owner: "a",
      lease_token: 1,
      lease_expires_at: session.lease_expires_at,
      last_activity_at: session.last_activity_at,
    });
    expect(Date.parse(session.lease_expires_at) - Date.parse(session.last_activity_at)).toBe(60_000);
    expect((await events(id)).at(-1).payload).toMatchObject({ phase: "ready", updates: ["lease_owner"] });
  });

  it("makes the sweeper look when the lease may end", async () => {
    const { id } = await held({ worker_id: "a", lease_seconds: 60 });
    const [row] = await service.database.sql`
      select next_check_at <= lease_expires_at and next_check_at > now() as looks from sessions where id = ${id}`;
    expect(row).toEqual({ looks: true });
  });

  it("is refused to others while the lease is good, with who has it and until when", async () => {
    const { id } = await held();
    const session = await read(id);
    const answer = await lease(id, { worker_id: "b" });
    expect(answer.status).toBe(409);
    expect(answer.body).toMatchObject({
      code: "lease_held",
      lease_owner: "a",
      lease_expires_at: session.lease_expires_at,
    });
    expect(await read(id)).toEqual(session);
  });

  it("is refused to others although the lease's time is up, as long as no sweep has ended it", async () => {
    const { id, token } = await held();
    await runOut(id);
    expect((await lease(id, { worker_id: "b" })).body).toMatchObject({ code: "lease_held", lease_owner: "a" });
    expect((await lease(id, { action: "renew", lease_token: token })).status).toBe(200);
  });

  it("gives a worker of the same name a new token, unless it names its own: it may have been restarted", async () => {
    const { id, token } = await held();
    const restarted = await lease(id, { worker_id: "a" });
    expect(restarted.body).toMatchObject({ lease_owner: "a", lease_token: 2, version: 2 });
    expect((await lease(id, { action: "renew", lease_token: token })).body.code).toBe("lease_lost");
    const same = await lease(id, { worker_id: "a", lease_token: 2, lease_seconds: 90 });
    expect(same.body).toMatchObject({ lease_owner: "a", lease_token: 2, version: 2 });
    expect((await lease(id, { worker_id: "b", lease_token: 2 })).body.code).toBe("lease_held");
    expect(await events(id)).toHaveLength(2);
  });

  it("409 for a session that is not live, saying what to do", async () => {
    const advice = {
      pending: /[Cc]laim it/,
      paused: /[Rr]esume/,
      completed: /restart/,
      crashed: /recover/,
      expired: /recover/,
    };
    for (const [phase, says] of Object.entries(advice)) {
      const id = await service.create({ phase: phase === "pending" ? "pending" : "running" });
      if (phase !== "pending") await service.request("PATCH", `/sessions/${id}`, { phase });
      const { status, body } = await lease(id, { worker_id: "a" });
      expect([status, body.code, body.phase]).toEqual([409, "session_not_live", phase]);
      expect(body.detail).toMatch(says);
    }
  });
});

describe("POST /sessions/{id}/lease, renew, release and hand over", () => {
  it("renew: its time starts again, without a version or an event; as long as before unless it says otherwise", async () => {
    const { id, token } = await held();
    const renewed = await lease(id, { action: "renew", lease_token: token });
    expect(renewed.body).toMatchObject({ lease_owner: "a", lease_token: token, version: 2 });
    const lasts = ({ lease_expires_at: end, last_activity_at: from }: Record<string, string>) =>
      Date.parse(end ?? "") - Date.parse(from ?? "");
    expect(lasts(renewed.body)).toBe(60_000);
    const shorter = await lease(id, { action: "renew", lease_seconds: 5 }, { "lease-token": String(token) });
    expect(lasts(shorter.body)).toBe(5_000);
    const [row] = await service.database.sql`
      select next_check_at <= lease_expires_at as looks from sessions where id = ${id}`;
    expect(row).toEqual({ looks: true });
    expect(await events(id)).toHaveLength(2);
    expect((await read(id)).version).toBe(2);
  });

  it("renew: also when its time is up, as long as nobody has noticed", async () => {
    const { id, token } = await held();
    await runOut(id);
    expect((await lease(id, { action: "renew", lease_token: token })).status).toBe(200);
    expect((await lease(id, { worker_id: "b" })).body.code).toBe("lease_held");
  });

  it("release: nobody has it, the session stays in its phase, and the token is worth nothing", async () => {
    const { id, token } = await held();
    const released = await lease(id, { action: "release", lease_token: token });
    expect(released.body).toMatchObject({ phase: "running", version: 3, lease_owner: null, lease_token: null });
    expect(released.body.lease_expires_at).toBeNull();
    expect((await events(id)).at(-1).payload.updates).toEqual(["lease_owner"]);
    expect((await lease(id, { action: "release", lease_token: token })).body.code).toBe("lease_lost");
    expect((await lease(id, { worker_id: "b" })).body).toMatchObject({ lease_owner: "b", lease_token: 2 });
  });

  it("hand over: another worker has it, with a new token and the same time, and the old token is worth nothing", async () => {
    const { id, token } = await held();
    const handed = await lease(id, { action: "hand_over", lease_token: token, to_worker_id: "b" });
    expect(handed.body).toMatchObject({ lease_owner: "b", lease_token: 2, version: 3 });
    expect(Date.parse(handed.body.lease_expires_at) - Date.parse(handed.body.last_activity_at)).toBe(60_000);
    for (const action of ["renew", "release", "hand_over"]) {
      const answer = await lease(id, { action, lease_token: token, to_worker_id: "c" });
      expect([action, answer.status, answer.body.code]).toEqual([action, 409, "lease_lost"]);
    }
    expect((await lease(id, { action: "renew", lease_token: 2 })).status).toBe(200);
  });

  it("a worker that is not the owner is refused, whatever token it names", async () => {
    const { id, token } = await held();
    expect((await lease(id, { action: "release", lease_token: token, worker_id: "b" })).body.code).toBe("lease_lost");
    expect((await lease(id, { action: "release", lease_token: token, worker_id: "a" })).status).toBe(200);
  });

  it("is done once with an Idempotency-Key, however often it is asked for", async () => {
    const id = await service.create();
    const key = { "idempotency-key": `take-${id}` };
    const first = await lease(id, { worker_id: "a" }, key);
    const again = await lease(id, { worker_id: "a" }, key);
    expect(again.text).toBe(first.text);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    const renewal = { action: "renew" };
    const keyed = { "idempotency-key": `renew-${id}`, "lease-token": "1" };
    expect((await lease(id, renewal, keyed)).status).toBe(200);
    // Another token makes it another request.
    expect((await lease(id, renewal, { ...keyed, "lease-token": "2" })).body.code).toBe("idempotency_key_reused");
  });
});

describe("bad requests for a lease", () => {
  it("422 names what is missing or wrong", async () => {
    const { id } = await held();
    for (const [body, pointer, detail] of [
      [{}, "/worker_id", /required/],
      [{ action: "take" }, "/worker_id", /required/],
      [{ action: "steal", worker_id: "a" }, "/action", /take, renew, release, hand_over/],
      [{ action: "renew" }, "/lease_token", /required to renew/],
      [{ action: "release" }, "/lease_token", /required to release/],
      [{ action: "hand_over", to_worker_id: "b" }, "/lease_token", /required to hand over/],
      [{ action: "hand_over", lease_token: 1 }, "/to_worker_id", /required/],
      [{ worker_id: "a", lease_seconds: 3_601 }, "/lease_seconds", /1 to 3600/],
      [{ worker_id: "a", lease_token: "abc" }, "/lease_token", /whole number/],
      [{ worker_id: "a", lease_token: 0 }, "/lease_token", /from 1/],
      [{ worker_id: "a", lease_token: 1e20 }, "/lease_token", /./],
    ] as const) {
      const answer = await lease(id, body);
      expect([body, answer.status]).toEqual([body, 422]);
      expect(answer.body.errors[0].pointer).toBe(pointer);
      expect(answer.body.errors[0].detail).toMatch(detail);
    }
    for (const token of ["abc", "-1", "1.5", "0", "99999999999999999999", "1, 2"]) {
      const answer = await lease(id, { action: "renew" }, { "lease-token": token });
      expect([token, answer.status, answer.body.errors?.[0].parameter]).toEqual([token, 422, "Lease-Token"]);
    }
    const both = await lease(id, { action: "renew", lease_token: 1 }, { "lease-token": "2" });
    expect([both.status, both.body.errors[0].parameter]).toEqual([422, "Lease-Token"]);
  });

  it("404 for a session that is unknown, malformed or deleted", async () => {
    const { id, token } = await held();
    await service.request("DELETE", `/sessions/${id}`);
    for (const one of [id, "nonsense", "00000000-0000-0000-0000-000000000000"]) {
      expect((await lease(one, { worker_id: "a" })).status).toBe(404);
      expect((await lease(one, { action: "renew", lease_token: token })).status).toBe(404);
    }
  });
});
