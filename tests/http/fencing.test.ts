/** Who has lost the lease changes nothing any more, whatever it tries; who has it renews it by what it writes. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

type Write = readonly [method: string, path: string, body?: object];

/** Every kind of write that takes a token. */
const writes: Readonly<Record<string, Write>> = {
  "a checkpoint": ["PATCH", "", { checkpoint: { step: 6 } }],
  "a setting": ["PATCH", "", { name: "late" }],
  figures: ["PATCH", "", { stats: { iterations: 1 } }],
  "a phase": ["PATCH", "", { phase: "busy" }],
  "an end": ["PATCH", "", { status: "completed" }],
  "a change of nothing": ["PATCH", "", {}],
  "a whole change": ["PUT", "", { context: { late: true } }],
  "a runtime's state": ["PATCH", "/status", { phase: "busy" }],
  "a container's state": ["PUT", "/state", { state: "BUSY" }],
  "an event": ["POST", "/events", { event_type: "thinking" }],
  events: ["POST", "/events", [{ event_type: "thinking" }, { event_type: "thinking" }] as object],
  "a heartbeat": ["POST", "/heartbeat"],
  "a renewal": ["POST", "/lease", { action: "renew" }],
  "a release": ["POST", "/lease", { action: "release" }],
  "a handing over": ["POST", "/lease", { action: "hand_over", to_worker_id: "c" }],
  pause: ["POST", "/pause"],
  stop: ["POST", "/stop"],
  complete: ["POST", "/complete", { result: 42 }],
  fail: ["POST", "/fail", { error: "no" }],
  crash: ["POST", "/crash"],
  "request-exit": ["POST", "/request-exit"],
  "a deletion": ["DELETE", ""],
  "a hard deletion": ["DELETE", "?hard=true"],
  "a prune": ["POST", "/prune", { keep_last: 1 }],
};

async function claimed(worker = "a"): Promise<{ id: string; token: number }> {
  await service.create({ phase: "pending", checkpoint: { step: 5 } });
  const { body } = await service.request("POST", "/sessions/claim", { worker_id: worker, lease_seconds: 30 });
  return { id: body.id, token: body.lease_token };
}

const write = (id: string, [method, path, body]: Write, token?: number, extra: Record<string, string> = {}) =>
  service.request(method, `/sessions/${id}${path}`, body, {
    ...(token === undefined ? {} : { "lease-token": String(token) }),
    ...extra,
  });

/** All that is known of a session. */
async function whole(id: string): Promise<unknown> {
  const [row] = await service.database.sql`select to_jsonb(s) as all from sessions s where id = ${id}`;
  const [events] = await service.database.sql`select count(*) as count from events where session_id = ${id}`;
  return [row, events];
}

describe("a write with an old token", () => {
  it.each(Object.keys(writes))("%s: is 409 lease_lost, and changes nothing", async (name) => {
    const { id, token } = await claimed();
    const taken = await service.request("POST", `/sessions/${id}/lease`, {
      action: "hand_over",
      lease_token: token,
      to_worker_id: "b",
    });
    expect(taken.body.lease_token).toBe(token + 1);
    const before = await whole(id);
    for (const old of [token, token + 2, 9_007_199_254_740_991]) {
      const answer = await write(id, writes[name] as Write, old);
      expect([old, answer.status, answer.body?.code]).toEqual([old, 409, "lease_lost"]);
      expect(answer.body.detail).toMatch(/[Cc]laim/);
    }
    expect(await whole(id)).toEqual(before);
  });

  it("in the body: is refused as with the header, events too, in whichever of them it stands", async () => {
    const { id, token } = await claimed();
    const before = await whole(id);
    const old = { lease_token: token + 1 };
    const late: Write[] = [
      ["PATCH", "", { phase: "busy", ...old }],
      ["PATCH", "/status", { phase: "busy", ...old }],
      ["PUT", "/state", { state: "BUSY", ...old }],
      ["POST", "/complete", old],
      ["POST", "/heartbeat", old],
      ["POST", "/events", { event_type: "thinking", ...old }],
      ["POST", "/events", [{ event_type: "thinking" }, { event_type: "thinking", ...old }]],
    ];
    for (const one of late) expect([one, (await write(id, one)).body.code]).toEqual([one, "lease_lost"]);
    expect(await whole(id)).toEqual(before);
    const event = { event_type: "thinking", lease_token: token };
    expect((await write(id, ["POST", "/events", [event, event]])).status).toBe(201);
    const two = await write(id, ["POST", "/events", [event, { ...event, ...old }]]);
    expect([two.status, two.body.errors?.[0].pointer]).toEqual([422, "/1/lease_token"]);
  });

  it("is refused before anything else that is wrong with it: its version, its transition", async () => {
    const { id, token } = await claimed();
    await service.request("POST", `/sessions/${id}/complete`);
    const stale = { "if-match": '"1"' };
    for (const body of [{ checkpoint: {} }, { phase: "running" }]) {
      expect((await write(id, ["PATCH", "", body], token, stale)).body.code).toBe("lease_lost");
    }
    expect((await write(id, ["DELETE", ""], token, stale)).body.code).toBe("lease_lost");
  });

  it("is 422 when it is no token", async () => {
    const { id } = await claimed();
    for (const [name, one] of Object.entries(writes)) {
      const answer = await write(id, one, undefined, { "lease-token": "abc" });
      expect([name, answer.status, answer.body?.errors?.[0].parameter]).toEqual([name, 422, "Lease-Token"]);
    }
  });
});

describe("a write with the token of the lease", () => {
  const renewing = Object.keys(writes).filter((name) => !/deletion$/.test(name));

  it.each(renewing)("%s: is done, and renews the lease where there is one afterwards", async (name) => {
    const { id, token } = await claimed();
    const { lease_expires_at: before } = (await service.request("GET", `/sessions/${id}`)).body;
    const answer = await write(id, writes[name] as Write, token);
    expect(answer.status, answer.text).toBeLessThan(300);
    const session = (await service.request("GET", `/sessions/${id}`)).body;
    if (session.lease_owner !== null) expect(session.lease_expires_at > before).toBe(true);
    else expect(session.lease_expires_at).toBeNull();
  });

  it("renews it also where the session is all that is asked already, without a version or an event", async () => {
    const { id, token } = await claimed();
    const same: Write[] = [
      ["PUT", "/state", { state: "READY" }],
      ["PATCH", "/status", { phase: "running" }],
      ["PATCH", "", { checkpoint: { step: 5 }, stats_set: {} }],
      ["POST", "/start"],
    ];
    let before = (await service.request("GET", `/sessions/${id}`)).body;
    for (const one of same) {
      const { status, body } = await write(id, one, token);
      expect([one, status, body.version]).toEqual([one, 200, before.version]);
      expect(body.lease_expires_at > before.lease_expires_at).toBe(true);
      expect(body.last_activity_at > before.last_activity_at).toBe(true);
      expect(body.updated_at).toBe(before.updated_at);
      before = body;
    }
    const [events] = await service.database.sql`select count(*)::int as count from events where session_id = ${id}`;
    expect(events).toEqual({ count: 2 });
  });

  it("a deletion: is done, and done again", async () => {
    for (const query of ["", "?hard=true"]) {
      const { id, token } = await claimed();
      expect((await write(id, ["DELETE", query], token)).status).toBe(204);
      const [row] = await service.database.sql`
        select claimable_at, next_check_at, lease_owner, lease_seconds from sessions where id = ${id}`;
      if (row !== undefined) {
        expect(row).toEqual({ claimable_at: null, next_check_at: null, lease_owner: null, lease_seconds: null });
      }
      expect([204, 404]).toContain((await write(id, ["DELETE", query], token)).status);
    }
  });
});

describe("a write without a token", () => {
  it("is done, whoever has the lease, and renews nothing", async () => {
    for (const name of ["a checkpoint", "a phase", "an event", "a heartbeat", "request-exit"]) {
      const { id } = await claimed();
      const { lease_expires_at: before } = (await service.request("GET", `/sessions/${id}`)).body;
      const answer = await write(id, writes[name] as Write);
      expect([name, answer.status < 300]).toEqual([name, true]);
      const session = (await service.request("GET", `/sessions/${id}`)).body;
      expect([name, session.lease_owner, session.lease_expires_at]).toEqual([name, "a", before]);
    }
  });
});

describe("a worker that is silent for longer than its lease", () => {
  it("is taken for dead: the session crashes, another worker goes on with it, and the first one is refused", async () => {
    await using own = await startTestService({ SWEEP_INTERVAL_MS: "50" });
    const fields = { phase: "pending", auto_recover: true, checkpoint: { step: 5 } };
    const id = await own.create(fields);
    const claim = async (worker: string) =>
      (await own.request("POST", "/sessions/claim", { worker_id: worker, lease_seconds: 1 })).body;
    const silent = await claim("silent");
    const read = async () => (await own.request("GET", `/sessions/${id}`)).body;
    await until(async () => (await read()).phase === "crashed", "the crash", { everyMs: 50 });
    expect(await read()).toMatchObject({ status_reason: "lease_expired", lease_owner: null });
    // It would else be in 5 s.
    await own.database.sql`update sessions set claimable_at = now() where id = ${id}`;
    const second = await claim("second");
    expect(second).toMatchObject({ id, attempt: 2, checkpoint: { step: 5 }, lease_owner: "second" });
    const late = { "lease-token": String(silent.lease_token) };
    const answer = await own.request("PATCH", `/sessions/${id}`, { checkpoint: { step: 6 } }, late);
    expect(answer.body.code).toBe("lease_lost");
    expect((await read()).checkpoint).toEqual({ step: 5 });
  });
});

describe("a pause, an end, a crash", () => {
  it("frees the lease, and the late write of the former owner can't undo it", async () => {
    for (const verb of ["pause", "complete", "fail", "crash"]) {
      const { id, token } = await claimed();
      await service.request("POST", `/sessions/${id}/${verb}`);
      const before = await whole(id);
      for (const late of [{ phase: "running" }, { checkpoint: { late: true } }, { status: "active" }]) {
        const answer = await write(id, ["PATCH", "", late], token);
        expect([verb, answer.body.code]).toEqual([verb, "lease_lost"]);
      }
      expect((await write(id, ["POST", "/heartbeat"], token)).body.code).toBe("lease_lost");
      expect(await whole(id)).toEqual(before);
    }
  });

  it("races with the owner's writes: once it is made, none of them is accepted any more", async () => {
    for (let round = 0; round < 40; round++) {
      const { id, token } = await claimed();
      const order: string[] = [];
      const beats = Array.from({ length: 6 }, async (_, step) => {
        const one: Write = step % 2 === 0 ? ["PATCH", "", { checkpoint: { step } }] : ["POST", "/heartbeat"];
        const answer = await write(id, one, token);
        order.push(answer.status === 200 ? `ok ${answer.body.phase}` : answer.body.code);
      });
      const paused = await service.request("POST", `/sessions/${id}/pause`);
      await Promise.all(beats);
      expect(paused.status).toBe(200);
      for (const outcome of order) expect(["ok running", "lease_lost"]).toContain(outcome);
      expect((await service.request("GET", `/sessions/${id}`)).body).toMatchObject({
        phase: "paused",
        lease_owner: null,
      });
    }
  });
});
