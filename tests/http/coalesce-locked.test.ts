/** A row that somebody else has locked holds up nobody but those who change that row. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { holdSessions, untilStuck } from "../support/held-lock.ts";
import { type Answer, agentId, startTestService, type TestService } from "../support/service.ts";

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

describe.each(["on", "off"])("beside sessions that a foreign transaction has locked, with COALESCE=%s", (coalesce) => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ COALESCE: coalesce });
    // All connections are open and each statement is prepared: those that wait have 2.4 s, and a cold start takes its share.
    const ids = await Promise.all(numbers(12).map(() => service.create()));
    await Promise.all(Object.values(others).flatMap((send) => ids.map((id, n) => send(id, n))));
  });
  afterAll(() => service.stop());

  type Send = (id: string, n: number) => Promise<Answer>;
  const writes: Readonly<Record<string, Send>> = {
    patch: (id, n) => service.request("PATCH", `/sessions/${id}`, { checkpoint: { n } }),
    "patch of status": (id, n) =>
      service.request("PATCH", `/sessions/${id}`, { status: n % 2 === 0 ? "paused" : "active" }),
    heartbeat: (id) => service.request("POST", `/sessions/${id}/heartbeat`),
    event: (id, n) => service.request("POST", `/sessions/${id}/events`, { event_type: "step", payload: { n } }),
  };
  const others: Readonly<Record<string, Send>> = {
    ...writes,
    create: () => service.request("POST", "/sessions/", { agent_id: agentId }),
    get: (id) => service.request("GET", `/sessions/${id}`),
  };

  it.each(Object.keys(writes))("%s: waits for its own, while all others are answered", async (kind) => {
    const write = writes[kind] as Send;
    const locked = await Promise.all(numbers(5).map(() => service.create()));
    const free = await Promise.all(numbers(6).map(() => service.create()));
    const isAnswered = new Set<number>();
    await using lock = await holdSessions(service.database, locked);
    // In one breath, so that they share batches.
    const mates = free.map((id) => write(id, 0));
    const waiting = locked.map(async (id, n) => {
      const answer = await write(id, 0);
      isAnswered.add(n);
      return answer;
    });
    for (const answer of await Promise.all(mates)) expect(answer.status).toBeLessThan(300);
    await untilStuck(service.database, 3);
    const answers = await Promise.all(Object.values(others).flatMap((send) => free.map((id, at) => send(id, 1 + at))));
    for (const answer of answers) expect(answer.status, answer.text).toBeLessThan(300);
    const read = await service.request("GET", `/sessions/${locked[0]}`);
    expect(read.body.version).toBe(1);
    expect(isAnswered.size).toBe(0);
    await lock.release();
    for (const answer of await Promise.all(waiting)) expect(answer.status).toBeLessThan(300);
  });

  it("each of them is changed as soon as its row is free, whichever is still locked", async () => {
    const ids = await Promise.all(numbers(3).map(() => service.create()));
    const [first = "", second = "", third = ""] = ids;
    await using still = await holdSessions(service.database, [first, second]);
    const waiting = ids.map((id) => service.request("PATCH", `/sessions/${id}`, { status: "paused" }));
    expect(await waiting[2]).toMatchObject({ status: 200, body: { id: third, version: 2 } });
    await still.release();
    for (const answer of await Promise.all(waiting))
      expect(answer).toMatchObject({ status: 200, body: { version: 2 } });
  });
});

describe("more locked sessions than there are connections", () => {
  it("hold up no other session, nor one that is not there, however many wait", async () => {
    await using service = await startTestService({ COALESCE: "on" });
    const locked = await Promise.all(numbers(20).map(() => service.create()));
    const free = await service.create();
    await using lock = await holdSessions(service.database, locked);
    const waiting = locked.flatMap((id) => [
      service.request("PATCH", `/sessions/${id}`, { checkpoint: { late: true } }),
      service.request("POST", `/sessions/${id}/heartbeat`),
    ]);
    await untilStuck(service.database, 6);
    const began = performance.now();
    for (const step of numbers(5)) {
      const unknown = await service.request("PATCH", `/sessions/${randomUUID()}`, { checkpoint: { step } });
      expect(unknown.status).toBe(404);
      const answers = await Promise.all([
        service.request("PATCH", `/sessions/${free}`, { checkpoint: { step } }),
        service.request("POST", `/sessions/${free}/heartbeat`),
        service.request("POST", `/sessions/${free}/events`, { event_type: "step" }),
        service.request("GET", `/sessions/${free}`),
        service.request("POST", "/sessions/", { agent_id: agentId }),
      ]);
      for (const answer of answers) expect(answer.status, answer.text).toBeLessThan(300);
    }
    expect(performance.now() - began).toBeLessThan(1_500);
    await lock.release();
    for (const answer of await Promise.all(waiting)) expect(answer.status, answer.text).toBe(200);
  });
});
