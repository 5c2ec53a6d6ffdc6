/** POST /sessions/{id}/undelete takes a deletion back: the session is found again, and whoever needs it can go on. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { changeSchema } from "../../src/events/envelope.ts";
import { holdLock, untilStuck } from "../support/held-lock.ts";
import { type Subscription, startTestService, subscribe, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let service: TestService;
let events: Subscription;
beforeAll(async () => {
  service = await startTestService({ SWEEP_INTERVAL_MS: "100" });
  events = await subscribe(service.redisUrl);
});
afterAll(async () => {
  await events[Symbol.asyncDispose]();
  await service.stop();
});

const undelete = (id: string, body?: unknown, headers?: Record<string, string>) =>
  service.request("POST", `/sessions/${id}/undelete`, body, headers);
const remove = async (id: string, query = "") => {
  expect((await service.request("DELETE", `/sessions/${id}${query}`)).status).toBe(204);
};
const patch = (id: string, body: object) => service.request("PATCH", `/sessions/${id}`, body);
const rowOf = async (id: string) => (await service.database.sql`select * from sessions where id = ${id}`)[0];
const typesOf = async (id: string) =>
  (await service.database.sql`select event_type from events where session_id = ${id} order by sequence`).map(
    (event) => event["event_type"],
  );
const claimOf = async (label: string) =>
  service.request("POST", "/sessions/claim", { worker_id: "w", lease_seconds: 60, filter: { labels: { of: label } } });

describe("a deletion that is taken back", () => {
  it("200 with the session, one version and one event later, and it is found again", async () => {
    const id = await service.create({ context: { a: 1.0 }, labels: { team: "x" } });
    await patch(id, { status: "paused", checkpoint: { n: 1 } });
    const before = (await service.request("GET", `/sessions/${id}`)).body;
    await remove(id);
    const answer = await undelete(id, undefined, { "x-correlation-id": "whose" });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("etag")).toBe('"4"');
    const { updated_at, last_activity_at, ...same } = answer.body;
    expect({ ...before, version: 4 }).toMatchObject(same);
    expect(updated_at > before.updated_at && last_activity_at === updated_at).toBe(true);
    expect((await service.request("GET", `/sessions/${id}`)).text).toBe(answer.text);
    const listed = await service.request("GET", "/sessions/?limit=1000");
    expect(listed.body.map((session: { id: string }) => session.id)).toContain(id);
    const event = (await events.ofSession(id, 4))[3];
    expect(changeSchema.parse(event)).toEqual(event);
    expect(event).toMatchObject({
      event_type: "session.restored",
      payload: { agent_id: before.agent_id, status: "paused", phase: "paused", updates: [] },
      sequence: 4,
      session_version: 4,
      metadata: { correlation_id: "whose" },
    });
  });

  it("stops what was live, whatever it did, and frees nothing that was not freed: its worker starts it anew", async () => {
    for (const phase of ["starting", "running", "ready", "busy", "waiting_input", "stopping"]) {
      const id = await service.create();
      if (phase === "starting") await service.database.sql`update sessions set phase = 'starting' where id = ${id}`;
      else if (phase !== "running") expect((await patch(id, { phase })).status).toBe(200);
      await service.request("POST", `/sessions/${id}/lease`, { action: "take", worker_id: "w", lease_seconds: 60 });
      await remove(id);
      const answer = await undelete(id, phase === "busy" ? { reason: "by mistake" } : undefined);
      const reason = phase === "busy" ? "by mistake" : "undeleted";
      expect(answer.body, phase).toMatchObject({
        phase: "stopped",
        status: "paused",
        status_reason: reason,
        lease_owner: null,
      });
      const history = (await service.request("GET", `/sessions/${id}/events?event_type=restored`)).body;
      expect(history, phase).toHaveLength(1);
      expect(history[0].payload).toMatchObject({
        status: "paused",
        phase: "stopped",
        updates: ["status", "phase", "status_reason"],
        from: phase,
        to: "stopped",
        reason,
      });
      expect((await service.request("POST", `/sessions/${id}/start`)).body).toMatchObject({ phase: "running" });
    }
  });

  it("leaves what was set aside, or is over, as it was", async () => {
    for (const phase of ["paused", "idle", "stopped", "completed", "failed", "crashed"]) {
      const id = await service.create();
      expect((await patch(id, { phase, reason: "why" })).status).toBe(200);
      await remove(id);
      const answer = await undelete(id);
      expect(answer.body, phase).toMatchObject({ phase, status_reason: "why", version: 4 });
      expect(answer.body.ended_at === null, phase).toBe(["paused", "idle", "stopped"].includes(phase));
    }
  });

  it("counts no time that it was deleted as time at work", async () => {
    const id = await service.create();
    await remove(id);
    await service.database.sql`
      update sessions set phase_since = phase_since - interval '3 h', deleted_at = deleted_at - interval '2 h'
      where id = ${id}`;
    await undelete(id);
    const hours = Number((await rowOf(id))?.["active_ms"]) / 3_600_000;
    expect(hours).toBeGreaterThan(0.99);
    expect(hours).toBeLessThan(1.01);
  });

  it("waits to be claimed again, where it waited before: pending, crashed and paused by its worker's end", async () => {
    const pending = await service.create({ status: "pending", labels: { of: "pending" } });
    const crashed = await service.create({ auto_recover: true, labels: { of: "crashed" } });
    await patch(crashed, { status: "crashed" });
    await service.database.sql`
      update sessions set next_attempt_at = now() - interval '1 h' where id = ${crashed}`;
    const paused = await service.create({ labels: { of: "paused" } });
    await service.request("POST", `/sessions/${paused}/pause`, { auto_resume: true });
    for (const [label, id] of Object.entries({ pending, crashed, paused })) {
      await remove(id);
      expect((await claimOf(label)).status, label).toBe(204);
      expect((await undelete(id)).status).toBe(200);
      const claimed = await claimOf(label);
      expect([claimed.status, claimed.body?.session?.id ?? claimed.body?.id], label).toEqual([200, id]);
    }
  });

  it("waits until it is time, where it is scheduled", async () => {
    const id = await service.create({ scheduled_at: "2090-01-01T00:00:00Z", labels: { of: "later" } });
    await remove(id);
    await undelete(id);
    expect((await claimOf("later")).status).toBe(204);
    expect((await rowOf(id))?.["claimable_at"].toISOString()).toBe("2090-01-01T00:00:00.000Z");
  });

  it("runs its timers again, from the moment at which it was taken back", async () => {
    const id = await service.create({ phase: "pending", pending_timeout_seconds: 1 });
    await remove(id);
    await service.database.sql`update sessions set last_activity_at = now() - interval '1 h' where id = ${id}`;
    expect((await undelete(id)).body.phase).toBe("pending");
    await until(async () => (await rowOf(id))?.["phase"] === "expired", "the session to expire");
  });

  it("clears an expires_at that passed meanwhile, and tells so; one to come stays, and deletes it again", async () => {
    const past = await service.create({ expires_at: "2020-01-01T00:00:00Z" });
    await until(async () => (await rowOf(past))?.["deleted_at"] !== null, "the sweeper to delete it");
    expect((await undelete(past)).body).toMatchObject({ expires_at: null, deleted_at: null });
    const restored = (await events.ofSession(past, 3))[2];
    expect(restored?.payload).toMatchObject({ updates: ["status", "phase", "expires_at", "status_reason"] });
    const future = await service.create({ expires_at: "2090-01-01T00:00:00Z" });
    await remove(future);
    expect((await undelete(future)).body).toMatchObject({ expires_at: "2090-01-01T00:00:00.000000Z" });
    expect((await rowOf(future))?.["next_check_at"].getUTCFullYear()).toBe(2090);
  });

  it("can be deleted and taken back again and again, each time with a version and an event", async () => {
    const id = await service.create();
    for (let round = 0; round < 3; round++) {
      await remove(id);
      expect((await undelete(id)).body.version).toBe(3 + 2 * round);
    }
    const pair = ["session.deleted", "session.restored"];
    expect(await typesOf(id)).toEqual(["session.created", ...pair, ...pair, ...pair]);
  });
});

describe("what can't be taken back", () => {
  it("200 without a change for a session that is not deleted", async () => {
    const id = await service.create();
    const before = await service.request("GET", `/sessions/${id}`);
    const answer = await undelete(id);
    expect([answer.status, answer.text]).toEqual([200, before.text]);
    expect(await typesOf(id)).toEqual(["session.created"]);
  });

  it("404 where there never was one, and once it has been removed", async () => {
    const id = await service.create();
    await remove(id, "?hard=true");
    await until(async () => (await rowOf(id)) === undefined, "the session to be gone");
    for (const gone of [id, "0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10", "nonsense"]) {
      expect(await undelete(gone)).toMatchObject({ status: 404, body: { code: "session_not_found" } });
    }
  });

  it("409 purge_requested while it is being removed for good, and nothing is changed", async () => {
    const id = await service.create();
    await remove(id);
    await service.database.sql.begin(async (tx) => {
      // The purge passes by what is locked.
      await tx`select 1 from sessions where id = ${id} for key share`;
      await remove(id, "?hard=true");
      expect(await undelete(id)).toMatchObject({ status: 409, body: { code: "purge_requested" } });
      expect(await rowOf(id)).toMatchObject({ version: 2, last_sequence: 2 });
    });
    await until(async () => (await rowOf(id)) === undefined, "the session to be gone");
  });

  it("409 external_id_taken when another session has its external id, and 200 once that is deleted", async () => {
    const [id, other] = [await service.create(), await service.create()];
    const name = (session: string) =>
      service.database.sql`update sessions set external_id = 'ticket "1"' where id = ${session}`;
    await name(id);
    await remove(id);
    await name(other);
    const refused = await undelete(id);
    expect(refused).toMatchObject({ status: 409, body: { code: "external_id_taken" } });
    expect(refused.body.detail).toContain(other);
    expect((await rowOf(id))?.["deleted_at"]).not.toBe(null);
    await remove(other);
    expect((await undelete(id)).status).toBe(200);
    expect((await undelete(other)).status).toBe(409);
  });

  it("412 for another version than If-Match names", async () => {
    const id = await service.create();
    await remove(id);
    expect(await undelete(id, undefined, { "if-match": '"1"' })).toMatchObject({ status: 412 });
    expect((await rowOf(id))?.["deleted_at"]).not.toBe(null);
    expect((await undelete(id, undefined, { "if-match": '"2"' })).status).toBe(200);
  });

  it("422 for a reason that is none, 400 for a body that is not JSON", async () => {
    const id = await service.create();
    await remove(id);
    expect(await undelete(id, { reason: 7 })).toMatchObject({
      status: 422,
      body: { errors: [{ pointer: "/reason" }] },
    });
    expect((await undelete(id, "{")).status).toBe(400);
    expect((await undelete(id, { why: 1 }, { prefer: "handling=strict" })).status).toBe(422);
    expect((await rowOf(id))?.["deleted_at"]).not.toBe(null);
  });
});

describe("a deletion that is taken back by a request with an Idempotency-Key", () => {
  it("is so once, and answered as the first time, also when it has been deleted again", async () => {
    const id = await service.create();
    await remove(id);
    const key = { "idempotency-key": "undelete-1" };
    const first = await undelete(id, undefined, key);
    await remove(id);
    const again = await undelete(id, undefined, key);
    expect([again.status, again.text, again.headers.get("idempotent-replayed")]).toEqual([200, first.text, "true"]);
    expect((await rowOf(id))?.["deleted_at"]).not.toBe(null);
  });
});

describe("undeletions at the same time", () => {
  it("of 50 of one session all are 200, with one event", async () => {
    for (let round = 0; round < 2; round++) {
      const id = await service.create();
      await remove(id);
      const answers = await Promise.all(Array.from({ length: 50 }, () => undelete(id)));
      expect(answers.map((answer) => [answer.status, answer.body.version])).toEqual(
        Array.from({ length: 50 }, () => [200, 3]),
      );
      expect(await typesOf(id)).toEqual(["session.created", "session.deleted", "session.restored"]);
    }
  });

  it("and hard deletions: one that was taken back before its removal was asked for is removed all the same", async () => {
    for (let round = 0; round < 2; round++) {
      const id = await service.create();
      await remove(id);
      const [hard, ...answers] = await Promise.all([
        service.request("DELETE", `/sessions/${id}?hard=true`),
        ...Array.from({ length: 50 }, () => undelete(id)),
      ]);
      expect(hard?.status).toBe(204);
      expect(answers.filter(({ status }) => ![200, 404, 409].includes(status))).toEqual([]);
      await until(async () => (await rowOf(id)) === undefined, "the session to be gone");
      expect(await typesOf(id)).toEqual(["session.purged"]);
      const seen = (await events.ofSession(id, 3)).map((event) => event.event_type);
      const restored = answers.some(({ status }) => status === 200);
      expect(seen.includes("session.restored")).toBe(restored);
    }
  });

  it("200 for one that waited for the deletion itself", async () => {
    const id = await service.create();
    const deletion = await holdLock(
      service.database,
      `update sessions set deleted_at = clock_timestamp() where id = '${id}'`,
    );
    const waiting = undelete(id);
    await untilStuck(service.database, 1);
    await deletion.release();
    expect(await waiting).toMatchObject({ status: 200, body: { phase: "stopped", version: 2, deleted_at: null } });
  });

  it("and deletions: the history tells of each in turn, without a gap", async () => {
    for (let round = 0; round < 2; round++) {
      const id = await service.create();
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, n) =>
          n % 2 === 0 ? undelete(id) : service.request("DELETE", `/sessions/${id}`),
        ),
      );
      expect(answers.filter(({ status }) => status !== 200 && status !== 204)).toEqual([]);
      const [, ...types] = await typesOf(id);
      expect(types).toEqual(types.map((_, n) => (n % 2 === 0 ? "session.deleted" : "session.restored")));
      expect(await rowOf(id)).toMatchObject({ version: types.length + 1, last_sequence: types.length + 1 });
    }
  });

  it("of 50 that had the same external id one is taken back, and the others are told which; with a key too", async () => {
    for (const keyed of [false, true]) {
      const externalId = `of-many-${keyed}`;
      const ids: string[] = [];
      for (let n = 0; n < 50; n++) {
        const id = await service.create();
        await service.database.sql`update sessions set external_id = ${externalId} where id = ${id}`;
        await remove(id);
        ids.push(id);
      }
      const answers = await Promise.all(
        ids.map((id) => undelete(id, undefined, keyed ? { "idempotency-key": `many-${id}` } : {})),
      );
      const back = ids.filter((_, n) => answers[n]?.status === 200);
      expect(back).toHaveLength(1);
      for (const answer of answers.filter(({ status }) => status !== 200)) {
        expect(answer).toMatchObject({ status: 409, body: { code: "external_id_taken" } });
        expect(answer.body.detail).toContain(back[0]);
      }
    }
  });
});
