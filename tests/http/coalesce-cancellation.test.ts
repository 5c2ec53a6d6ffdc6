/** What was not begun when its client left is not done; what was begun goes on. */

import { randomUUID } from "node:crypto";
import { Agent, request } from "undici";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { Coalescer } from "../../src/sessions/coalesce.ts";
import { type HeldLock, holdLock, holdSessions, untilStuck } from "../support/held-lock.ts";
import { agentId, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

/** How many statements of a kind are under way at a time. */
const underWay = 3;

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ COALESCE: "on" });
});
afterAll(() => service.stop());
afterEach(() => vi.restoreAllMocks());

interface Sent {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
}

interface Leaver {
  /** Cuts the connection, and waits until the service has seen it. */
  leave(): Promise<void>;
  /** What became of it in the service. */
  readonly end: Promise<unknown>;
}

/** Sends a request on a connection of its own, and waits until it waits for a statement. */
async function send({ method, path, body }: Sent): Promise<Leaver> {
  const added = vi.spyOn(Coalescer.prototype, "add");
  const client = new Agent();
  const answer = request(`${service.url}${path}`, {
    method: method as "POST",
    dispatcher: client,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  const lost = expect(answer).rejects.toThrow();
  await until(() => added.mock.calls.length > 0, "the request");
  const [[asked] = []] = added.mock.calls as unknown as [[{ context: { connection: { destroyed: boolean } } }]];
  const end = added.mock.results[0]?.value as Promise<unknown>;
  end.catch(() => {});
  added.mockRestore();
  return {
    end,
    async leave() {
      await client.destroy();
      await lost;
      await until(() => asked?.context.connection.destroyed === true, "the service to see it");
    },
  };
}

const kinds: Readonly<Record<string, (id: string, mark: string) => Sent>> = {
  create: (_, mark) => ({ method: "POST", path: "/sessions/", body: { agent_id: agentId, context: { mark } } }),
  patch: (id, mark) => ({ method: "PATCH", path: `/sessions/${id}`, body: { context: { mark } } }),
  "patch of status": (id) => ({ method: "PATCH", path: `/sessions/${id}`, body: { status: "completed" } }),
  complete: (id) => ({ method: "POST", path: `/sessions/${id}/complete` }),
  heartbeat: (id) => ({ method: "POST", path: `/sessions/${id}/heartbeat` }),
  event: (id, mark) => ({
    method: "POST",
    path: `/sessions/${id}/events`,
    body: { event_type: "step", payload: { mark } },
  }),
};

/** All that there is of a session, and of what bears the mark. */
async function known(id: string, mark: string): Promise<unknown> {
  const { sql } = service.database;
  return [
    await sql`select to_jsonb(s) as all from sessions s where id = ${id}`,
    await sql`select count(*) from sessions where context ->> 'mark' = ${mark}`,
    await sql`select count(*) from events where session_id = ${id}`,
  ].map((rows) => [...rows]);
}

/** Others of the kind, that keep all statements of it stuck until the lock is released. */
async function stuck(kind: string, lock: string): Promise<{ held: HeldLock; others: Promise<unknown> }> {
  const ids = await Promise.all(numbers(underWay).map(() => service.create()));
  const held = await holdLock(service.database, lock);
  const answers: Promise<void>[] = [];
  // One by one: those that come together would leave together.
  for (const id of ids) {
    const { method, path, body } = (kinds[kind] ?? reading)(id, "other");
    answers.push(
      service.request(method, path, body).then(({ status, text }) => expect(status, text).toBeLessThan(300)),
    );
    await untilStuck(service.database, answers.length);
  }
  return { held, others: Promise.all(answers) };
}
const reading = (id: string): Sent => ({ method: "GET", path: `/sessions/${id}` });

/** One more of the kind is answered: whatever was to be sent before it has been sent. */
async function oneMore(kind: string): Promise<void> {
  const { method, path, body } = (kinds[kind] ?? reading)(await service.create(), "after");
  expect((await service.request(method, path, body)).status).toBeLessThan(300);
}

describe("a client that leaves while all statements are under way", () => {
  it.each(Object.keys(kinds))("%s: has changed nothing", async (kind) => {
    const [id, mark] = [await service.create(), randomUUID()];
    const before = await known(id, mark);
    const { held, others } = await stuck(kind, "lock table sessions in share mode");
    const sent = (kinds[kind] as (typeof kinds)[string])(id, mark);
    await (await send(sent)).leave();
    await held.release();
    await others;
    await oneMore(kind);
    expect(await known(id, mark)).toEqual(before);
  });

  it.each(Object.keys(kinds))("%s: is obeyed if it stays", async (kind) => {
    const [id, mark] = [await service.create(), randomUUID()];
    const before = await known(id, mark);
    const { held, others } = await stuck(kind, "lock table sessions in share mode");
    const { method, path, body } = (kinds[kind] as (typeof kinds)[string])(id, mark);
    const answer = service.request(method, path, body);
    await held.release();
    expect((await answer).status).toBeLessThan(300);
    await others;
    expect(await known(id, mark)).not.toEqual(before);
  });

  it("get: asks the database nothing", async () => {
    const id = await service.create();
    const { held, others } = await stuck("get", "lock table sessions in access exclusive mode");
    const leaver = await send(reading(id));
    await leaver.leave();
    await held.release();
    await others;
    await expect(leaver.end).rejects.toMatchObject({ code: "request_timeout" });
  });

  it("is counted as one that left, not as an error of the service", async () => {
    const counted = async () => {
      const { text } = await service.request("GET", "/metrics");
      const lines = text.split("\n").filter((line) => /_count\{.*method="PATCH".*status="(499|5..)"/.test(line));
      return lines.map((line) => [/status="(\d+)"/.exec(line)?.[1], Number(line.split(" ").at(-1))]);
    };
    const before = await counted();
    const { held, others } = await stuck("patch", "lock table sessions in share mode");
    const leaver = await send({ method: "PATCH", path: `/sessions/${randomUUID()}`, body: { status: "paused" } });
    await leaver.leave();
    await held.release();
    await others;
    await expect(leaver.end).rejects.toMatchObject({ status: 408 });
    expect(await counted()).toEqual([["499", ((before.flat()[1] ?? 0) as number) + 1]]);
  });
});

describe("a client that leaves while its statement is under way", () => {
  it("has changed what it asked for: nobody can call it back", async () => {
    const id = await service.create();
    await using lock = await holdSessions(service.database, [id]);
    const sent = await send({ method: "PATCH", path: `/sessions/${id}`, body: { context: { late: true } } });
    await untilStuck(service.database, 1);
    await sent.leave();
    await lock.release();
    await until(async () => (await service.request("GET", `/sessions/${id}`)).body.version === 2, "the change");
  });
});

describe("clients that leave while a row is locked", () => {
  it("have changed nothing, those before and after them have, in their order", async () => {
    const id = await service.create();
    await using lock = await holdSessions(service.database, [id]);
    const patch = (n: number): Sent => ({ method: "PATCH", path: `/sessions/${id}`, body: { context: { n } } });
    const stay = async (n: number) => {
      const added = vi.spyOn(Coalescer.prototype, "add");
      const answer = service.request("PATCH", `/sessions/${id}`, patch(n).body);
      await until(() => added.mock.calls.length > 0, "the request");
      added.mockRestore();
      return { answer };
    };
    const first = await stay(1);
    await untilStuck(service.database, 1);
    const second = await send(patch(2));
    const third = await send(patch(3));
    const fourth = await stay(4);
    await Promise.all([second.leave(), third.leave()]);
    await lock.release();
    expect((await first.answer).body).toMatchObject({ version: 2, context: { n: 1 } });
    expect((await fourth.answer).body).toMatchObject({ version: 3, context: { n: 4 } });
  });
});
