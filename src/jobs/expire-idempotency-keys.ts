/** Removes the answers to requests with an Idempotency-Key that are past their time. */

import { expireKeys } from "../access/idempotency.ts";
import type { Database } from "../db/client.ts";
import { type Loop, startLoop } from "./loop.ts";

export interface ExpiryOptions {
  readonly database: Database;
  /** How long an answer is kept. */
  readonly ttlHours: number;
  readonly onError: (error: unknown) => void;
  readonly everyMs?: number;
}

/** Nobody sees an answer that is past its time, so they only take up room: a minute's worth of them at most. */
const defaultEveryMs = 60_000;

/** Starts to look for them, and removes them batch by batch as long as there are any. */
export function startExpiry({ database, ttlHours, onError, everyMs = defaultEveryMs }: ExpiryOptions): Loop {
  return startLoop({ task: () => expireKeys(database, { ttlHours }), everyMs, onError });
}
