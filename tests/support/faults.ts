/** What the fault tests share: how long they run, and how their subscribers judge what they received. */

import { Redis } from "ioredis";
import postgres from "postgres";
import type { SessionChangeEvent } from "../../src/events/envelope.ts";
import { until } from "./until.ts";

/** FAULTS=short makes each run a small fraction, for CI. */
export const short = process.env["FAULTS"] === "short";

/** A number of rounds: the whole, or the short form's. */
export function rounds(whole: number, inShort: number): number {
  return short ? inShort : whole;
}

export interface Witness extends AsyncDisposable {
  /** Listens to another Redis, too. */
  listen(redisUrl: string): Promise<void>;
  /** Waits for what every Redis it listens to has sent by now. */
  settle(): Promise<void>;
  /** How many different events were received. */
  received(): number;
  /** Waits until every event of the database has been received, and gives what was amiss with their order. */
  all(databaseUrl: string, withinMs?: number): Promise<string[]>;
}

/** A subscriber that keeps the first delivery of each event, in the order of arrival. */
export async function witness(redisUrl: string): Promise<Witness> {
  const connections: Redis[] = [];
  const seen = new Set<string>();
  const last = new Map<string, number>();
  const amiss: string[] = [];
  const receive = (_: string, message: string) => {
    const { event_id: eventId, aggregate_id: id, sequence } = JSON.parse(message) as SessionChangeEvent;
    if (seen.has(eventId)) return;
    seen.add(eventId);
    const before = last.get(id) ?? 0;
    if (sequence !== before + 1) amiss.push(`${id}: ${sequence} came first after ${before}`);
    last.set(id, sequence);
  };
  const listen = async (url: string) => {
    const redis = new Redis(url, { retryStrategy: () => 50 });
    redis.on("error", () => {});
    redis.on("message", receive);
    connections.push(redis);
    await redis.subscribe("events:session");
  };
  await listen(redisUrl);
  return {
    listen,
    async settle() {
      // Answered behind everything that was sent before.
      for (const redis of connections) await redis.ping();
    },
    received: () => seen.size,
    async all(databaseUrl, withinMs = 60_000) {
      const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
      try {
        const rows = await sql<{ event_id: string }[]>`select event_id from events`;
        const missing = () => rows.filter((row) => !seen.has(row.event_id)).length;
        await until(() => missing() === 0, `all of ${rows.length} events`, { withinMs, everyMs: 50 }).catch((error) => {
          amiss.push(`${missing()} of ${rows.length} events never came: ${error.message}`);
        });
        if (seen.size > rows.length)
          amiss.push(`${seen.size - rows.length} events came that the database does not have`);
        return amiss;
      } finally {
        await sql.end({ timeout: 1 });
      }
    },
    async [Symbol.asyncDispose]() {
      for (const redis of connections) redis.disconnect();
    },
  };
}
