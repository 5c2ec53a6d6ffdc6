/** Under a legal hold nothing of a session goes, by whatever way, until the hold is lifted; then what is due goes. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ SWEEP_INTERVAL_MS: "100" });
});
afterAll(() => service.stop());

const patch = (id: string, body: object, headers?: Record<string, string>) =>
  service.request("PATCH", `/sessions/${id}`, body, headers);
const read = async (id: string) => (await service.request("GET", `/sessions/${id}`)).body;
const rowOf = async (id: string) => (await service.database.sql`select * from sessions where id = ${id}`)[0];
const isDeleted = (id: string) => async () => (await rowOf(id))?.["deleted_at"] !== null;
const payloads = async (id: string) =>
  (await service.request("GET", `/sessions/${id}/events`)).body.map(
    (event: { payload: { updates?: string[] } }) => event.payload.updates,
  );

describe("a legal hold", () => {
  it("is off unless asked for, at the creation or by PATCH, and shown either way", async () => {
    const plain = await service.create();
    expect((await read(plain)).legal_hold).toBe(false);
    const held = await service.create({ legal_hold: true });
    expect((await read(held)).legal_hold).toBe(true);
    expect((await read(await service.create({ legal_hold: null, idle_timeout_seconds: 60 }))).legal_hold).toBe(false);
    expect((await patch(plain, { legal_hold: true })).body).toMatchObject({ legal_hold: true, version: 2 });
    expect((await patch(plain, { legal_hold: false })).body).toMatchObject({ legal_hold: false, version: 3 });
    const listed = (await service.request("GET", "/sessions/?limit=1000")).body;
    expect(listed.find((session: { id: string }) => session.id === held).legal_hold).toBe(true);
  });

  it("is a change of the session: an event names it, and to say it again is none", async () => {
    const id = await service.create();
    await patch(id, { legal_hold: true });
    expect((await patch(id, { legal_hold: true })).body.version).toBe(2);
    expect((await patch(id, { legal_hold: true, name: "x" })).body.version).toBe(3);
    expect((await payloads(id)).filter(Boolean)).toEqual(expect.arrayContaining([["legal_hold"], ["name"]]));
  });

  it("is not lifted by null, by a runtime's report, nor by a version that is not the session's", async () => {
    const id = await service.create({ legal_hold: true });
    expect((await patch(id, { legal_hold: null })).body).toMatchObject({ legal_hold: true, version: 1 });
    expect((await patch(id, { legal_hold: null, max_attempts: 5 })).body).toMatchObject({ legal_hold: true });
    const report = await service.request("PATCH", `/sessions/${id}/status`, { legal_hold: false, stats: { n: 1 } });
    expect(report.body.legal_hold).toBe(true);
    expect((await patch(id, { legal_hold: false }, { "if-match": '"1"' })).status).toBe(412);
    expect((await read(id)).legal_hold).toBe(true);
  });

  it("422 when it is no boolean, and nothing is changed", async () => {
    const id = await service.create({ legal_hold: true });
    for (const bad of ["false", 0, [], {}]) {
      expect(await patch(id, { legal_hold: bad }), JSON.stringify(bad)).toMatchObject({
        status: 422,
        body: { errors: [{ pointer: "/legal_hold" }] },
      });
    }
    expect(await read(id)).toMatchObject({ legal_hold: true, version: 1 });
  });
});

describe("while it is set", () => {
  it("423 for every request that would remove something, and 204 and 200 once it is lifted", async () => {
    const id = await service.create({ legal_hold: true });
    for (const n of [1, 2, 3]) expect((await patch(id, { checkpoint: { n } })).status).toBe(200);
    const removals = [
      () => service.request("DELETE", `/sessions/${id}/checkpoints/1`),
      () => service.request("POST", `/sessions/${id}/prune`, { keep_last: 1 }),
      () => service.request("DELETE", `/sessions/${id}`),
      () => service.request("DELETE", `/sessions/${id}?hard=true`),
    ];
    for (const removal of removals) {
      expect(await removal()).toMatchObject({ status: 423, body: { code: "legal_hold" } });
    }
    expect(await read(id)).toMatchObject({ version: 4, checkpoint_count: 3 });
    await patch(id, { legal_hold: false });
    for (const removal of removals) expect([200, 204]).toContain((await removal()).status);
    await until(async () => (await rowOf(id)) === undefined, "the session to be gone");
  });

  it("all else goes on: changes, verbs and timers", async () => {
    const id = await service.create({ legal_hold: true, waiting_timeout_seconds: 1 });
    expect((await patch(id, { context: { a: 1 } })).status).toBe(200);
    await until(async () => (await read(id)).phase === "idle", "the session to be idle");
    expect((await service.request("POST", `/sessions/${id}/complete`)).body.phase).toBe("completed");
  });

  it("no time to expire deletes it; once it is lifted the one that passed meanwhile does", async () => {
    const held = await service.create({ legal_hold: true, expires_at: "2020-01-01T00:00:00Z" });
    const late = await service.create({ expires_at: "2090-01-01T00:00:00Z" });
    await patch(late, { legal_hold: true });
    await patch(late, { expires_at: "2020-01-01T00:00:00Z" });
    const free = await service.create({ expires_at: "2020-01-01T00:00:00Z" });
    await until(isDeleted(free), "the sweeper to delete the one that is free");
    for (const id of [held, late]) expect(await rowOf(id)).toMatchObject({ deleted_at: null });
    for (const id of [held, late]) {
      // A sweeper that had looked would have found nothing to look for.
      await service.database.sql`update sessions set next_check_at = null where id = ${id}`;
      await patch(id, { legal_hold: false });
      await until(isDeleted(id), "the sweeper to delete it");
    }
  });

  it("no race lets a deletion through: of 50 deletions beside the hold, none comes after it", async () => {
    for (let round = 0; round < 2; round++) {
      const id = await service.create();
      const [hold, ...deletions] = await Promise.all([
        patch(id, { legal_hold: true }),
        ...Array.from({ length: 50 }, () => service.request("DELETE", `/sessions/${id}`)),
      ]);
      const statuses = new Set(deletions.map(({ status }) => status));
      expect([...statuses]).toEqual([hold.status === 200 ? 423 : 204]);
      expect((await rowOf(id))?.["legal_hold"]).toBe(hold.status === 200);
    }
  });
});
