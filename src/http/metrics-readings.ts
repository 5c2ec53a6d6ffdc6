/** What is read from the database and the pool when somebody asks for the figures: in little time, whatever is away. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Database } from "../db/client.ts";
import { readBacklog } from "../events/backlog.ts";
import type { PoolReading, Readings, RelayReading, SessionsReading } from "../metrics.ts";
import { ServiceError } from "../service-error.ts";
import { readPhaseCounts } from "../sessions/phase-counts.ts";

export interface ReadingsOptions {
  /** The pool that requests use: only looked at. */
  readonly pool: { readonly usage: PoolReading };
  /** Of its own, with a deadline of a second or so: a busy pool is no database that is gone. */
  readonly probe: Database;
  /** Of its own, with a deadline of half a minute or so: to count many sessions takes seconds. */
  readonly counting: Database;
  readonly onError: (error: unknown) => void;
}

/** Whoever asks has this long: Prometheus waits for 10 s unless told otherwise, and nobody else is held up. */
const patienceMs = 1_000;

/**
 * Opens what reads the figures. It never throws and never hangs: what can't be read within some 1.5 s is left out; while
 * sessions are being counted it gives the last count that this process saw.
 */
export function openReadings({ pool, probe, counting, onError }: ReadingsOptions): () => Promise<Readings> {
  let isUp = true;
  let seen: { readonly sessions: SessionsReading; readonly at: number } | undefined;
  let underWay: Promise<void> | undefined;
  const readRelay = async (): Promise<RelayReading | undefined> => {
    try {
      const { events, oldestSeconds } = await readBacklog(probe);
      isUp = true;
      return { backlog: events, lagSeconds: oldestSeconds };
    } catch (error) {
      // Tables that are missing are missing in a database that answers.
      isUp = !(error instanceof ServiceError && error.code === "database_unavailable");
      onError(error);
      return undefined;
    }
  };
  const count = async () => {
    try {
      const sessions = await readPhaseCounts(counting);
      if (sessions !== undefined) seen = { sessions, at: performance.now() };
    } catch (error) {
      onError(error);
    }
  };
  const readSessions = async (): Promise<SessionsReading | undefined> => {
    underWay ??= count().finally(() => {
      underWay = undefined;
    });
    const waiting = new AbortController();
    await Promise.race([underWay, sleep(patienceMs, undefined, { signal: waiting.signal }).catch(() => {})]);
    waiting.abort();
    return seen && { ...seen.sessions, ageSeconds: seen.sessions.ageSeconds + (performance.now() - seen.at) / 1_000 };
  };
  return async () => {
    const [relay, sessions] = await Promise.all([readRelay(), readSessions()]);
    return { databaseUp: isUp, pool: pool.usage, relay, sessions: isUp ? sessions : undefined };
  };
}
