import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { changeSchema } from "../../src/events/envelope.ts";
import { type Subscription, startTestService, subscribe, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let service: TestService;
let events: Subscription;
beforeAll(async () => {
  service = await startTestService();
  events = await subscribe(service.redisUrl);
});
afterAll(async () => {
  await events[Symbol.asyncDispose]();
  await service.stop();
});

const remove = (id: string, headers?: Record<string, string>) =>
  service.request("DELETE", `/sessions/${id}`, undefined, headers);
const removeHard = (id: string, headers?: Record<string, string>) =>
  service.request("DELETE", `/sessions/${id}?hard=true`, undefined, headers);

interface StoredEvent {
  readonly event_type: string;
  readonly sequence: number;
  readonly session_version: number;
  readonly payload: object;
  readonly metadata: object;
}

const history = async (id: string): Promise<StoredEvent[]> => [
  ...(await service.database.sql<StoredEvent[]>`
    select event_type, sequence, session_version, payload, metadata from events where session_id = ${id} order by sequence`),
];
const rowOf = async (id: string) => (await service.database.sql`select * from sessions where id = ${id}`)[0];
const isGone = (id: string) => async () => (await rowOf(id)) === undefined;
const hold = (id: string, legalHold: boolean) =>
  service.database.sql`update sessions set legal_hold = ${legalHold} where id = ${id}`;

describe("DELETE /sessions/{id}", () => {
  it("204 without a body, with and without a trailing slash, and also to a client that names a type or sends a body", async () => {
    for (const [suffix, body, headers] of [
      ["", undefined, {}],
      ["/", undefined, {}],
      ["?hard=false", undefined, {}],
      ["", undefined, { "content-type": "application/json" }],
      ["", {}, {}],
      ["", "not JSON".repeat(1_000), { "content-type": "text/xml" }],
    ] as const) {
      const answer = await service.request("DELETE", `/sessions/${await service.create()}${suffix}`, body, headers);
      expect([answer.status, answer.text], JSON.stringify([suffix, headers])).toEqual([204, ""]);
      expect(answer.headers.get("content-type")).toBe(null);
    }
  });

  it("204, and nobody finds the session any more: not to read, not to change, not in a list", async () => {
    const agent = "11111111-2222-4333-8444-555555555555";
    const id = await service.create({ agent_id: agent, context: { a: 1 } });
    const other = await service.create({ agent_id: agent });
    expect((await remove(id)).status).toBe(204);
    for (const answer of [
      await service.request("GET", `/sessions/${id}`),
      await service.request("GET", `/sessions/${id}`, undefined, { "if-none-match": '"1"' }),
      await service.request("PATCH", `/sessions/${id}`, { status: "paused" }),
      await service.request("PATCH", `/sessions/${id}`, {}),
    ]) {
      expect(answer).toMatchObject({ status: 404, body: { code: "session_not_found", detail: "Session not found" } });
    }
    const listed = await service.request("GET", `/sessions/?agent_id=${agent}`);
    expect(listed.body.map((session: { id: string }) => session.id)).toEqual([other]);
    const all = await service.request("GET", "/sessions/?limit=1000");
    expect(all.body.map((session: { id: string }) => session.id)).not.toContain(id);
  });

  it("204, and nobody works on it any more: it is not claimed, no timer acts, and no call of its own is answered", async () => {
    const fields = { status: "pending", pending_timeout_seconds: 1, labels: { of: "nobody" } };
    const id = await service.create(fields);
    await remove(id);
    expect(await rowOf(id)).toMatchObject({ claimable_at: null, next_check_at: null });
    const filter = { labels: { of: "nobody" } };
    const claim = await service.request("POST", "/sessions/claim", { worker_id: "w", lease_seconds: 60, filter });
    expect(claim.status).toBe(204);
    for (const [method, path, body] of [
      ["GET", "/context"],
      ["GET", "/diagnosis"],
      ["GET", "/metrics"],
      ["GET", "/events"],
      ["GET", "/checkpoints"],
      ["POST", "/start"],
      ["POST", "/heartbeat", { lease_seconds: 1, lease_token: 1 }],
      ["POST", "/lease", { action: "take", worker_id: "w", lease_seconds: 1 }],
      ["POST", "/events", { event_type: "step" }],
      ["POST", "/checkpoints", { data: {} }],
      ["POST", "/prune", { keep_last: 1 }],
    ] as const) {
      const answer = await service.request(method, `/sessions/${id}${path}`, body);
      expect([answer.status, answer.body?.code], `${method} ${path}`).toEqual([404, "session_not_found"]);
    }
    expect((await history(id)).map((event) => event.event_type)).toEqual(["session.created", "session.deleted"]);
  });

  it("204 is one more version and one event, which is published and says what was deleted", async () => {
    const id = await service.create({ session_type: "task" });
    await service.request("PATCH", `/sessions/${id}`, { status: "paused" });
    const before = await rowOf(id);
    const headers = { "x-request-id": "delete-1", "x-correlation-id": "part-of-this" };
    expect((await remove(id, headers)).status).toBe(204);
    const after = await rowOf(id);
    expect(after).toMatchObject({ version: 3, last_sequence: 3, phase: "paused", purge_requested_at: null });
    expect(after?.["updated_at"] > before?.["updated_at"]).toBe(true);
    expect(after?.["deleted_at"]).toEqual(after?.["updated_at"]);
    const event = (await events.ofSession(id, 3))[2];
    expect(changeSchema.parse(event)).toEqual(event);
    expect(event).toMatchObject({
      event_type: "session.deleted",
      payload: { agent_id: before?.["agent_id"], status: "paused", phase: "paused" },
      sequence: 3,
      session_version: 3,
      metadata: { request_id: "delete-1", correlation_id: "part-of-this" },
    });
  });

  it("204 frees the lease", async () => {
    const id = await service.create();
    await service.database.sql`
      update sessions set lease_owner = 'w', lease_token = 7, lease_expires_at = now() + interval '1 hour' where id = ${id}`;
    await remove(id);
    expect(await rowOf(id)).toMatchObject({ lease_owner: null, lease_expires_at: null, lease_token: "7" });
  });

  it("204 again for one that is deleted already, whatever version is expected, and no second event", async () => {
    const id = await service.create();
    expect((await remove(id, { "if-match": '"1"' })).status).toBe(204);
    const first = await rowOf(id);
    for (const headers of [{}, { "if-match": '"1"' }, { "if-match": '"2"' }, { "if-match": '"9"' }]) {
      expect((await remove(id, headers)).status).toBe(204);
    }
    expect(await rowOf(id)).toEqual(first);
    expect((await history(id)).map((event) => event.event_type)).toEqual(["session.created", "session.deleted"]);
  });

  it("404 where there never was one", async () => {
    for (const id of ["0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10", "nonsense", "1"]) {
      for (const answer of [await remove(id), await removeHard(id)]) {
        expect(answer, id).toMatchObject({ status: 404, body: { code: "session_not_found" } });
      }
    }
  });

  it("412 for another version than If-Match names, and nothing is deleted", async () => {
    const id = await service.create();
    for (const stale of ['"2"', 'W/"1"', '"abc"', '"0", "7"', "1"]) {
      for (const answer of [await remove(id, { "if-match": stale }), await removeHard(id, { "if-match": stale })]) {
        expect(answer, stale).toMatchObject({ status: 412, body: { code: "precondition_failed" } });
      }
    }
    expect((await service.request("GET", `/sessions/${id}`)).body.version).toBe(1);
    expect((await remove(id, { "if-match": '"7", "1"' })).status).toBe(204);
    expect((await removeHard(id, { "if-match": '"1"' })).status).toBe(412);
    expect((await rowOf(id))?.["purge_requested_at"]).toBe(null);
    expect((await removeHard(id, { "if-match": "*" })).status).toBe(204);
  });

  it("422 for a hard that is neither true nor false, and nothing is deleted", async () => {
    const id = await service.create();
    for (const query of ["hard=maybe", "hard=1", "hard=", "hard=true&hard=true"]) {
      expect(await service.request("DELETE", `/sessions/${id}?${query}`), query).toMatchObject({
        status: 422,
        body: { code: "validation_failed", errors: [{ parameter: "hard" }] },
      });
    }
    const strict = { prefer: "handling=strict" };
    const typo = await service.request("DELETE", `/sessions/${id}?hart=true`, undefined, strict);
    expect(typo).toMatchObject({ status: 422, body: { errors: [{ parameter: "hart" }] } });
    expect((await service.request("GET", `/sessions/${id}`)).status).toBe(200);
  });

  it("423 under a legal hold, soft and hard, whatever version is expected; 204 once it is lifted", async () => {
    const id = await service.create();
    await hold(id, true);
    for (const answer of [await remove(id), await removeHard(id), await remove(id, { "if-match": '"9"' })]) {
      expect(answer).toMatchObject({ status: 423, body: { code: "legal_hold" } });
    }
    expect((await service.request("GET", `/sessions/${id}`)).body.version).toBe(1);
    await hold(id, false);
    expect((await remove(id)).status).toBe(204);
    await hold(id, true);
    expect((await remove(id)).status).toBe(204);
    expect((await removeHard(id)).status).toBe(423);
    expect((await rowOf(id))?.["purge_requested_at"]).toBe(null);
  });
});

describe("DELETE /sessions/{id}?hard=true", () => {
  it("204, then the session and its history are gone, and one event without content remains", async () => {
    const id = await service.create({ context: { secret: 1 } });
    await service.request("PATCH", `/sessions/${id}`, { checkpoint: { secret: 2 } });
    await service.database.sql`
      insert into session_labels (session_id, key, value, created_at) values (${id}, 'secret', '3', now())
      on conflict do nothing`;
    expect((await removeHard(id, { "x-correlation-id": "whose" })).status).toBe(204);
    expect((await service.request("GET", `/sessions/${id}`)).status).toBe(404);
    await until(isGone(id), "the session to be gone");
    for (const table of ["checkpoints", "session_labels"]) {
      expect(await service.database.sql`select 1 from ${service.database.sql(table)} where session_id = ${id}`).toEqual(
        [],
      );
    }
    expect(await history(id)).toEqual([
      { event_type: "session.purged", sequence: 4, session_version: 4, payload: {}, metadata: {} },
    ]);
    const seen = await events.ofSession(id, 4);
    expect(seen.map((event) => [event.event_type, event.sequence, event.session_version])).toEqual([
      ["session.created", 1, 1],
      ["session.updated", 2, 2],
      ["session.deleted", 3, 3],
      ["session.purged", 4, 4],
    ]);
    expect(changeSchema.parse(seen[3])).toEqual(seen[3]);
    expect(seen.map((event) => event.created_at)).toEqual(seen.map((event) => event.created_at).sort());
  });

  it("204 for one that was deleted softly, without a second session.deleted", async () => {
    const id = await service.create();
    await remove(id);
    expect((await removeHard(id)).status).toBe(204);
    const seen = await events.ofSession(id, 3);
    expect(seen.map((event) => event.event_type)).toEqual(["session.created", "session.deleted", "session.purged"]);
    await until(isGone(id), "the session to be gone");
  });

  it("404 once it has been removed", async () => {
    const id = await service.create();
    await removeHard(id);
    await until(isGone(id), "the session to be gone");
    for (const answer of [await remove(id), await removeHard(id)]) expect(answer.status).toBe(404);
  });
});

describe("deletions at the same time", () => {
  it("of 20 of one session all are 204, with one event", async () => {
    for (let round = 0; round < 5; round++) {
      const id = await service.create();
      const answers = await Promise.all(Array.from({ length: 20 }, () => remove(id)));
      expect(answers.map((answer) => answer.status)).toEqual(Array.from({ length: 20 }, () => 204));
      expect((await history(id)).map((event) => event.event_type)).toEqual(["session.created", "session.deleted"]);
    }
  });

  it("of 20, soft and hard, all are 204 or come too late, with one deletion and one removal", async () => {
    for (let round = 0; round < 5; round++) {
      const id = await service.create();
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? removeHard(id) : remove(id))),
      );
      expect(answers.map((answer) => answer.status).filter((status) => status !== 204 && status !== 404)).toEqual([]);
      const seen = await events.ofSession(id, 3);
      expect(seen.map((event) => event.event_type)).toEqual(["session.created", "session.deleted", "session.purged"]);
      await until(isGone(id), "the session to be gone");
      expect((await history(id)).map((event) => event.event_type)).toEqual(["session.purged"]);
    }
  });

  it("and changes: each change comes before the deletion, or is 404, and the history has no gap", async () => {
    for (let round = 0; round < 5; round++) {
      const id = await service.create();
      const [deletion, ...changes] = await Promise.all([
        service.request("PATCH", `/sessions/${id}`, { checkpoint: { n: -1 } }).then(() => remove(id)),
        ...Array.from({ length: 30 }, (_, n) => service.request("PATCH", `/sessions/${id}`, { checkpoint: { n } })),
      ]);
      expect(deletion?.status).toBe(204);
      const made = changes.filter((answer) => answer.status === 200).length;
      expect(changes.filter((answer) => answer.status === 404)).toHaveLength(30 - made);
      const stored = await history(id);
      const last = made + 3;
      expect(stored.map((event) => event.sequence)).toEqual(Array.from({ length: last }, (_, n) => n + 1));
      expect(stored.map((event) => event.session_version)).toEqual(Array.from({ length: last }, (_, n) => n + 1));
      expect(stored.findIndex((event) => event.event_type === "session.deleted")).toBe(last - 1);
      expect(await rowOf(id)).toMatchObject({ version: last, last_sequence: last });
    }
  });

  it("with the same If-Match as changes: one of them wins", async () => {
    for (let round = 0; round < 5; round++) {
      const id = await service.create();
      const ifFirst = { "if-match": '"1"' };
      const answers = await Promise.all([
        remove(id, ifFirst),
        ...Array.from({ length: 10 }, (_, n) =>
          service.request("PATCH", `/sessions/${id}`, { context: { n } }, ifFirst),
        ),
      ]);
      expect(answers.filter((answer) => answer.status < 300)).toHaveLength(1);
      expect(await history(id)).toHaveLength(2);
    }
  });
});
