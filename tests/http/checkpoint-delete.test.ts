/** DELETE of single checkpoints, and what becomes of all of them when their session is removed. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const nobody = "00000000-0000-4000-8000-000000000000";

const get = (path: string) => service.request("GET", path);
const save = (id: string, body: unknown) => service.request("POST", `/sessions/${id}/checkpoints`, body);
const remove = (path: string, headers?: Record<string, string>) => service.request("DELETE", path, undefined, headers);
const rowsOf = async (id: string) =>
  (
    await service.database.sql<{ number: number }[]>`
    select number from checkpoints where session_id = ${id} order by number`
  ).map(({ number }) => number);

async function withCheckpoints(count: number): Promise<string> {
  const id = await service.create();
  for (let n = 1; n <= count; n++) await save(id, { data: { n } });
  return id;
}

describe("DELETE of a checkpoint", () => {
  it("204, by its number or its id; it is gone, and its number is not given again", async () => {
    const id = await withCheckpoints(3);
    const [, second] = (await get(`/sessions/${id}/checkpoints`)).body;
    for (const path of [`/sessions/${id}/checkpoints/1`, `/checkpoints/${second.id}`]) {
      const answer = await remove(path);
      expect([answer.status, answer.text], path).toEqual([204, ""]);
      expect((await remove(path)).body.code).toBe("checkpoint_not_found");
      expect((await get(path)).status).toBe(404);
    }
    expect((await get(`/sessions/${id}`)).body).toMatchObject({ checkpoint_count: 1, checkpoint: { n: 3 } });
    expect((await save(id, { data: {} })).body.number).toBe(4);
  });

  it("204 makes no new version and no event, and the session shows what it showed", async () => {
    const id = await withCheckpoints(2);
    const before = await get(`/sessions/${id}`);
    await remove(`/sessions/${id}/checkpoints/1`);
    const after = await get(`/sessions/${id}`);
    expect(after.body).toEqual({ ...before.body, checkpoint_count: 1 });
    expect((await get(`/sessions/${id}/events`)).body).toHaveLength(3);
  });

  it("409 checkpoint_in_use for the one that the session shows; 204 once it shows another one, or none", async () => {
    const id = await withCheckpoints(2);
    const shown = `/sessions/${id}/checkpoints/2`;
    const [{ id: checkpoint }] = (await get(`/sessions/${id}/checkpoints`)).body;
    for (const path of [shown, `/checkpoints/${checkpoint}`]) {
      const answer = await remove(path);
      expect([answer.status, answer.body.code], path).toEqual([409, "checkpoint_in_use"]);
    }
    await save(id, { data: {}, checkpoint_ns: "x" });
    expect((await remove(shown)).status).toBe(409);
    await save(id, { data: { n: 4 } });
    expect((await remove(shown)).status).toBe(204);
    await service.request("PATCH", `/sessions/${id}`, { checkpoint: null });
    expect((await remove(`/sessions/${id}/checkpoints/4`)).status).toBe(204);
    expect(await rowsOf(id)).toEqual([1, 3]);
  });

  it("204 for the last one of a line that the session does not show", async () => {
    const id = await withCheckpoints(1);
    await save(id, { data: {}, checkpoint_ns: "x" });
    expect((await remove(`/sessions/${id}/checkpoints/2`)).status).toBe(204);
  });

  it("423 under a legal hold", async () => {
    const id = await withCheckpoints(2);
    await service.database.sql`update sessions set legal_hold = true where id = ${id}`;
    expect((await remove(`/sessions/${id}/checkpoints/1`)).body).toMatchObject({ status: 423, code: "legal_hold" });
    expect(await rowsOf(id)).toEqual([1, 2]);
    await service.database.sql`update sessions set legal_hold = false where id = ${id}`;
    expect((await remove(`/sessions/${id}/checkpoints/1`)).status).toBe(204);
  });

  it("412 and 409 lease_lost for who knows no better; the holder of the lease renews it", async () => {
    const id = await withCheckpoints(3);
    const lease = await service.request("POST", `/sessions/${id}/lease`, { worker_id: "w" });
    const first = `/sessions/${id}/checkpoints/1`;
    expect((await remove(first, { "if-match": '"1"' })).body.code).toBe("precondition_failed");
    expect((await remove(first, { "lease-token": "9" })).body.code).toBe("lease_lost");
    expect((await remove(first, { "lease-token": "x" })).status).toBe(422);
    const { lease_token: token, lease_expires_at: before, version } = lease.body;
    expect((await remove(first, { "lease-token": String(token), "if-match": `"${version}"` })).status).toBe(204);
    expect((await get(`/sessions/${id}`)).body.lease_expires_at > before).toBe(true);
  });

  it("404 for a session or a checkpoint that there is not, or that was deleted", async () => {
    const id = await withCheckpoints(2);
    const [, { id: checkpoint }] = (await get(`/sessions/${id}/checkpoints`)).body;
    await service.request("DELETE", `/sessions/${id}`);
    for (const [path, code] of [
      [`/sessions/${id}/checkpoints/1`, "session_not_found"],
      [`/sessions/${nobody}/checkpoints/1`, "session_not_found"],
      [`/checkpoints/${checkpoint}`, "checkpoint_not_found"],
      [`/checkpoints/${nobody}`, "checkpoint_not_found"],
      ["/checkpoints/x", "checkpoint_not_found"],
      [`/sessions/${await service.create()}/checkpoints/x`, "checkpoint_not_found"],
    ] as const) {
      const answer = await remove(path);
      expect([answer.status, answer.body.code], path).toEqual([404, code]);
    }
  });

  it("of 20 that remove the same one, one does, and it is counted once", async () => {
    const id = await withCheckpoints(5);
    const answers = await Promise.all(Array.from({ length: 20 }, () => remove(`/sessions/${id}/checkpoints/1`)));
    expect(answers.filter(({ status }) => status === 204)).toHaveLength(1);
    expect(answers.filter(({ body }) => body?.code === "checkpoint_not_found")).toHaveLength(19);
    expect((await get(`/sessions/${id}`)).body.checkpoint_count).toBe(4);
  });
});

describe("DELETE /sessions/{id}?hard=true", () => {
  it("removes its checkpoints too, in batches, and those of no other session", async () => {
    const other = await withCheckpoints(2);
    const id = await withCheckpoints(1);
    await service.database.sql`
      insert into checkpoints (session_id, number, id, data, bytes, session_version, created_at)
      select ${id}, n, gen_random_uuid(), '{}', case when n < 20 then 3000000 else 2 end, 1, clock_timestamp()
      from generate_series(2, 450) n`;
    const batches = service.database.sql.unsafe(`
      create table batches (count int);
      create function note_batch() returns trigger language plpgsql as
        'begin insert into batches select count(*) from gone; return null; end';
      create trigger notes_batches after delete on checkpoints referencing old table as gone
        for each statement execute function note_batch()`);
    await batches;
    expect((await remove(`/sessions/${id}?hard=true`)).status).toBe(204);
    await until(
      async () => (await service.database.sql`select 1 from sessions where id = ${id}`).length === 0,
      "its end",
    );
    expect(await rowsOf(id)).toEqual([]);
    expect(await rowsOf(other)).toEqual([1, 2]);
    const counts = (await service.database.sql<{ count: number }[]>`select count from batches where count > 0`).map(
      ({ count }) => count,
    );
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(450);
    expect(Math.max(...counts)).toBeLessThanOrEqual(100);
    expect(Math.min(...counts.slice(0, 5))).toBe(2);
    expect((await get(`/sessions/${id}/checkpoints?include_deleted=true`)).status).toBe(404);
  });
});
