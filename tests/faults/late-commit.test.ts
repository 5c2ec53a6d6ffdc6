import postgres from "postgres";
import { afterEach, expect, it } from "vitest";
import { startOwnRedis } from "../support/engines.ts";
import { rounds, witness } from "../support/faults.ts";
import { startLoad } from "../support/load.ts";
import { startPostgresServer } from "../support/postgres-server.ts";
import { startServiceProcess } from "../support/process.ts";
import { agentId, send } from "../support/service.ts";
import { until } from "../support/until.ts";
import { followPages, followStream, type Reader, readersViolations } from "./readers.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const times = rounds(40, 4);

interface OpenChange {
  readonly position: number;
  commit(): Promise<void>;
}

/** A change as the service makes it, with its event, whose transaction stays open. */
async function openChange(sql: postgres.Sql, id: string): Promise<OpenChange> {
  let commit = () => {};
  const isOver = new Promise<void>((resolve) => {
    commit = resolve;
  });
  let drawn: (position: number) => void = () => {};
  const hasDrawn = new Promise<number>((resolve) => {
    drawn = resolve;
  });
  const transaction = sql.begin(async (tx) => {
    const [event] = await tx<{ position: number }[]>`
      with s as (
        update sessions set version = version + 1, last_sequence = last_sequence + 1, updated_at = clock_timestamp()
        where id = ${id} returning *
      )
      insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
      select gen_random_uuid(), id, last_sequence, version, 'session.updated', jsonb_build_object('agent_id', agent_id,
        'status', status, 'phase', phase, 'updates', jsonb_build_array('context')), updated_at
      from s returning position::float8 as position`;
    drawn(event?.position ?? 0);
    await isOver;
  });
  transaction.catch(() => {});
  const position = await Promise.race([hasDrawn, transaction.then(() => 0)]);
  return {
    position,
    async commit() {
      commit();
      await transaction;
    },
  };
}

function hasSeen({ deliveries }: Reader, sessionId: string, sequence: number): boolean {
  return deliveries.some(
    ({ channel, message }) => channel.endsWith(`:${sessionId}`) && JSON.parse(message).sequence === sequence,
  );
}

it(`transactions that commit in the reverse order of their positions, ${times} times under load: no reader skips one`, async () => {
  const database = await startPostgresServer();
  undo.push(() => database[Symbol.asyncDispose]());
  const redis = await startOwnRedis();
  undo.push(() => redis.stop());
  const subscriber = await witness(redis.url);
  undo.push(() => subscriber[Symbol.asyncDispose]());
  const settings = { DATABASE_URL: database.url, REDIS_URL: redis.url };
  const replicas = [await startServiceProcess({ settings }), await startServiceProcess({ settings })];
  for (const replica of replicas) undo.push(() => replica.stop());
  // One of them has the lease; readers of the other must not skip anything either.
  const readers = replicas.flatMap(({ url }) => [followPages(url), followStream(url, "/events/stream")]);
  const url = replicas[0]?.url ?? "";
  const load = startLoad({ url, clients: 4, pauseMs: 20 });
  undo.push(() => load.stop());
  const sql = postgres(database.url, { max: 6, onnotice: () => {} });
  undo.push(() => sql.end({ timeout: 1 }));
  const create = async () => {
    const { body } = await send(`${url}/sessions/`, "POST", { agent_id: agentId });
    return body.id as string;
  };

  for (let time = 0; time < times; time++) {
    const ids = [await create(), await create(), await create()] as const;
    const first = await openChange(sql, ids[0]);
    const second = await openChange(sql, ids[1]);
    const third = await openChange(sql, ids[2]);
    expect([second.position > first.position, third.position > second.position]).toEqual([true, true]);
    await third.commit();
    await second.commit();
    if (time % 4 === 3) {
      // So late that the readers are past its place: it holds up nobody, and comes all the same.
      const arePast = () => readers.every((reader) => hasSeen(reader, ids[1], 2) && hasSeen(reader, ids[2], 2));
      await until(arePast, "readers to go past what is open still");
    }
    await first.commit();
  }
  await load.stop();

  expect(load.wrong).toEqual([]);
  expect(await load.audit(database.url)).toEqual([]);
  expect(await subscriber.all(database.url, { stream: { redisUrl: redis.url } })).toEqual([]);
  expect(await readersViolations(readers, database.url)).toEqual([]);
  for (const reader of readers) await reader.stop();
});
