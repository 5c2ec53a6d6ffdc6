/** Requests that wait at the same time share a statement and its commit; what becomes of one is nothing to the others. */

import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { Coalescer } from "../../src/sessions/coalesce.ts";
import { holdLock, untilStuck } from "../support/held-lock.ts";
import { type Answer, agentId, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

/** How many statements of a kind are under way at a time. */
const underWay = 3;

describe.each(["on", "off"])("requests that wait at the same time, with COALESCE=%s", (coalesce) => {
  const coalesced = coalesce === "on";
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ COALESCE: coalesce });
  });
  afterAll(() => service.stop());

  /** Each is a change, or a session, or an event of its own, and says in which transaction it was made. */
  const kinds: Readonly<Record<string, (id: string) => Promise<Answer>>> = {
    create: () => service.request("POST", "/sessions/", { agent_id: agentId }),
    patch: (id) => service.request("PATCH", `/sessions/${id}`, { checkpoint: { step: 1 } }),
    heartbeat: (id) => service.request("POST", `/sessions/${id}/heartbeat`),
    event: (id) => service.request("POST", `/sessions/${id}/events`, { event_type: "step" }),
  };

  it.each(Object.keys(kinds))("%s: share commits when it is on, have each their own when it is off", async (kind) => {
    const ids = await Promise.all(numbers(50).map(() => service.create()));
    const answers = await whileStuck(
      { service, coalesced },
      ids.map((id) => () => (kinds[kind] as (id: string) => Promise<Answer>)(id)),
    );
    expect(new Set(answers.map(({ status }) => status)).size, answers[0]?.text).toBe(1);
    const done = kind === "create" ? answers.map(({ body }) => body.id) : ids;
    const [row] = await service.database.sql<{ commits: number }[]>`
      select count(distinct xmin::text)::int as commits from sessions where id = any(${done})`;
    // The first three left at once, alone; the others in as few as can be.
    if (coalesced) expect(row?.commits).toBeLessThanOrEqual(underWay + 2);
    else expect(row?.commits).toBe(ids.length);
  });

  it("the event of each has the commit of its session, and the request that it came with", async () => {
    const answers = await whileStuck(
      { service, coalesced },
      numbers(20).map(
        (n) => () => service.request("POST", "/sessions/", { agent_id: agentId }, { "x-request-id": `e${n}` }),
      ),
    );
    const rows = await service.database.sql`
      select e.metadata ->> 'request_id' as request, s.xmin::text = e.xmin::text as together
      from sessions s join events e on e.session_id = s.id where s.id = any(${answers.map(({ body }) => body.id)})
      order by array_position(${answers.map(({ body }) => body.id)}::uuid[], s.id)`;
    expect([...rows]).toEqual(numbers(20).map((n) => ({ request: `e${n}`, together: true })));
  });

  it("a row that the database refuses fails alone: a create, a change, an event", async () => {
    await service.database.sql`
      alter table sessions add constraint no_bad check (not context ? 'bad') not valid`;
    await service.database.sql`
      alter table events add constraint no_bad check (not payload ? 'bad') not valid`;
    const ids = await Promise.all(numbers(16).map(() => service.create()));
    for (let round = 0; round < 10; round++) {
      const bad = new Set([4 + (round % 12), 4 + ((round * 5) % 12)]);
      const marked = (n: number) => ({ round, ...(bad.has(n) ? { bad: true } : {}) });
      for (const kind of [
        (n: number) => service.request("POST", "/sessions/", { agent_id: agentId, context: marked(n) }),
        (n: number) => service.request("PATCH", `/sessions/${ids[n]}`, { context: marked(n) }),
        (n: number) =>
          service.request("POST", `/sessions/${ids[n]}/events`, { event_type: "step", payload: marked(n) }),
      ]) {
        const answers = await whileStuck(
          { service, coalesced },
          numbers(16).map((n) => () => kind(n)),
        );
        expect(answers.map(({ status }) => status >= 500)).toEqual(numbers(16).map((n) => bad.has(n)));
      }
    }
    for (const [n, id] of ids.entries()) {
      const { context, version } = (await service.request("GET", `/sessions/${id}`)).body;
      expect(context).not.toHaveProperty("bad");
      const refused = numbers(10).filter((round) => [4 + (round % 12), 4 + ((round * 5) % 12)].includes(n));
      expect(version).toBe(1 + 10 - refused.length);
    }
  });

  it("a stale version, a lost lease, an illegal move, a session that is not there: each is told so, and no other", async () => {
    for (let round = 0; round < 10; round++) {
      const [first = "", ...others] = await Promise.all(numbers(10).map(() => service.create()));
      const [, , , stale, lost, illegal, same] = [first, ...others];
      await service.request("POST", `/sessions/${illegal}/complete`);
      const patch = (id: string | undefined, headers?: Record<string, string>) => () =>
        service.request("PATCH", `/sessions/${id}`, { status: "paused" }, headers);
      const answers = await whileStuck({ service, coalesced }, [
        ...[first, ...others].slice(0, 3).map((id) => patch(id, { "if-match": '"1"' })),
        patch(stale, { "if-match": '"7"' }),
        patch(lost, { "lease-token": "9" }),
        patch(illegal),
        () => service.request("PATCH", `/sessions/${same}`, { status: "active" }),
        patch(randomUUID()),
        ...others.slice(6).map((id) => patch(id)),
      ]);
      expect(answers.map(({ status, body }) => [status, body.code ?? body.version])).toEqual([
        ...numbers(3).map(() => [200, 2]),
        [412, "precondition_failed"],
        [409, "lease_lost"],
        [409, "invalid_transition"],
        [200, 1],
        [404, "session_not_found"],
        ...numbers(3).map(() => [200, 2]),
      ]);
    }
  });

  it("a heartbeat with an old token, of a session that is over or not there: each is told so, and no other", async () => {
    const ids = await Promise.all(numbers(8).map(() => service.create()));
    await service.request("POST", `/sessions/${ids[4]}/complete`);
    const beat = (id: string | undefined, headers?: Record<string, string>) => () =>
      service.request("POST", `/sessions/${id}/heartbeat`, undefined, headers);
    const answers = await whileStuck({ service, coalesced }, [
      ...ids.slice(0, 3).map((id) => beat(id)),
      beat(ids[3], { "lease-token": "9" }),
      beat(ids[4]),
      beat(randomUUID()),
      ...ids.slice(5).map((id) => beat(id)),
    ]);
    expect(answers.map(({ status, body }) => body.code ?? status)).toEqual([
      ...[200, 200, 200, "lease_lost", "session_not_live", "session_not_found", 200, 200, 200],
    ]);
  });

  it("each reader gets its own session, or is told that there is none", async () => {
    const ids = await Promise.all(numbers(20).map((n) => service.create({ context: { n } })));
    const unknown = randomUUID();
    const asked = numbers(60).map((n) => (n % 7 === 5 ? unknown : (ids[n % 20] ?? "")));
    const answers = await whileStuck(
      { service, coalesced, mode: "access exclusive" },
      asked.map((id) => () => service.request("GET", `/sessions/${id}`)),
    );
    expect(answers.map(({ body }) => body.context?.n)).toEqual(
      asked.map((id, n) => (id === unknown ? undefined : n % 20)),
    );
  });
});

afterEach(() => vi.restoreAllMocks());

/**
 * Sends requests while the table is locked: the first of them are stuck, and the others wait together; gives the answers
 * when all is over.
 */
async function whileStuck(
  { service, coalesced, mode = "share" }: Stage,
  requests: readonly (() => Promise<Answer>)[],
): Promise<Answer[]> {
  const added = vi.spyOn(Coalescer.prototype, "add");
  await using lock = await holdLock(service.database, `lock table sessions in ${mode} mode`);
  const first: Promise<Answer>[] = [];
  // One by one: those that come together would leave together.
  for (const request of requests.slice(0, underWay)) {
    first.push(request());
    await untilStuck(service.database, first.length);
  }
  const others = requests.slice(underWay).map((request) => request());
  // Else they wait for a connection each, and nobody counts them.
  if (coalesced) await until(() => added.mock.calls.length >= requests.length, "all requests");
  added.mockRestore();
  await lock.release();
  return Promise.all([...first, ...others]);
}

interface Stage {
  readonly service: TestService;
  readonly coalesced: boolean;
  readonly mode?: "share" | "access exclusive";
}
