import { describe, expect, it } from "vitest";
import { coalescing } from "../support/coalescing.ts";
import { agentId, startTestService } from "../support/service.ts";

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);
const countOf = (values: readonly number[], value: number) => values.filter((one) => one === value).length;

describe.each(coalescing)("at once, COALESCE=%s", (coalesce) => {
  it("50 PUTs of one external id make one session, time after time", async () => {
    await using service = await startTestService({ COALESCE: coalesce });
    for (const round of numbers(5)) {
      const externalId = `put-${round}`;
      const answers = await Promise.all(
        numbers(50).map((n) =>
          service.request("PUT", `/sessions/by-external-id/${externalId}`, { agent_id: agentId, context: { n } }),
        ),
      );
      const statuses = answers.map(({ status }) => status);
      expect([countOf(statuses, 201), countOf(statuses, 200)]).toEqual([1, 49]);
      expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
      const events = await service.database.sql<{ event_type: string }[]>`
        select event_type from events join sessions s on s.id = session_id where external_id = ${externalId} order by sequence`;
      expect(events.map((event) => event.event_type)).toEqual([
        "session.created",
        ...Array(events.length - 1).fill("session.updated"),
      ]);
      const made = await service.database.sql`select 1 from sessions where external_id = ${externalId}`;
      expect(made).toHaveLength(1);
    }
  });

  it("50 POSTs of one external id make one session, and their neighbours are created all the same", async () => {
    await using service = await startTestService({ COALESCE: coalesce });
    for (const round of numbers(2)) {
      const answers = await Promise.all(
        numbers(100).map((n) =>
          service.request("POST", "/sessions/", {
            agent_id: agentId,
            external_id: n % 2 === 0 ? `post-${round}` : `neighbour-${round}-${n}`,
          }),
        ),
      );
      const racers = answers.filter((_, n) => n % 2 === 0);
      const winner = racers.find(({ status }) => status === 201);
      expect(racers.filter(({ status }) => status === 201)).toHaveLength(1);
      for (const loser of racers.filter((one) => one !== winner)) {
        expect(loser).toMatchObject({ status: 409, body: { code: "external_id_taken", session_id: winner?.body.id } });
      }
      expect(new Set(answers.filter((_, n) => n % 2 === 1).map(({ status }) => status))).toEqual(new Set([201]));
    }
    const [row] = await service.database.sql`
      select count(*)::int as sessions, (select count(*)::int from events) as events from sessions`;
    expect(row).toMatchObject({ sessions: 102, events: 102 });
  });

  it("50 POSTs with keys of their own and PUTs beside them make one session", async () => {
    await using service = await startTestService({ COALESCE: coalesce });
    const answers = await Promise.all(
      numbers(50).map((n) =>
        n % 2 === 0
          ? service.request(
              "POST",
              "/sessions/",
              { agent_id: agentId, external_id: "both" },
              { "idempotency-key": `k${n}` },
            )
          : service.request("PUT", "/sessions/by-external-id/both", { agent_id: agentId }),
      ),
    );
    expect(
      countOf(
        answers.map(({ status }) => status),
        201,
      ),
    ).toBe(1);
    expect(
      new Set(answers.map(({ status }, n) => (n % 2 === 0 && status !== 201 ? status === 409 : status <= 201))),
    ).toEqual(new Set([true]));
  });

  it("50 sessions that want one external id: one gets it, and changes beside theirs are made all the same", async () => {
    await using service = await startTestService({ COALESCE: coalesce });
    const ids = await Promise.all(numbers(100).map(() => service.create()));
    for (const round of numbers(2)) {
      const answers = await Promise.all(
        ids.map((id, n) =>
          service.request("PATCH", `/sessions/${id}`, {
            external_id: n % 2 === 0 ? `wanted-${round}` : `own-${round}-${n}`,
          }),
        ),
      );
      const wanting = answers.filter((_, n) => n % 2 === 0);
      const winner = wanting.find(({ status }) => status === 200);
      const losers = wanting.filter((one) => one !== winner);
      expect(losers).toHaveLength(49);
      for (const loser of losers) {
        expect(loser).toMatchObject({ status: 409, body: { code: "external_id_taken", session_id: winner?.body.id } });
      }
      expect(new Set(answers.filter((_, n) => n % 2 === 1).map(({ status }) => status))).toEqual(new Set([200]));
    }
  });

  it("PUTs while the session is deleted and renamed: never an error, never two, and none reaches one that is not meant", async () => {
    await using service = await startTestService({ COALESCE: coalesce });
    const path = "/sessions/by-external-id/moving";
    // All wait for one row, one after the other: on a slow machine more of them would wait too long.
    const puts = numbers(24).map(async (n) => {
      const { status, body } = await service.request("PUT", path, { agent_id: agentId, name: `n${n}` });
      expect([200, 201]).toContain(status);
      expect([body.external_id, body.name]).toEqual(["moving", `n${n}`]);
      const [answer, good] =
        n % 3 === 0
          ? [await service.request("DELETE", path), [204, 404]]
          : [await service.request("PATCH", `/sessions/${body.id}`, { external_id: `moved-${n}` }), [200, 404]];
      expect(good).toContain(answer.status);
    });
    await Promise.all(puts);
    const created = await service.database.sql`
      select session_id from events where event_type = 'session.created' group by session_id having count(*) <> 1`;
    expect(created).toHaveLength(0);
    const live = await service.database.sql`select 1 from sessions where external_id = 'moving' and deleted_at is null`;
    expect(live.length).toBeLessThanOrEqual(1);
  });
});
