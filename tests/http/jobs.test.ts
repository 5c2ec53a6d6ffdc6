/** Jobs as they are followed and cancelled; sessions that somebody has locked keep them at a place that is certain. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { holdSessions, untilStuck } from "../support/held-lock.ts";
import { startReplica } from "../support/replica.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

let tests = 0;

/** Sessions with a label of their own, oldest first, and the filter that finds them. */
async function labelled(count: number) {
  const value = `test-${++tests}`;
  const ids: string[] = [];
  for (let at = 0; at < count; at++) ids.push(await service.create({ labels: { job: value } }));
  return { ids, filter: { label: `job:${value}` } };
}

async function begin(filter: object, what = "delete", rest: object = {}) {
  const dry = await service.request("POST", `/sessions/bulk-${what}`, { filter, ...rest, dry_run: true });
  return service.request("POST", `/sessions/bulk-${what}`, { filter, ...rest, token: dry.body.token });
}

const read = async (id: string) => (await service.request("GET", `/jobs/${id}`)).body;

async function end(id: string) {
  await until(async () => (await read(id)).finished_at !== null, "the job to end");
  return read(id);
}

async function outcomes(id: string): Promise<[string, string][]> {
  const { body } = await service.request("GET", `/jobs/${id}/results?limit=1000`);
  return body.map((one: { session_id: string; outcome: string }) => [one.session_id, one.outcome]);
}

const shows = async (id: string) => (await service.request("GET", `/sessions/${id}`)).status;

describe("a job that runs", () => {
  it("waits for a session that somebody changes, in its turn, and tells meanwhile how far it has come", async () => {
    const { ids, filter } = await labelled(10);
    await using held = await holdSessions(service.database, [ids[4] ?? ""]);
    const { body: job } = await begin(filter);
    await untilStuck(service.database, 1);
    expect(await read(job.id)).toMatchObject({ state: "running", planned: 10, changed: 5, finished_at: null });
    expect(await outcomes(job.id)).toEqual(
      ids
        .slice(5)
        .toReversed()
        .map((id) => [id, "changed"]),
    );
    // It holds no lock on those that come later.
    expect((await service.request("PATCH", `/sessions/${ids[3]}`, { name: "free" })).status).toBe(200);
    await held.release();
    expect(await end(job.id)).toMatchObject({ state: "completed", changed: 10 });
    expect(await outcomes(job.id)).toEqual(ids.toReversed().map((id) => [id, "changed"]));
  });

  it("stops when it is cancelled: what was done stays, what was not is left alone", async () => {
    const { ids, filter } = await labelled(6);
    await using held = await holdSessions(service.database, [ids[3] ?? ""]);
    const { body: job } = await begin(filter);
    await untilStuck(service.database, 1);
    const cancelled = await service.request("POST", `/jobs/${job.id}/cancel`);
    expect(cancelled.status).toBe(200);
    expect(cancelled.body).toMatchObject({ id: job.id, state: "running", cancel_requested: true, finished_at: null });
    await held.release();
    expect(await end(job.id)).toMatchObject({ state: "cancelled", planned: 6, changed: 3, unchanged: 0, refused: 0 });
    expect(await Promise.all(ids.map(shows))).toEqual([200, 200, 200, 404, 404, 404]);
    expect((await outcomes(job.id)).map(([id]) => id)).toEqual(ids.slice(3).toReversed());
    const again = await service.request("POST", `/jobs/${job.id}/cancel`);
    expect([again.status, again.body]).toEqual([200, await read(job.id)]);
  });

  it("leaves a session alone that is not what was meant any more once its turn comes", async () => {
    const { ids, filter } = await labelled(3);
    await using held = await holdSessions(service.database, [ids[1] ?? ""]);
    const { body: job } = await begin({ ...filter, phase: "running" });
    await untilStuck(service.database, 1);
    const change = service.request("PATCH", `/sessions/${ids[0]}`, { phase: "busy" });
    expect((await change).status).toBe(200);
    await held.release();
    expect(await end(job.id)).toMatchObject({ state: "completed", planned: 3, changed: 2 });
    expect(await shows(ids[0] ?? "")).toBe(200);
  });

  it("looks at what the filter asks for again under the lock", async () => {
    const { ids, filter } = await labelled(2);
    const [busy = "", running = ""] = ids;
    const changes = service.database.sql.begin(async (tx) => {
      await tx`update sessions set phase = 'busy' where id = ${busy}`;
      const { body } = await begin({ ...filter, phase: "running" });
      await untilStuck(service.database, 1);
      return body.id as string;
    });
    const id = await changes;
    expect(await end(id)).toMatchObject({ state: "completed", planned: 2, changed: 1, unchanged: 1, refused: 0 });
    expect((await service.request("GET", `/jobs/${id}/results`)).body).toEqual([
      { session_id: running, outcome: "changed", reason: null },
      { session_id: busy, outcome: "unchanged", reason: "not_matching" },
    ]);
    expect(await shows(busy)).toBe(200);
  });

  it("heeds a legal hold that is put on while it waits for the session", async () => {
    const { ids, filter } = await labelled(1);
    const [id = ""] = ids;
    const jobId = await service.database.sql.begin(async (tx) => {
      await tx`update sessions set legal_hold = true where id = ${id}`;
      const { body } = await begin(filter, "delete", { hard: true });
      await untilStuck(service.database, 1);
      return body.id as string;
    });
    expect(await end(jobId)).toMatchObject({ state: "completed", changed: 0, refused: 1 });
    expect(await shows(id)).toBe(200);
  });
});

describe("several processes", () => {
  it("do several jobs without doing anything twice", async () => {
    await using replica = await startReplica(service);
    const groups = await Promise.all(Array.from({ length: 4 }, () => labelled(150)));
    const jobs = await Promise.all(
      groups.map(({ filter }) => begin(filter, "update", { update: { labels: { job: "done" }, max_attempts: 9 } })),
    );
    expect(replica.url).not.toBe(service.url);
    for (const [at, { body }] of jobs.entries()) {
      const { ids = [] } = groups[at] ?? {};
      expect(await end(body.id)).toMatchObject({ state: "completed", planned: 150, changed: 150, unchanged: 0 });
      expect((await outcomes(body.id)).toSorted()).toEqual(ids.map((id) => [id, "changed"]).toSorted());
    }
    const twice = await service.database.sql`
      select session_id from events where session_id = any(${groups.flatMap(({ ids }) => ids)}::uuid[])
      group by 1 having count(*) <> 2`;
    expect(twice).toHaveLength(0);
  });

  it("are at a job one at a time: what one that stops was at, another goes on with", async () => {
    const { ids, filter } = await labelled(4);
    await using held = await holdSessions(service.database, [ids[1] ?? ""]);
    const { body: job } = await begin(filter);
    await untilStuck(service.database, 1);
    await using replica = await startReplica(service);
    expect(replica.url).not.toBe("");
    const [before] = await service.database.sql`select holder from bulk_jobs where id = ${job.id}`;
    expect(before?.["holder"]).toMatch(/^[\da-f-]{36}$/);
    await held.release();
    expect(await end(job.id)).toMatchObject({ state: "completed", changed: 4 });
    const [after] = await service.database.sql`select holder from bulk_jobs where id = ${job.id}`;
    expect(after).toEqual(before);
  });
});

describe("/jobs", () => {
  it("lists them newest first, in pages", async () => {
    const started: string[] = [];
    for (let at = 0; at < 5; at++) started.push((await begin({ label: `none:${at}` })).body.id);
    await Promise.all(started.map(end));
    const first = await service.request("GET", "/jobs?limit=2");
    expect(first.body.map((job: { id: string }) => job.id)).toEqual(started.toReversed().slice(0, 2));
    const seen: string[] = [];
    let next: string | undefined = "/jobs?limit=2";
    while (next !== undefined) {
      const page = await service.request("GET", next);
      expect(page.status).toBe(200);
      seen.push(...page.body.map((job: { id: string }) => job.id));
      next = /<([^>]+)>; rel="next"/.exec(page.headers.get("link") ?? "")?.[1];
    }
    expect(seen.slice(0, 5)).toEqual(started.toReversed());
    expect(new Set(seen).size).toBe(seen.length);
  });

  it("shows one with all that is said of it", async () => {
    const { body: job } = await begin({ label: "none" });
    expect(await end(job.id)).toEqual({
      id: job.id,
      action: "delete",
      state: "completed",
      planned: 0,
      changed: 0,
      unchanged: 0,
      refused: 0,
      created_at: expect.stringMatching(/^\d{4}-.*\.\d{6}Z$/),
      started_at: expect.stringMatching(/^\d{4}-.*\.\d{6}Z$/),
      finished_at: expect.stringMatching(/^\d{4}-.*\.\d{6}Z$/),
      cancel_requested: false,
      error: null,
    });
  });

  it("gives the results in pages, in the order in which it was done", async () => {
    const { ids, filter } = await labelled(7);
    const { body: job } = await begin(filter);
    await end(job.id);
    const seen: string[] = [];
    let next: string | undefined = `/jobs/${job.id}/results/?limit=3`;
    let pages = 0;
    while (next !== undefined) {
      const page = await service.request("GET", next);
      seen.push(...page.body.map((one: { session_id: string }) => one.session_id));
      next = /<([^>]+)>; rel="next"/.exec(page.headers.get("link") ?? "")?.[1];
      pages++;
    }
    expect([seen, pages]).toEqual([ids.toReversed(), 3]);
  });

  it.each([
    ["GET", "/jobs/0198c0e2-11f0-7c3a-8a52-6f0d2b7c9e41"],
    ["GET", "/jobs/nonsense"],
    ["GET", "/jobs/0198c0e2-11f0-7c3a-8a52-6f0d2b7c9e41/results"],
    ["GET", "/jobs/nonsense/results"],
    ["POST", "/jobs/0198c0e2-11f0-7c3a-8a52-6f0d2b7c9e41/cancel"],
    ["POST", "/jobs/nonsense/cancel"],
  ])("answers %s %s with 404 job_not_found", async (method, path) => {
    const answer = await service.request(method, path);
    expect([answer.status, answer.body.code]).toEqual([404, "job_not_found"]);
  });

  it("refuses cursors that were altered or are of something else, and limits that are none", async () => {
    const { ids, filter } = await labelled(2);
    expect(ids).toHaveLength(2);
    const { body: job } = await begin(filter);
    await end(job.id);
    const page = await service.request("GET", `/jobs/${job.id}/results?limit=1`);
    const cursor = /cursor=([^&>]+)/.exec(page.headers.get("link") ?? "")?.[1] ?? "";
    const { body: other } = await begin(filter);
    for (const path of [
      `/jobs/${other.id}/results?cursor=${cursor}`,
      `/jobs/${job.id}/results?cursor=${cursor.slice(1)}`,
      `/jobs?cursor=${cursor}`,
      "/jobs?cursor=%00",
    ]) {
      const answer = await service.request("GET", path);
      expect([answer.status, answer.body.code], path).toEqual([400, "invalid_cursor"]);
    }
    for (const path of ["/jobs?limit=0", `/jobs/${job.id}/results?limit=-1`, "/jobs?limit=a"]) {
      const answer = await service.request("GET", path);
      expect([answer.status, answer.body.errors?.[0].parameter], path).toEqual([422, "limit"]);
    }
  });
});
