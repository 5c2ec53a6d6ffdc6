/** Gathers what the checker judges: from the database, from Redis, and from a log of deliveries. */

import { Redis } from "ioredis";
import postgres from "postgres";
import {
  type Delivery,
  type DeliveryLog,
  type EventEvidence,
  type History,
  type SessionEvidence,
  type StreamEntry,
  stream,
} from "./evidence.ts";

/** Reads the rows and the history, as they are at one moment. */
export async function readHistory(databaseUrl: string): Promise<History> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  try {
    return await sql.begin("isolation level repeatable read read only", async (tx) => {
      const sessions = await tx<SessionEvidence[]>`
        select id, agent_id, phase, status, version, last_sequence, deleted_at is not null as deleted,
          purge_requested_at is not null as purging
        from sessions order by id`;
      const events = await tx<EventEvidence[]>`
        select event_id, session_id, sequence, session_version, event_type, position::float8 as position,
          payload, metadata
        from events order by session_id, sequence`;
      const [feed] = await tx<{ horizon: number }[]>`
        select horizon::float8 as horizon from relays where name = 'redis'`;
      return { sessions: [...sessions], events: [...events], horizon: feed?.horizon ?? 0 };
    });
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/** Reads the whole stream, oldest entry first. */
export async function readStream(redisUrl: string): Promise<StreamEntry[]> {
  const redis = new Redis(redisUrl);
  redis.on("error", () => {});
  try {
    const entries = await redis.xrange(stream, "-", "+");
    return entries.map(([id, texts]) => ({ id, fields: fieldsOf(texts) }));
  } finally {
    redis.disconnect();
  }
}

/** Redis gives the names and the values in turn. */
function fieldsOf(texts: readonly string[]): Record<string, string> {
  const names = texts.filter((_, at) => at % 2 === 0);
  return Object.fromEntries(names.map((name, at) => [name, texts[2 * at + 1] ?? ""]));
}

/**
 * A log of deliveries: lines of JSON, in the order of arrival. `{"subscribed": "events:session"}` says that somebody
 * listens there; `{"channel": …, "message": …}` is what came, the message word for word as a string.
 *
 * @throws when a line is neither
 */
export function parseLog(text: string): DeliveryLog {
  const subscribed = new Set<string>();
  const deliveries: Delivery[] = [];
  for (const [at, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const { subscribed: to, channel, message } = JSON.parse(line) as Record<string, unknown>;
    if (typeof to === "string") subscribed.add(to);
    else if (typeof channel === "string" && typeof message === "string") deliveries.push({ channel, message });
    else throw new Error(`line ${at + 1} is neither a subscription nor a delivery: ${line.slice(0, 200)}`);
  }
  return { subscribed, deliveries };
}

/** The log as `parseLog` reads it. */
export function logText({ subscribed, deliveries }: DeliveryLog): string {
  const lines = [...[...subscribed].map((to) => ({ subscribed: to })), ...deliveries];
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}
