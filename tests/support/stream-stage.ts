/** Event streams with limits of the test's own, on a real database, relay and socket, and nothing around them. */

import Fastify from "fastify";
import { inject } from "vitest";
import { openDatabase } from "../../src/db/client.ts";
import { connectBroker } from "../../src/events/broker.ts";
import { Feed } from "../../src/events/feed.ts";
import { startRelay } from "../../src/events/relay.ts";
import { EventStreams, type StreamLimits, streamLimits } from "../../src/http/event-streams.ts";
import { createDatabase } from "./database.ts";
import { until } from "./until.ts";

export interface StreamStage extends AsyncDisposable {
  /** Takes `after`, `session` and `type`; without `after`, a stream starts with what comes from now on. */
  readonly url: string;
  readonly feed: Feed;
  readonly streams: EventStreams;
  /** Commits events of a session, each of so many bytes, from this sequence on; they are in the feed then. */
  write(sessionId: string, count: number, bytes: number, from?: number): Promise<void>;
  /** The streams that are asked for while it is held are opened once it is released. */
  hold(): () => void;
}

/** @param limits those that are not given are the real ones */
export async function startStreamStage(limits: Partial<StreamLimits> = {}): Promise<StreamStage> {
  const database = await createDatabase();
  const pool = openDatabase({ url: database.url, poolSize: 6, prepare: true });
  const broker = connectBroker({ url: inject("redisUrl"), stream: "", streamLength: 0, onError: () => {} });
  const onError = () => {};
  const feed = new Feed({ database: pool, onError });
  const relay = startRelay({ database: pool, broker, feed, takesTurns: true, onError });
  const streams = new EventStreams(feed, { ...streamLimits, ...limits });
  let held = Promise.resolve();
  const app = Fastify();
  app.get<{ Querystring: { after?: string; session?: string; type?: string } }>("/", async (request, reply) => {
    await held;
    const { after, session, type } = request.query;
    streams.open(request, reply, {
      after: after === undefined ? await feed.now() : Number(after),
      sessionId: session,
      matches: ({ event_type: of }) => type === undefined || of === type,
      vocabulary: undefined,
    });
  });
  const url = await app.listen({ port: 0, host: "127.0.0.1" });
  return {
    url,
    feed,
    streams,
    async write(sessionId, count, bytes, from = 1) {
      const [last] = await database.sql`
        with written as (insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
        select gen_random_uuid(), ${sessionId}, n, 1, 'session.terminal',
          jsonb_build_object('output', repeat('x', ${bytes}::int)), clock_timestamp()
        from generate_series(${from}::int, ${from + count - 1}::int) n order by n returning position)
        select max(position)::float8 as position from written`;
      relay.wake();
      await until(() => feed.settled >= last?.["position"], "the feed to have them");
    },
    hold() {
      let release = () => {};
      held = new Promise((resolve) => {
        release = resolve;
      });
      return release;
    },
    async [Symbol.asyncDispose]() {
      streams.stop();
      app.server.closeAllConnections();
      await app.close();
      await relay.stop(0);
      feed.close();
      await broker.close();
      await pool.close();
      await database.drop();
    },
  };
}
