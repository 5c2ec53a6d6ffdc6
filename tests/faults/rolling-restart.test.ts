import openSql from "postgres";
import { afterEach, describe, expect, it } from "vitest";
import { redisOnPath, startRedisServer } from "../support/engines.ts";
import { rounds, type Witness, witness } from "../support/faults.ts";
import { type Ending, type Follower, follow } from "../support/follower.ts";
import { type Balancer, hasHaproxy, startHaproxy } from "../support/haproxy.ts";
import { isServed, type Load, startLoad } from "../support/load.ts";
import { type PostgresServer, startPostgresServer } from "../support/postgres-server.ts";
import { quietPort, type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { agentId, send } from "../support/service.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const times = rounds(12, 3);
const acknowledgedARound = 300;

interface Scene {
  readonly postgres: PostgresServer;
  readonly subscriber: Witness;
  readonly balancer: Balancer;
  /** Ends a replica by SIGTERM and starts its successor, while requests run. */
  replace(number: number): Promise<{ readonly tookMs: number }>;
}

/** Two replicas of the service, as they are by default, on one PostgreSQL and one Redis behind one HAProxy. */
async function scene(): Promise<Scene> {
  const postgres = await startPostgresServer();
  undo.push(() => postgres[Symbol.asyncDispose]());
  const redis = await startRedisServer();
  undo.push(() => redis.stop());
  const subscriber = await witness(redis.url);
  undo.push(() => subscriber[Symbol.asyncDispose]());
  const ports = [await quietPort(), await quietPort()];
  const start = async (port: number): Promise<ServiceProcess> => {
    const settings = { DATABASE_URL: postgres.url, REDIS_URL: redis.url, PORT: String(port) };
    const service = await startServiceProcess({ settings });
    undo.push(() => service.stop());
    return service;
  };
  const replicas: ServiceProcess[] = [];
  for (const port of ports) replicas.push(await start(port));
  const balancer = await startHaproxy(ports);
  undo.push(() => balancer[Symbol.asyncDispose]());
  await balancer.sendsTo(0, 1);
  return {
    postgres,
    subscriber,
    balancer,
    async replace(number) {
      const [replica, port] = [replicas[number], ports[number]];
      if (replica === undefined || port === undefined) throw new Error(`there is no replica ${number}`);
      const began = performance.now();
      replica.kill("SIGTERM");
      expect(await replica.exited, replica.stderr()).toEqual({ code: 0, signal: null });
      const tookMs = performance.now() - began;
      replicas[number] = await start(port);
      await balancer.sendsTo(0, 1);
      return { tookMs };
    },
  };
}

async function someWork(load: Load): Promise<void> {
  const before = load.acknowledged();
  await until(() => load.acknowledged() >= before + acknowledgedARound, `${acknowledgedARound} acknowledged changes`, {
    withinMs: 60_000,
  });
}

async function created({ balancer }: Scene): Promise<string> {
  const { status, body } = await send(`${balancer.url}/sessions/`, "POST", { agent_id: agentId });
  expect(status).toBe(201);
  return body.id;
}

async function change({ balancer }: Scene, id: string, fields: object): Promise<void> {
  expect((await send(`${balancer.url}/sessions/${id}`, "PATCH", fields)).status).toBe(200);
}

function follower({ balancer }: Scene, path: string): Follower {
  const following = follow(`${balancer.url}${path}`);
  undo.push(() => following[Symbol.asyncDispose]());
  return following;
}

function isPolite({ status, whole, retryMs }: Ending): boolean {
  return status === 200 && whole && retryMs !== undefined;
}

interface WaitAnswer {
  readonly status: number | undefined;
}

/** Asks again and again until the session is completed; gives every answer. */
async function waiter({ balancer }: Scene, id: string): Promise<WaitAnswer[]> {
  const answers: WaitAnswer[] = [];
  for (;;) {
    const answer = await send(`${balancer.url}/sessions/${id}/wait?until=completed&timeout=30`, "GET").catch(() => {});
    answers.push({ status: answer?.status });
    if (answer === undefined || answer.status !== 200 || answer.body.status === "completed") return answers;
  }
}

async function historyOf({ postgres }: Scene): Promise<readonly { event_id: string; session_id: string }[]> {
  const sql = openSql(postgres.url, { max: 1, onnotice: () => {} });
  const rows = await sql<{ event_id: string; session_id: string }[]>`
    select event_id, session_id from events order by position`;
  await sql.end({ timeout: 1 });
  return rows;
}

describe.skipIf(redisOnPath() === undefined || !hasHaproxy)(
  `Two replicas behind HAProxy (needs haproxy and redis-server), ended by SIGTERM in turn, ${times} times under load`,
  () => {
    it("no request is refused or lost, each change has its event, and a subscriber receives all of them", async () => {
      const at = await scene();
      const load = startLoad({ url: at.balancer.url, clients: 32 });
      undo.push(() => load.stop());
      await someWork(load);
      const endings: number[] = [];
      for (let time = 0; time < times; time++) {
        const before = await at.balancer.replica(time % 2);
        endings.push((await at.replace(time % 2)).tookMs);
        await someWork(load);
        const after = await at.balancer.replica(time % 2);
        expect(after.requests, "its successor has its share of the requests").toBeGreaterThan(before.requests);
      }
      await load.stop();

      expect(load.wrong, "wrong answers").toEqual([]);
      const unserved = load.outcomes.filter((outcome) => !isServed(outcome));
      expect(unserved, `refused or broken, of ${load.outcomes.length}:\n${at.balancer.log()}`).toEqual([]);
      for (const number of [0, 1]) {
        expect((await at.balancer.replica(number)).failures, `what HAProxy counted of replica ${number}`).toBe(0);
      }
      expect(Math.max(...endings), "milliseconds from SIGTERM to the end").toBeLessThan(5_000);
      expect(await load.audit(at.postgres.url)).toEqual([]);
      expect(await at.subscriber.all(at.postgres.url)).toEqual([]);
      expect(at.subscriber.received()).toBeGreaterThanOrEqual(load.acknowledged());
    });

    it("streams end with a hint when to come back and miss nothing, and whoever waits for a session is answered", async () => {
      const at = await scene();
      const load = startLoad({ url: at.balancer.url, clients: 4, pauseMs: 20 });
      undo.push(() => load.stop());
      const sessions = await Promise.all(Array.from({ length: 4 }, () => created(at)));
      const ofSession = sessions.map((id) => follower(at, `/sessions/${id}/events/stream`));
      const ofAll = Array.from({ length: 4 }, () => follower(at, "/events/stream"));
      const followers = [...ofSession, ...ofAll];
      const areOpen = () =>
        until(() => followers.every((one) => one.isOpen()), "the streams to be open", { withinMs: 30_000 });
      const waits = sessions.flatMap((id) => [waiter(at, id), waiter(at, id)]);
      const endings: number[] = [];
      for (let time = 0; time < times; time++) {
        await areOpen();
        endings.push((await at.replace(time % 2)).tookMs);
        for (const id of sessions) await change(at, id, { context: { time } });
      }
      for (const id of sessions) await change(at, id, { status: "completed" });
      const answers = (await Promise.all(waits)).flat();
      await load.stop();

      const broken = followers.flatMap((one) => one.endings).filter((ending) => !isPolite(ending));
      expect(broken, "streams that did not end with a hint").toEqual([]);
      // One that comes back late may find the successor there, and is spared the next time.
      const ended = followers.reduce((sum, one) => sum + one.endings.length, 0);
      expect(ended, "streams that ended").toBeGreaterThanOrEqual(times);
      const history = await historyOf(at);
      const expectExactly = async (one: Follower, events: readonly string[]) => {
        await until(() => one.events.length >= events.length, `${events.length} events on a stream`);
        expect(one.events, "each event once, in order").toEqual(events);
      };
      for (const one of ofAll)
        await expectExactly(
          one,
          history.map(({ event_id: id }) => id),
        );
      for (const [number, one] of ofSession.entries()) {
        const its = history.filter(({ session_id: id }) => id === sessions[number]);
        expect(its.length).toBe(times + 2);
        await expectExactly(
          one,
          its.map(({ event_id: id }) => id),
        );
      }
      expect(
        answers.filter(({ status }) => status !== 200),
        `of ${answers.length} answers to waiters`,
      ).toEqual([]);
      expect(answers.length, "some were answered because the service stopped").toBeGreaterThan(
        waits.length + times / 2,
      );
      expect(
        load.outcomes.filter((outcome) => !isServed(outcome)),
        "refused or broken",
      ).toEqual([]);
      expect(Math.max(...endings), "milliseconds from SIGTERM to the end").toBeLessThan(3_000);
    });
  },
);
