/**
 * Two replicas, of which one has a clock that is an hour off. What a session is told of time is the database's: nothing
 * happens early or late, through whichever replica. Needs libfaketime (`apt-get install faketime`), else it is skipped.
 */

import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startOwnRedis } from "../support/engines.ts";
import { clockOff, hasFaketime } from "../support/faketime.ts";
import { short, witness } from "../support/faults.ts";
import { startPostgresServer } from "../support/postgres-server.ts";
import { type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { type Answer, agentId, send } from "../support/service.ts";
import { until } from "../support/until.ts";

if (!hasFaketime) console.warn("tests/faults/clocks.test.ts is skipped: libfaketime is not installed");

const hourMs = 3_600_000;

/** A sweep comes at least so long after the other; the rest is for a machine that has other things to do. */
const lateMs = 4_000;

interface Place {
  readonly databaseUrl: string;
  readonly sql: postgres.Sql;
  readonly subscriber: Awaited<ReturnType<typeof witness>>;
  /** By their clocks. */
  readonly replicas: Readonly<Record<"right" | "wrong", ServiceProcess>>;
}

describe.skipIf(!hasFaketime).each(short ? ["+1h"] : ["+1h", "-1h"])(
  "a replica whose clock is %s beside one that is right",
  (offset) => {
    /** Undone in reverse order, whatever became of the tests. */
    const undo: (() => unknown)[] = [];
    let place: Place;

    beforeAll(async () => {
      const database = await startPostgresServer();
      undo.push(() => database[Symbol.asyncDispose]());
      const redis = await startOwnRedis();
      undo.push(() => redis.stop());
      const subscriber = await witness(redis.url);
      undo.push(() => subscriber[Symbol.asyncDispose]());
      const start = async (clock: Record<string, string>) => {
        const settings = { DATABASE_URL: database.url, REDIS_URL: redis.url, ...clock };
        const service = await startServiceProcess({ settings });
        undo.push(() => service.stop());
        return service;
      };
      const replicas = { right: await start({}), wrong: await start(clockOff(offset)) };
      const sql = postgres(database.url, { max: 1, onnotice: () => {} });
      undo.push(() => sql.end({ timeout: 1 }));
      place = { databaseUrl: database.url, sql, subscriber, replicas };
    });

    afterAll(async () => {
      for (const step of undo.splice(0).reverse()) await step();
    });

    const each = ["wrong", "right"] as const;
    /** By turns through both: the wrong one first. */
    const turn = (number: number) => each[number % 2] ?? "right";
    const ask = (through: "right" | "wrong", method: string, path: string, body?: object, headers = {}) =>
      send(`${place.replicas[through].url}${path}`, method, body, headers);

    async function create(through: "right" | "wrong", fields: object = {}): Promise<Answer["body"]> {
      const answer = await ask(through, "POST", "/sessions/", { agent_id: agentId, ...fields });
      expect(answer.status, answer.text).toBe(201);
      return answer.body;
    }

    /** The database's time, in milliseconds since 1970. */
    async function now(): Promise<number> {
      const [row] = await place.sql`select extract(epoch from clock_timestamp())::float8 * 1000 as ms`;
      return row?.["ms"];
    }

    /** The event that took a session to a phase, once there is one. */
    async function arrival(id: string, phase: string): Promise<{ at: number; reason: string | null }> {
      const look = () => place.sql`
      select extract(epoch from created_at)::float8 * 1000 as at, payload ->> 'reason' as reason from events
      where session_id = ${id} and payload ->> 'to' = ${phase}`;
      await until(async () => (await look()).length > 0, `${id} to be ${phase}`, { withinMs: 20_000 });
      const found = await look();
      expect(found).toHaveLength(1);
      return found[0] as unknown as { at: number; reason: string | null };
    }

    /** It came when it was due, and not much later. */
    function expectInTime(at: number, dueAt: number): void {
      expect(at).toBeGreaterThanOrEqual(Math.floor(dueAt));
      expect(at - dueAt).toBeLessThan(lateMs);
    }

    it("really has another clock", async () => {
      const dateOf = async (through: "right" | "wrong") =>
        Date.parse((await ask(through, "GET", "/health/live")).headers.get("date") ?? "");
      const apart = (await dateOf("wrong")) - (await dateOf("right"));
      expect(Math.abs(apart - (offset === "+1h" ? hourMs : -hourMs))).toBeLessThan(5_000);
    });

    it("stamps sessions and events by the database's clock", async () => {
      const before = await now();
      const { id } = await create("wrong");
      for (let number = 0; number < 6; number++) {
        await ask(turn(number), "PATCH", `/sessions/${id}`, { context: { number } });
        await ask(turn(number), "POST", `/sessions/${id}/events`, { event_type: "thinking", payload: {} });
      }
      const { body: session } = await ask("wrong", "GET", `/sessions/${id}`);
      const after = await now();
      const events = (await ask("wrong", "GET", `/sessions/${id}/events`)).body as { created_at: string }[];
      const times = [session.created_at, session.updated_at, session.last_activity_at, session.started_at];
      for (const time of [...times, ...events.map((event) => event.created_at)]) {
        expect(Date.parse(time)).toBeGreaterThanOrEqual(Math.floor(before));
        expect(Date.parse(time)).toBeLessThanOrEqual(after);
      }
      expect(events).toHaveLength(13);
      expect(events.map((event) => event.created_at)).toEqual(events.map((event) => event.created_at).sort());
    });

    it("lists sessions in the order in which they were created, page by page through either", async () => {
      const agent = randomUUID();
      const ids: string[] = [];
      for (let number = 0; number < 10; number++) ids.push((await create(turn(number), { agent_id: agent })).id);
      const listed: string[] = [];
      let path: string | undefined = `/sessions/?agent_id=${agent}&limit=3`;
      for (let number = 0; path !== undefined; number++) {
        const page: Answer = await ask(turn(number), "GET", path);
        listed.push(...page.body.map(({ id }: { id: string }) => id));
        const link = /<([^>]+)>; rel="next"/.exec(page.headers.get("link") ?? "")?.[1];
        path = link === undefined ? undefined : link.slice(link.indexOf("/sessions/"));
      }
      expect(listed).toEqual(ids.toReversed());
    });

    it.each(each)(
      "keeps a lease that is renewed, and crashes its session once it is not: begun through the %s one",
      async (first) => {
        const { id } = await create(first);
        const other = first === "right" ? "wrong" : "right";
        const taken = await ask(first, "POST", `/sessions/${id}/lease`, { worker_id: "worker-1", lease_seconds: 2 });
        expect(taken.status, taken.text).toBe(200);
        const headers = { "lease-token": String(taken.body.lease_token) };
        const long = (await now()) + 5_000;
        let end = 0;
        let number = 0;
        const isHeld = async () => {
          const beat = await ask(number++ % 2 === 0 ? other : first, "POST", `/sessions/${id}/heartbeat`, {}, headers);
          expect(beat.status, beat.text).toBe(200);
          end = Date.parse(beat.body.lease_expires_at);
          expect(Math.abs(end - (await now()) - 2_000)).toBeLessThan(1_500);
          return (await now()) > long;
        };
        await until(isHeld, "the lease to be renewed for longer than it is good for", { everyMs: 100 });
        const { at, reason } = await arrival(id, "crashed");
        expect(reason).toBe("lease_expired");
        expectInTime(at, end);
        const late = await ask(other, "POST", `/sessions/${id}/heartbeat`, {}, headers);
        expect(late).toMatchObject({ status: 409, body: { code: "lease_lost" } });
      },
    );

    it.each(each)(
      "runs the timers of sessions that were created through the %s one by the database's clock",
      async (through) => {
        const timers = [
          { fields: { timeout_seconds: 2 }, phase: "timed_out" },
          { fields: { waiting_timeout_seconds: 2 }, phase: "idle" },
          { fields: { idle_timeout_seconds: 2 }, phase: "expired" },
          { fields: { phase: "pending", pending_timeout_seconds: 2 }, phase: "expired" },
        ];
        const long = await create(through, {
          timeout_seconds: 1_800,
          idle_timeout_seconds: 1_800,
          expires_at: new Date((await now()) + hourMs / 2).toISOString(),
        });
        const begun: { id: string; phase: string; dueAt: number }[] = [];
        for (const { fields, phase } of timers) {
          const { id, created_at: createdAt } = await create(through, fields);
          begun.push({ id, phase, dueAt: Date.parse(createdAt) + 2_000 });
        }
        for (const { id, phase, dueAt } of begun) expectInTime((await arrival(id, phase)).at, dueAt);
        const { body } = await ask(through, "GET", `/sessions/${long.id}`);
        expect(body, "half an hour is not over").toMatchObject({ phase: "running", version: 1 });
      },
    );

    it.each(each)(
      "hands out a session that is scheduled neither early nor late: claimed through the %s one",
      async (through) => {
        const agent = randomUUID();
        const soon = (await now()) + 2_000;
        const at = (ms: number) => ({ agent_id: agent, scheduled_at: new Date(ms).toISOString() });
        await create("right", at(soon + hourMs / 2));
        const { id } = await create("wrong", at(soon));
        const claim = (seconds: number) =>
          ask(through, "POST", "/sessions/claim", {
            worker_id: "worker-1",
            filter: { agent_id: agent },
            wait_seconds: seconds,
          });
        expect((await claim(0)).status).toBe(204);
        const claimed = await claim(20);
        expect(claimed, claimed.text).toMatchObject({ status: 200, body: { id, phase: "running", attempt: 1 } });
        expectInTime((await arrival(id, "running")).at, soon);
        expect((await claim(0)).status, "the other one is due in half an hour").toBe(204);
      },
    );

    it("acts in time when it is alone, too", async () => {
      await place.replicas.right.stop();
      const { id, created_at: createdAt } = await create("wrong", { timeout_seconds: 2 });
      expectInTime((await arrival(id, "timed_out")).at, Date.parse(createdAt) + 2_000);
    });

    it("crashed nothing beside what had to crash, and every event has reached Redis in order", async () => {
      const crashes = await place.sql`select status_reason from sessions where phase = 'crashed'`;
      expect(crashes.map((row) => row["status_reason"])).toEqual(["lease_expired", "lease_expired"]);
      expect(await place.subscriber.all(place.databaseUrl)).toEqual([]);
    });
  },
);
