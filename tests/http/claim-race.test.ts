/** Many workers, many sessions, two services: each session goes to one worker, once. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { historyViolations } from "../checker/history.ts";
import { readHistory } from "../checker/read.ts";
import { type Replica, startReplica } from "../support/replica.ts";
import { type Answer, agentId, send, startTestService, type TestService } from "../support/service.ts";

let service: TestService;
let replica: Replica;
beforeAll(async () => {
  service = await startTestService();
  replica = await startReplica(service, { RELAY: "off" });
});
afterAll(async () => {
  await replica.stop();
  await service.stop();
});

interface Claimed {
  readonly id: string;
  readonly worker: string;
  readonly created_at: string;
}

/** A worker that claims until there is nothing left. */
async function work(worker: number, fields: object, headers: () => Record<string, string>): Promise<Claimed[]> {
  const name = `worker-${worker}`;
  const url = worker % 2 === 0 ? service.url : replica.url;
  const claimed: Claimed[] = [];
  for (;;) {
    const answer: Answer = await send(`${url}/sessions/claim`, "POST", { worker_id: name, ...fields }, headers());
    if (answer.status === 204) return claimed;
    expect(answer.status, answer.text).toBe(200);
    expect(answer.body.lease_owner).toBe(name);
    claimed.push({ id: answer.body.id, worker: name, created_at: answer.body.created_at });
  }
}

async function createMany(count: number, fields: object = {}): Promise<string[]> {
  const ids: string[] = [];
  for (let at = 0; at < count; at += 50) {
    ids.push(...(await Promise.all(Array.from({ length: 50 }, () => service.create({ phase: "pending", ...fields })))));
  }
  return ids;
}

describe("1,000 sessions, 20 workers, 2 services", () => {
  it("none is given twice, none is forgotten, and each worker gets the older ones first", async () => {
    const ids = await createMany(1_000);
    const workers = await Promise.all(Array.from({ length: 20 }, (_, worker) => work(worker, {}, () => ({}))));
    const claimed = workers.flat();
    expect(claimed).toHaveLength(1_000);
    expect(new Set(claimed.map(({ id }) => id))).toEqual(new Set(ids));
    for (const its of workers) {
      const order = its.map(({ created_at: at }) => at);
      expect(order).toEqual([...order].sort());
    }
    const [told] = await service.database.sql<{ events: number; owners: number }[]>`
      select count(*)::int as events, count(distinct session_id)::int as owners
      from events where event_type = 'session.updated' and payload ->> 'from' = 'pending'`;
    expect(told).toEqual({ events: 1_000, owners: 1_000 });
    const owners = new Map(claimed.map(({ id, worker }) => [id, worker]));
    const rows = await service.database.sql<{ id: string; lease_owner: string; lease_token: string }[]>`
      select id, lease_owner, lease_token from sessions where claimable_at is null and phase = 'running'`;
    for (const row of rows) expect([row.lease_owner, row.lease_token]).toEqual([owners.get(row.id), "1"]);
    expect(rows).toHaveLength(1_000);
  }, 120_000);

  it("nor when they are created, changed and set aside meanwhile, with and without keys, and whatever the filter", async () => {
    await service.database.sql`update sessions set claimable_at = null`;
    let isOver = false;
    const given: string[] = [];
    let keys = 0;
    const workers = Array.from({ length: 12 }, async (_, worker) => {
      const url = worker % 2 === 0 ? service.url : replica.url;
      const filter = worker % 3 === 0 ? {} : worker % 3 === 1 ? { agent_id: agentId } : { labels: { team: "a" } };
      while (!isOver) {
        const headers: Record<string, string> = worker % 4 === 0 ? { "idempotency-key": `race-${++keys}` } : {};
        const body = { worker_id: `w-${worker}`, filter, wait_seconds: 0.2 };
        const answer = await send(`${url}/sessions/claim`, "POST", body, headers);
        expect([200, 204], answer.text).toContain(answer.status);
        if (answer.status === 200) given.push(`${answer.body.id}/${answer.body.lease_token}`);
      }
    });
    const ids: string[] = [];
    for (let round = 0; round < 20; round++) {
      const made = await Promise.all(
        Array.from({ length: 10 }, () => service.create({ phase: "pending", labels: { team: "a" } })),
      );
      ids.push(...made);
      await Promise.all(made.map((id) => service.request("PATCH", `/sessions/${id}`, { checkpoint: { round } })));
      if (round % 5 === 4) await service.request("POST", `/workers/w-${round % 12}/pause-all`);
    }
    for (;;) {
      const [left] = await service.database.sql<{ count: number }[]>`
        select count(*)::int as count from sessions where claimable_at is not null`;
      if (left?.count === 0) break;
    }
    isOver = true;
    await Promise.all(workers);
    // A token is given once, and to whoever was given a session: all that there were.
    expect(new Set(given).size).toBe(given.length);
    const rows = await service.database.sql<{ id: string; lease_token: number }[]>`
      select id, lease_token::int from sessions where id = any(${ids})`;
    const all = rows.flatMap(({ id, lease_token: last }) => Array.from({ length: last }, (_, at) => `${id}/${at + 1}`));
    expect(rows.every(({ lease_token: last }) => last > 0)).toBe(true);
    expect(new Set(given)).toEqual(new Set(all));
  }, 120_000);
});

describe("the history of all that", () => {
  it("has no gap and no contradiction, for any of the sessions", async () => {
    expect(historyViolations(await readHistory(service.database.url))).toEqual([]);
  });
});

describe("50 takes of one lease", () => {
  it("have one winner, and the others are told who it is", async () => {
    for (let round = 0; round < 5; round++) {
      const id = await service.create();
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, at) =>
          send(`${at % 2 === 0 ? service.url : replica.url}/sessions/${id}/lease`, "POST", { worker_id: `w-${at}` }),
        ),
      );
      const winners = answers.filter(({ status }) => status === 200);
      expect(winners).toHaveLength(1);
      expect(winners[0]?.body).toMatchObject({ lease_token: 1, version: 2 });
      for (const { status, body } of answers) {
        if (status !== 200)
          expect(body).toMatchObject({ code: "lease_held", lease_owner: winners[0]?.body.lease_owner });
      }
    }
  });
});

describe("a renewal against somebody who takes over", () => {
  it("one of them has the lease afterwards, and the other is told", async () => {
    for (let round = 0; round < 100; round++) {
      const id = await service.create();
      const held = await service.request("POST", `/sessions/${id}/lease`, { worker_id: "old", lease_seconds: 30 });
      const renew = () =>
        send(`${replica.url}/sessions/${id}/heartbeat`, "POST", { lease_token: held.body.lease_token });
      // A worker of that name, started again: it has lost the token.
      const take = () => send(`${service.url}/sessions/${id}/lease`, "POST", { worker_id: "old" });
      const [renewed, taken] =
        round % 2 === 0
          ? await Promise.all([renew(), take()])
          : ((await Promise.all([take(), renew()])).reverse() as [Answer, Answer]);
      expect(taken.body).toMatchObject({ lease_owner: "old", lease_token: 2 });
      if (renewed.status !== 200) expect(renewed.body.code).toBe("lease_lost");
      const late = await send(`${replica.url}/sessions/${id}/heartbeat`, "POST", { lease_token: 1 });
      expect(late.body.code).toBe("lease_lost");
    }
  });
});
