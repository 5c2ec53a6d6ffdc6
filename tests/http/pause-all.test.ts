import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const pauseAll = (worker: string, body?: unknown, headers: Record<string, string> = {}) =>
  service.request("POST", `/workers/${worker}/pause-all`, body, headers);
const claim = (worker: string, fields: object = {}) =>
  service.request("POST", "/sessions/claim", { worker_id: worker, ...fields });
const read = async (id: string) => (await service.request("GET", `/sessions/${id}`)).body;
const events = async (id: string) => (await service.request("GET", `/sessions/${id}/events`)).body;

async function held(worker: string, fields: object = {}): Promise<string> {
  const id = await service.create(fields);
  const answer = await service.request("POST", `/sessions/${id}/lease`, { worker_id: worker });
  expect(answer.status, answer.text).toBe(200);
  return id;
}

describe("POST /workers/{worker_id}/pause-all", () => {
  it("pauses every live session that the worker holds, frees the leases, and tells of each once", async () => {
    const ids = [await held("w1"), await held("w1", { phase: "ready" })];
    const busy = await held("w1");
    await service.request("PATCH", `/sessions/${busy}`, { phase: "busy" });
    ids.push(busy);
    const others = [await held("w2"), await service.create()];
    const answer = await pauseAll("w1");
    expect(answer.status, answer.text).toBe(200);
    expect(answer.body.paused).toBe(3);
    expect(new Set(answer.body.sessions)).toEqual(new Set(ids));
    for (const id of ids) {
      const session = await read(id);
      expect(session).toMatchObject({ phase: "paused", status_reason: "worker_shutdown", auto_resume: true });
      expect(session).toMatchObject({ lease_owner: null, lease_expires_at: null, attempt: 1 });
      const [last, before] = (await events(id)).reverse();
      expect(last.payload).toMatchObject({ to: "paused", reason: "worker_shutdown" });
      expect(last.payload.updates).toEqual(["status", "phase", "status_reason", "lease_owner", "auto_resume"]);
      expect(before.payload.to).not.toBe("paused");
    }
    for (const id of others) expect((await read(id)).phase).toBe("running");
    expect((await pauseAll("w1")).body).toEqual({ paused: 0, sessions: [] });
    for (let at = 0; at < ids.length; at++) await claim("sweep-up");
  });

  it("lets another worker go on from the last checkpoint, in the same attempt", async () => {
    const id = await held("w3", { checkpoint: { step: 5 } });
    await service.request("PATCH", `/sessions/${id}`, { checkpoint: { step: 6 } });
    await pauseAll("w3", {});
    const { body } = await claim("w4");
    expect(body).toMatchObject({ id, phase: "running", attempt: 1, checkpoint: { step: 6 }, lease_owner: "w4" });
    expect(body).toMatchObject({ auto_resume: false, status_reason: null });
    expect(body.lease_token).toBe(2);
    expect((await events(id)).at(-1).payload.updates).toEqual([
      "status",
      "phase",
      "status_reason",
      "lease_owner",
      "auto_resume",
    ]);
  });

  it("leaves what was asked of the work to the worker that goes on with it: to come to an end", async () => {
    const id = await held("w3");
    await service.request("POST", `/sessions/${id}/request-exit`);
    await pauseAll("w3");
    expect((await claim("w4")).body).toMatchObject({ id, attempt: 1, exit_requested: true });
  });

  it("leaves them paused for good when auto_resume is false, for the reason that is given", async () => {
    const id = await held("w5");
    await pauseAll("w5", { auto_resume: false, reason: "maintenance" });
    expect(await read(id)).toMatchObject({ phase: "paused", status_reason: "maintenance", auto_resume: false });
    expect((await claim("w6")).status).toBe(204);
  });

  it("stops what is starting, which may be claimed, and what is stopping, which may not", async () => {
    const starting = await held("w7", { phase: "starting" });
    const stopping = await held("w7");
    await service.request("PATCH", `/sessions/${stopping}`, { phase: "stopping" });
    expect((await pauseAll("w7")).body.paused).toBe(2);
    expect(await read(starting)).toMatchObject({ phase: "stopped", auto_resume: true });
    expect(await read(stopping)).toMatchObject({ phase: "stopped", auto_resume: false });
    expect((await claim("w8")).body.id).toBe(starting);
    expect((await claim("w8")).status).toBe(204);
  });

  it("sets aside more than one statement takes, and more than an answer names", async () => {
    await service.database.sql`
      insert into sessions (id, agent_id, created_at, updated_at, last_activity_at, phase_since, last_sequence,
        lease_owner, lease_token, lease_seconds, lease_expires_at)
      select gen_random_uuid(), gen_random_uuid(), now(), now(), now(), now(), 1, 'big', 1, 3600, now() + interval '1 h'
      from generate_series(1, 1100)`;
    const { body } = await pauseAll("big", { auto_resume: false }, { "idempotency-key": "big" });
    expect([body.paused, body.sessions.length, new Set(body.sessions).size]).toEqual([1_100, 1_000, 1_000]);
    const [row] = await service.database.sql`
      select count(*)::int as paused, count(lease_owner)::int as held from sessions where status_reason = 'worker_shutdown'
        and auto_resume is null and phase = 'paused' and version = 2`;
    expect(row).toEqual({ paused: 1_100, held: 0 });
    const again = await pauseAll("big", { auto_resume: false }, { "idempotency-key": "big" });
    expect(again.body.paused).toBe(1_100);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
  });

  it("takes any name that a worker can have, as a path spells it", async () => {
    for (const name of ["host/1", "Zoë 7", "a%b", "?&#", ".", "w".repeat(255)]) {
      const id = await held(name);
      expect((await pauseAll(encodeURIComponent(name), { auto_resume: false })).body.sessions).toEqual(
        // The path "." is none.
        name === "." ? undefined : [id],
      );
    }
    for (const name of ["a%00b", "a%0ab", "w".repeat(256)]) {
      const answer = await pauseAll(name);
      expect([name, answer.status]).toEqual([name, 422]);
      expect(answer.body.errors[0]).toMatchObject({ parameter: "worker_id" });
    }
    for (const body of [{ reason: "" }, { auto_resume: "yes" }, { reason: 7 }, []]) {
      expect([body, (await pauseAll("w9", body)).status]).toEqual([body, 422]);
    }
  });
});

describe("a session that is set aside", () => {
  it.each([
    ["PATCH", "", "paused"],
    ["PUT", "", "stopped"],
    ["POST", "/pause", "paused"],
  ])("%s …%s %s: auto_resume lets it be claimed, or holds it back, as a change", async (method, path, phase) => {
    const id = await service.create({ agent_id: crypto.randomUUID() });
    await service.request("PATCH", `/sessions/${id}`, { phase });
    const { agent_id } = await read(id);
    const turn = (autoResume: boolean) =>
      service.request(method, `/sessions/${id}${path}`, { auto_resume: autoResume });
    expect((await turn(true)).body).toMatchObject({ phase, auto_resume: true, version: 3 });
    expect((await turn(true)).body.version).toBe(3);
    expect((await turn(false)).body).toMatchObject({ phase, auto_resume: false, version: 4 });
    expect((await claim("w", { filter: { agent_id } })).status).toBe(204);
    const waiting = claim("w", { filter: { agent_id }, wait_seconds: 10 });
    await turn(true);
    expect((await waiting).body).toMatchObject({ id, phase: "running", attempt: 1 });
    const told = (await events(id)).map(({ payload }: { payload: { updates?: string[] } }) => payload.updates);
    expect(told.slice(2, 5)).toEqual([["auto_resume"], ["auto_resume"], ["auto_resume"]]);
  });
});
