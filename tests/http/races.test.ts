/** Two writers never undo each other: raced, many times. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, type Subscription, startTestService, subscribe, type TestService } from "../support/service.ts";

describe("writers at the same time", () => {
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
  const patch = (id: string, body: unknown, headers?: Record<string, string>) =>
    service.request("PATCH", `/sessions/${id}`, body, headers);

  it("of 50 with the same If-Match one wins, the others are told", async () => {
    for (let round = 0; round < 5; round++) {
      const id = await service.create();
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, writer) => patch(id, { context: { writer } }, { "if-match": '"1"' })),
      );
      const winners = answers.filter((answer) => answer.status === 200);
      expect(winners).toHaveLength(1);
      expect(answers.filter((answer) => answer.status === 412)).toHaveLength(49);
      expect((await service.request("GET", `/sessions/${id}`)).text).toBe(winners[0]?.text);
    }
  });

  it("50 that change different fields all succeed: versions and sequences without a gap, in the order of time", async () => {
    const id = await service.create();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => patch(id, n % 2 === 0 ? { context: { n } } : { checkpoint: { n } })),
    );
    expect(answers.every((answer) => answer.status === 200)).toBe(true);
    const versions = answers.map((answer) => answer.body.version).sort((a, b) => a - b);
    expect(versions).toEqual(Array.from({ length: 50 }, (_, n) => n + 2));
    const byVersion = [...answers]
      .sort((a, b) => a.body.version - b.body.version)
      .map((answer) => answer.body.updated_at);
    expect(byVersion).toEqual([...byVersion].sort());
    const seen = await events.ofSession(id, 51);
    expect(seen.map((event) => event.sequence)).toEqual(Array.from({ length: 51 }, (_, n) => n + 1));
    expect(seen.map((event) => event.session_version)).toEqual(Array.from({ length: 51 }, (_, n) => n + 1));
  });

  it("of 50 that complete or crash a session, the legal ones win, one event each", async () => {
    for (let round = 0; round < 5; round++) {
      const id = await service.create();
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, n) => patch(id, { status: n % 2 === 0 ? "completed" : "crashed" })),
      );
      const [{ transitions } = { transitions: 0 }] = await service.database.sql<{ transitions: number }[]>`
        select count(*)::int as transitions from events where session_id = ${id} and payload ? 'to'`;
      const session = (await service.request("GET", `/sessions/${id}`)).body;
      // crashed → completed is legal (an operator closes it), completed → crashed is not.
      expect(session.status).toBe("completed");
      expect(session.version).toBe(1 + transitions);
      expect(transitions).toBeLessThanOrEqual(2);
      expect(new Set(answers.map((answer) => answer.status))).not.toContain(500);
      for (const answer of answers) {
        expect([200, 409]).toContain(answer.status);
        if (answer.status === 409) expect(answer.body).toMatchObject({ from: "completed", to: "crashed" });
      }
    }
  });

  it("sessions that somebody has locked hold up no others, and are changed when they are free", async () => {
    const locked = await Promise.all(Array.from({ length: 5 }, () => service.create()));
    const free = await service.create();
    let waiting: Promise<Answer[]> | undefined;
    await service.database.sql.begin(async (tx) => {
      await tx`select 1 from sessions where id = any(${locked}) for update`;
      waiting = Promise.all(locked.map((id) => patch(id, { status: "paused" })));
      for (let step = 0; step < 5; step++) {
        const began = performance.now();
        const mates = [
          patch(free, { checkpoint: { step } }),
          service.create(),
          service.request("GET", `/sessions/${locked[0]}`),
        ];
        await Promise.all(mates);
        expect(performance.now() - began).toBeLessThan(1_000);
      }
    });
    for (const answer of (await waiting) ?? []) expect(answer).toMatchObject({ status: 200, body: { version: 2 } });
    expect((await service.request("GET", `/sessions/${free}`)).body.version).toBe(6);
  });
});
