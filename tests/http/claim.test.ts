import diagnostics from "node:diagnostics_channel";
import type { IncomingMessage } from "node:http";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startProxy } from "../support/proxy.ts";
import { startReplica } from "../support/replica.ts";
import { agentId, send, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const otherAgent = "660e8400-e29b-41d4-a716-446655440000";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());
// What a test leaves behind must not be claimed by the next.
afterEach(() => service.database.sql`update sessions set claimable_at = null where claimable_at is not null`);

const claim = (fields: object = {}, headers: Record<string, string> = {}) =>
  service.request("POST", "/sessions/claim", { worker_id: "worker-1", ...fields }, headers);
const patch = async (id: string, body: object) => {
  const answer = await service.request("PATCH", `/sessions/${id}`, body);
  expect(answer.status, answer.text).toBe(200);
  return answer;
};
const read = async (id: string) => (await service.request("GET", `/sessions/${id}`)).body;
const events = async (id: string) => (await service.request("GET", `/sessions/${id}/events`)).body;
const pending = (fields: object = {}) => service.create({ phase: "pending", ...fields });

describe("200 POST /sessions/claim", () => {
  it("gives the session as it is read, running, with its checkpoint, its owner and the token of the lease", async () => {
    const id = await pending({ context: { big: 12345678901234567890n.toString() }, checkpoint: { step: 5 } });
    const before = await read(id);
    const answer = await claim({ worker_id: "worker-7", lease_seconds: 60 });
    expect(answer.status, answer.text).toBe(200);
    const { lease_token: token, ...session } = answer.body;
    expect(token).toBe(1);
    expect(session).toEqual(await read(id));
    expect(session).toMatchObject({ id, phase: "running", status: "active", attempt: 1, checkpoint: { step: 5 } });
    expect(session).toMatchObject({ version: 2, lease_owner: "worker-7", context: before.context });
    expect(answer.headers.get("etag")).toBe('"2"');
    expect(answer.headers.get("location")).toBe(`/sessions/${id}`);
    const lasts = Date.parse(session.lease_expires_at) - Date.parse(session.updated_at);
    expect(lasts).toBe(60_000);
    expect(session.started_at).toBe(session.updated_at);
  });

  it("tells of it in one event, which names what really changed", async () => {
    const id = await pending();
    await claim();
    const told = await events(id);
    expect(told.map((event: { event_type: string }) => event.event_type)).toEqual([
      "session.created",
      "session.updated",
    ]);
    expect(told[1].payload).toEqual({
      agent_id: agentId,
      status: "active",
      phase: "running",
      updates: ["phase", "lease_owner"],
      from: "pending",
      to: "running",
    });
  });

  it("gives the longest waiting first, to each of those who ask at the same time", async () => {
    const ids = [];
    for (let at = 0; at < 10; at++) ids.push(await pending());
    const first = await Promise.all(Array.from({ length: 6 }, () => claim()));
    expect(new Set(first.map(({ body }) => body.id))).toEqual(new Set(ids.slice(0, 6)));
    for (const id of ids.slice(6)) expect((await claim()).body.id).toBe(id);
    expect((await claim()).status).toBe(204);
  });

  it("gives a session that its filter lets pass, and no other", async () => {
    const plain = await pending();
    const ofOther = await pending({ agent_id: otherAgent, session_type: "batch" });
    const labelled = await pending({ labels: { team: "search", tier: "gold" }, runtime_backend: "kubernetes" });
    const passing = async (filter: object) => {
      const answer = await claim({ filter });
      if (answer.status !== 200) return undefined;
      await service.database.sql`
        update sessions set phase = 'pending', claimable_at = now(), lease_owner = null where id = ${answer.body.id}`;
      return answer.body.id;
    };
    for (const [filter, id] of [
      [{ agent_id: otherAgent }, ofOther],
      [{ agent_id: otherAgent.toUpperCase() }, ofOther],
      [{ agent_id: otherAgent, session_type: "task" }, undefined],
      [{ session_type: "batch" }, ofOther],
      [{ runtime_backend: "kubernetes" }, labelled],
      [{ runtime_backend: "local" }, undefined],
      [{ labels: { team: "search" } }, labelled],
      [{ labels: { team: "search", tier: "gold" } }, labelled],
      [{ labels: { team: "search", tier: "silver" } }, undefined],
      [{ labels: { team: "Search" } }, undefined],
      [{ agent_id: agentId, runtime_backend: "kubernetes", labels: { tier: "gold" } }, labelled],
    ] as const) {
      expect([filter, await passing(filter)]).toEqual([filter, id]);
    }
    await pending();
    for (const filter of [{}, { labels: {} }, { agent_id: null, labels: null }, null]) {
      expect((await claim({ filter })).status).toBe(200);
    }
    expect((await claim()).status).toBe(204);
    expect((await read(plain)).phase).toBe("running");
  });

  it("says the phase in a vocabulary that was asked for", async () => {
    await pending();
    const answer = await service.request("POST", "/sessions/claim?vocabulary=container", { worker_id: "w" });
    expect(answer.body).toMatchObject({ phase: "running", state: "READY", lease_token: 1 });
  });

  it("counts a new attempt from a crash, once its pause is over, and a greater token", async () => {
    const id = await pending({ auto_recover: true, checkpoint: { step: 1 } });
    expect((await claim()).body).toMatchObject({ id, attempt: 1, lease_token: 1 });
    await patch(id, { checkpoint: { step: 2 } });
    await patch(id, { phase: "crashed" });
    expect((await claim()).status).toBe(204);
    await service.database.sql`update sessions set claimable_at = now() where id = ${id}`;
    const { body } = await claim({ worker_id: "worker-2" });
    expect(body).toMatchObject({ id, phase: "running", attempt: 2, lease_token: 2, checkpoint: { step: 2 } });
    expect(body).toMatchObject({ next_attempt_at: null, ended_at: null });
    expect((await events(id)).at(-1).payload).toMatchObject({
      from: "crashed",
      updates: ["status", "phase", "lease_owner"],
    });
  });

  it("leaves alone what nobody may claim: live, paused, ended and deleted sessions, and crashed ones that don't recover", async () => {
    for (const phase of ["running", "ready"]) await service.create({ phase });
    for (const phase of ["paused", "stopped", "idle", "completed", "failed", "crashed"]) {
      await patch(await service.create(), { phase });
    }
    await service.request("DELETE", `/sessions/${await pending()}`);
    const unwanted = await service.create({ auto_recover: true });
    await patch(unwanted, { phase: "crashed" });
    await service.database.sql`update sessions set claimable_at = now() where id = ${unwanted}`;
    await patch(unwanted, { auto_recover: false });
    expect((await claim()).status).toBe(204);
  });

  it("does not give a session before its scheduled_at, and then does", async () => {
    const id = await pending({ scheduled_at: new Date(Date.now() + 3_600_000).toISOString() });
    expect((await claim()).status).toBe(204);
    await patch(id, { scheduled_at: new Date(Date.now() + 700).toISOString() });
    const answer = await claim({ wait_seconds: 10 });
    expect(answer.body).toMatchObject({ id, phase: "running" });
    expect(answer.body.updated_at >= answer.body.scheduled_at).toBe(true);
  });

  it("keeps what a client said twice with an Idempotency-Key apart from a second claim", async () => {
    const [one, two] = [await pending(), await pending()];
    const first = await claim({}, { "idempotency-key": "claim-1" });
    expect(first.body.id).toBe(one);
    const again = await claim({}, { "idempotency-key": "claim-1" });
    expect(again.text).toBe(first.text);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect((await claim({}, { "idempotency-key": "claim-2" })).body.id).toBe(two);
    expect((await read(one)).version).toBe(2);
  });

  it("gives a session with large documents whole", async () => {
    const ids = [];
    for (let at = 0; at < 4; at++) ids.push(await pending({ context: { text: "x".repeat(600_000), at } }));
    const answers = await Promise.all(ids.map(() => claim()));
    expect(new Set(answers.map(({ body }) => body.id))).toEqual(new Set(ids));
    for (const { body } of answers) expect(body.context.text).toHaveLength(600_000);
  });
});

describe("204 POST /sessions/claim", () => {
  it("comes at once without wait_seconds, with no body and no type", async () => {
    const answer = await claim();
    expect([answer.status, answer.text, answer.headers.get("content-type")]).toEqual([204, "", null]);
  });

  it("comes after wait_seconds, and not before", async () => {
    for (const headers of [{}, { "idempotency-key": "patient" }] as Record<string, string>[]) {
      const began = performance.now();
      const answer = await claim({ wait_seconds: 1.2 }, headers);
      expect(answer.status).toBe(204);
      expect(performance.now() - began).toBeGreaterThanOrEqual(1_199);
      expect(performance.now() - began).toBeLessThan(5_000);
    }
  });

  it("is the answer again to who repeats it with its Idempotency-Key", async () => {
    await claim({}, { "idempotency-key": "none" });
    await pending();
    const again = await claim({}, { "idempotency-key": "none" });
    expect([again.status, again.headers.get("idempotent-replayed")]).toEqual([204, "true"]);
  });
});

describe("a claim that waits", () => {
  const isWaiting = (url = service.url) => send(`${url}/sessions/${agentId}`, "GET");

  it("is answered soon after a session is there: created, recovered, or left by its worker", async () => {
    const left = await pending();
    const held = await claim({ worker_id: "leaver" });
    const failed = await service.create();
    await patch(failed, { phase: "failed" });
    for (const cause of [
      () => pending(),
      () => service.request("POST", `/sessions/${failed}/recover`),
      () => service.request("POST", "/workers/leaver/pause-all"),
    ]) {
      const waiting = claim({ worker_id: "waiter", wait_seconds: 20 });
      await isWaiting();
      await cause();
      const began = performance.now();
      expect((await waiting).body).toMatchObject({ phase: "running", lease_owner: "waiter" });
      expect(performance.now() - began).toBeLessThan(1_000);
    }
    expect(held.body.id).toBe(left);
    expect(await read(left)).toMatchObject({ lease_owner: "waiter", attempt: 1 });
  });

  it("is answered when a session is created through another replica, with an Idempotency-Key too", async () => {
    await using other = await startReplica(service, { RELAY: "off" });
    for (const [here, there, headers] of [
      [service.url, other.url, {}],
      [other.url, service.url, {}],
      [other.url, service.url, { "idempotency-key": "elsewhere" }],
    ] as const) {
      const waiting = send(
        `${here}/sessions/claim`,
        "POST",
        { worker_id: "waiter", wait_seconds: 20 },
        headers as Record<string, string>,
      );
      await isWaiting(here);
      const created = await send(`${there}/sessions/`, "POST", { agent_id: agentId, phase: "pending" });
      const began = performance.now();
      expect((await waiting).body?.id).toBe(created.body.id);
      expect(performance.now() - began).toBeLessThan(1_500);
    }
  });

  it("takes its turn: first come, first served", async () => {
    const order: string[] = [];
    const waiting = Array.from({ length: 5 }, async (_, at) => {
      for (let turn = 0; turn < at; turn++) await isWaiting();
      const answer = await claim({ worker_id: `waiter-${at}`, wait_seconds: 20 });
      order.push(answer.body.lease_owner);
    });
    for (let turn = 0; turn < 12; turn++) await isWaiting();
    for (let at = 0; at < 5; at++) {
      await pending();
      await until(() => order.length > at, "the next to be served");
    }
    await Promise.all(waiting);
    expect(order).toEqual(["waiter-0", "waiter-1", "waiter-2", "waiter-3", "waiter-4"]);
  });

  it("gets what its own filter lets pass, whatever others wait for: at once, and when a time has come", async () => {
    const teams = Array.from({ length: 30 }, (_, at) => `team-${at}`);
    const waiting = teams.map((team) =>
      claim(
        { worker_id: team, wait_seconds: 30, filter: { labels: { team } } },
        keyOf(team, teams.indexOf(team) % 10 === 0),
      ),
    );
    for (let turn = 0; turn < 3; turn++) await isWaiting();
    const soon = new Date(Date.now() + 1_500).toISOString();
    const ids = await Promise.all(
      teams.map((team, at) =>
        pending({ labels: { team, other: "x" }, ...(at % 2 === 0 ? { scheduled_at: soon } : {}) }),
      ),
    );
    const answers = await Promise.all(waiting);
    expect(answers.map(({ body }) => body?.id)).toEqual(ids);
    expect(answers.map(({ body }) => body.lease_owner)).toEqual(teams);
  });

  it("gets nothing once its client has left", async () => {
    const leaving = new AbortController();
    const waiting = fetch(`${service.url}/sessions/claim`, {
      method: "POST",
      body: JSON.stringify({ worker_id: "gone", wait_seconds: 30 }),
      signal: leaving.signal,
    }).catch(() => "left");
    await isWaiting();
    await isWaiting();
    leaving.abort();
    expect(await waiting).toBe("left");
    await isWaiting();
    const id = await pending();
    const answer = await claim({ worker_id: "stayer", wait_seconds: 10 });
    expect(answer.body).toMatchObject({ id, lease_owner: "stayer", lease_token: 1 });
  });

  it("costs little: hundreds that wait for the same, or for different things, ask a few times a second", async () => {
    const statements = async () => {
      const [row] = await service.database.sql<{ calls: number }[]>`
        select xact_commit::int as calls from pg_stat_database where datname = current_database()`;
      return row?.calls ?? 0;
    };
    const leaving = new AbortController();
    using arrivals = countArrivals();
    const waiting = Array.from({ length: 400 }, (_, at) =>
      fetch(`${service.url}/sessions/claim`, {
        method: "POST",
        body: JSON.stringify({
          worker_id: `w-${at}`,
          wait_seconds: 60,
          filter: at % 2 === 0 ? {} : { session_type: `type-${at}` },
        }),
        signal: leaving.signal,
      }).catch(() => "left"),
    );
    await until(() => arrivals.count() === 400, "them to wait");
    const [before, began] = [await statements(), performance.now()];
    // Measured over some time, for it is a rate.
    await until(() => performance.now() - began > 3_000, "3 s");
    const perSecond = ((await statements()) - before) / 3;
    leaving.abort();
    await Promise.all(waiting);
    expect(perSecond).toBeLessThan(150);
  });

  it("is told with 503 when the database is away, as one is that does not wait, and can be sent again", async () => {
    const database = new URL(service.database.url);
    await using proxy = await startProxy({ host: database.hostname, port: Number(database.port) });
    database.port = String(proxy.port);
    database.hostname = "127.0.0.1";
    await using replica = await startReplica(service, { DATABASE_URL: database.href });
    const ask = (fields: object = {}) =>
      send(`${replica.url}/sessions/claim`, "POST", { worker_id: "cut-off", ...fields });
    const waiting = ask({ wait_seconds: 60 });
    await isWaiting(replica.url);
    proxy.freeze();
    const began = performance.now();
    for (const answer of await Promise.all([ask(), waiting, ask({ wait_seconds: 10 })])) {
      expect([answer.status, answer.body.code]).toEqual([503, "database_unavailable"]);
    }
    expect(performance.now() - began).toBeLessThan(8_000);
    proxy.thaw();
    const id = await pending();
    await until(async () => (await ask()).body?.id === id, "the session to be given", { everyMs: 100 });
  }, 30_000);

  it("is answered at once when the service stops", async () => {
    const own = await startTestService();
    using arrivals = countArrivals();
    const waiting = Array.from({ length: 20 }, (_, at) =>
      own.request(
        "POST",
        "/sessions/claim",
        { worker_id: "w", wait_seconds: 60 },
        at % 4 === 0 ? { "idempotency-key": `stop-${at}` } : {},
      ),
    );
    await until(() => arrivals.count() === 20, "them to wait");
    await send(`${own.url}/sessions/${agentId}`, "GET");
    const began = performance.now();
    await own.stop();
    for (const answer of await Promise.all(waiting)) expect(answer.status, answer.text).toBe(204);
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});

const keyOf = (name: string, has: boolean): Record<string, string> => (has ? { "idempotency-key": name } : {});

/** Counts the claims that arrive at the services of this process. */
function countArrivals(): Disposable & { readonly count: () => number } {
  let arrived = 0;
  const count = (message: unknown) => {
    const { request } = message as { readonly request: IncomingMessage };
    if (request.url === "/sessions/claim") arrived++;
  };
  diagnostics.subscribe("http.server.request.start", count);
  return {
    count: () => arrived,
    [Symbol.dispose]: () => void diagnostics.unsubscribe("http.server.request.start", count),
  };
}

describe("422 POST /sessions/claim", () => {
  it("names what is wrong, and where", async () => {
    const tooLong = "w".repeat(256);
    for (const [fields, pointer, detail] of [
      [{ worker_id: undefined }, "/worker_id", /worker's name/],
      [{ worker_id: "" }, "/worker_id", /1 to 255/],
      [{ worker_id: tooLong }, "/worker_id", /1 to 255/],
      [{ worker_id: "a\nb" }, "/worker_id", /printable/],
      [{ worker_id: 7 }, "/worker_id", /worker's name/],
      [{ lease_seconds: 3_601 }, "/lease_seconds", /1 to 3600.*heartbeats/],
      [{ lease_seconds: 0 }, "/lease_seconds", /1 to 3600/],
      [{ lease_seconds: 1.5 }, "/lease_seconds", /whole number/],
      [{ lease_seconds: "60" }, "/lease_seconds", /whole number/],
      [{ wait_seconds: 61 }, "/wait_seconds", /0 to 60/],
      [{ wait_seconds: -1 }, "/wait_seconds", /0 to 60/],
      [{ filter: { agent: agentId } }, "/filter/agent", /not known/],
      // A filter that was not understood would be none.
      [{ filters: { agent_id: agentId } }, "/filters", /not known/],
      [{ agent_id: agentId }, "/agent_id", /not known/],
      [{ filter: { agent_id: "x" } }, "/filter/agent_id", /UUID/],
      [{ filter: { runtime_backend: "moon" } }, "/filter/runtime_backend", /local, kubernetes/],
      [{ filter: { session_type: "" } }, "/filter/session_type", /./],
      [{ filter: { labels: { team: 1 } } }, "/filter/labels/team", /text/],
      [{ filter: { labels: ["team"] } }, "/filter/labels", /object/],
      [{ filter: "all" }, "/filter", /./],
    ] as const) {
      const { status, body } = await claim(fields);
      expect([fields, status, body?.code]).toEqual([fields, 422, "validation_failed"]);
      expect(body.errors[0].pointer).toBe(pointer);
      expect(body.errors[0].detail).toMatch(detail);
    }
  });

  it("400 for a body that is missing, and for one that is no JSON", async () => {
    for (const body of [undefined, "{", ""]) {
      expect((await service.request("POST", "/sessions/claim", body)).status).toBe(400);
    }
  });
});
