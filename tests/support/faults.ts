/** What the fault tests share: how long they run, and how their subscribers judge what they received. */

import { Redis } from "ioredis";
import { check } from "../checker/check.ts";
import { changesChannel, type Delivery, type History, isChange, sessionPattern } from "../checker/evidence.ts";
import { readHistory, readStream } from "../checker/read.ts";
import type { Outcome } from "./load.ts";
import { until } from "./until.ts";

/** FAULTS=short makes each run a small fraction, for CI. */
export const short = process.env["FAULTS"] === "short";

/** A number of rounds: the whole, or the short form's. */
export function rounds(whole: number, inShort: number): number {
  return short ? inShort : whole;
}

/** A Redis whose stream is looked at, too. */
export interface WatchedStream {
  readonly redisUrl: string;
  /** It is not the one that the service began with. */
  readonly forgot?: boolean;
}

export interface Witness extends AsyncDisposable {
  /** Listens to another Redis, too. */
  listen(redisUrl: string): Promise<void>;
  /** Waits for what every Redis that it listens to, and that is there, has sent by now. */
  settle(): Promise<void>;
  /** How many different changes were received. */
  received(): number;
  /** How many different events were received. */
  events(): number;
  /** Every message, in the order of arrival. */
  readonly deliveries: readonly Delivery[];
  /** Waits until every event of the database has been received, and gives what the checker says then. */
  all(
    databaseUrl: string,
    options?: { readonly withinMs?: number; readonly stream?: WatchedStream },
  ): Promise<string[]>;
}

/** To how many entries the service trims the stream unless it is told otherwise. */
const streamLength = 100_000;

/** A subscriber to everything there is, that keeps all it receives, in the order of arrival. */
export async function witness(redisUrl: string): Promise<Witness> {
  const connections: Redis[] = [];
  const deliveries: Delivery[] = [];
  const seen = { [changesChannel]: new Set<string>(), [sessionPattern]: new Set<string>() };
  const receive = (road: keyof typeof seen, channel: string, message: string) => {
    deliveries.push({ channel, message });
    seen[road].add(/"event_id":"([^"]+)"/.exec(message)?.[1] ?? message);
  };
  const listen = async (url: string) => {
    const redis = new Redis(url, { retryStrategy: () => 50 });
    redis.on("error", () => {});
    redis.on("message", (channel, message) => receive(changesChannel, channel, message));
    redis.on("pmessage", (_, channel, message) => receive(sessionPattern, channel, message));
    connections.push(redis);
    await redis.subscribe(changesChannel);
    await redis.psubscribe(sessionPattern);
  };
  const missing = ({ events }: History) =>
    events.filter((event) => {
      const isMissed = isChange(event) && !seen[changesChannel].has(event.event_id);
      return isMissed || !seen[sessionPattern].has(event.event_id);
    }).length;
  await listen(redisUrl);
  return {
    listen,
    async settle() {
      // Answered behind everything that was sent before.
      for (const redis of connections) if (redis.status === "ready") await redis.ping();
    },
    received: () => seen[changesChannel].size,
    events: () => seen[sessionPattern].size,
    deliveries,
    async all(databaseUrl, { withinMs = 60_000, stream } = {}) {
      let history = await readHistory(databaseUrl);
      const isAll = async () => {
        if (missing(history) > 0) return false;
        // What removes sessions goes on meanwhile, and tells of it.
        history = await readHistory(databaseUrl);
        return missing(history) === 0 && history.sessions.every(({ purging }) => !purging);
      };
      // The checker says what never came.
      await until(isAll, "every event", { withinMs, everyMs: 50 }).catch(() => {});
      const { redisUrl: streamUrl, forgot = false } = stream ?? {};
      const entries = streamUrl === undefined ? undefined : await readStream(streamUrl);
      return check({
        history,
        log: { subscribed: new Set([changesChannel, sessionPattern]), deliveries },
        stream: entries === undefined ? undefined : { entries, maxLength: streamLength, forgot },
      });
    },
    async [Symbol.asyncDispose]() {
      for (const redis of connections) redis.disconnect();
    },
  };
}

/** The time within which all but a part of the requests were answered, in milliseconds. */
export function percentile(outcomes: readonly Outcome[], part: number): number {
  const sorted = outcomes.map(({ ms }) => ms).sort((a, b) => a - b);
  return sorted[Math.min(Math.floor(sorted.length * part), sorted.length - 1)] ?? 0;
}
