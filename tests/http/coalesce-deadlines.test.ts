/** Each caller is told in its own time, and what it is told is so. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { holdLock, holdSessions, untilStuck } from "../support/held-lock.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

/** Every client of a database that does not answer knows it by then. */
const latestMs = 3_000;

describe("while the database does not answer", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ COALESCE: "on" });
  });
  afterAll(() => service.stop());

  const patch = async (id: string) => {
    const began = performance.now();
    const request = randomUUID();
    const body = { context: { request } };
    const answer = await service.request("PATCH", `/sessions/${id}`, body, { "x-request-id": request });
    return { id, request, answer, ms: performance.now() - began };
  };
  const isDone = async (request: string) =>
    (await service.database.sql`select from events where metadata ->> 'request_id' = ${request}`).length > 0;
  const untilQuiet = () =>
    until(async () => {
      const [row] = await service.database.sql<{ busy: number }[]>`
        select count(*)::int as busy from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`;
      return row?.busy === 0;
    }, "nothing to wait for a lock");

  it("503 to each within 3 s of its own request, whenever that came", { timeout: 20_000 }, async () => {
    const ids = await Promise.all(numbers(12).map(() => service.create()));
    await using lock = await holdLock(service.database, "lock table sessions in share mode");
    const answers = [];
    // The first three are under way, the others wait behind them, and come later and later.
    for (const id of ids) {
      answers.push(patch(id));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    for (const { answer, ms } of await Promise.all(answers)) {
      expect(answer).toMatchObject({ status: 503, body: { code: "database_unavailable" } });
      expect(ms).toBeLessThan(latestMs);
      expect(ms).toBeGreaterThan(1_000);
    }
    await lock.release();
    await untilQuiet();
    expect((await patch(ids[0] ?? "")).answer.status).toBe(200);
  });

  it("who is told nothing of a doubt has changed nothing, when all is over", { timeout: 20_000 }, async () => {
    const id = await service.create();
    await using lock = await holdSessions(service.database, [id]);
    const waiting = numbers(8).map(() => patch(id));
    await untilStuck(service.database, 1);
    const told = await Promise.all(waiting);
    for (const { answer, ms } of told) {
      expect(answer.status).toBe(503);
      expect(ms).toBeLessThan(latestMs);
    }
    await lock.release();
    await untilQuiet();
    // Whatever of them is to come has come before it: it is a change of the same session.
    const last = await patch(id);
    expect(last.answer.status).toBe(200);
    const certain = told.filter(({ answer }) => !/may or may not/.test(answer.body.detail));
    expect(certain.length).toBeGreaterThanOrEqual(5);
    for (const { request } of certain) expect(await isDone(request)).toBe(false);
    expect(last.answer.body.version).toBeLessThanOrEqual(2 + told.length - certain.length);
  });
});
