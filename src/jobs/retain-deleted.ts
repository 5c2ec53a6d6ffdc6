/** Lets go of the sessions that were deleted longer ago than they shall be kept. */

import type { Database } from "../db/client.ts";
import { purgeOldDeleted } from "../sessions/deleted-retention.ts";
import { type Loop, startLoop } from "./loop.ts";

export interface DeletedRetentionOptions {
  readonly database: Database;
  /** How long ago a deletion may be. */
  readonly days: number;
  /** Called after the removal of sessions was asked for. */
  readonly purgeRequested: () => void;
  readonly onError: (error: unknown) => void;
  readonly everyMs?: number;
}

/** Days are asked for; a minute more does not matter, and an idle look is one search of an index. */
const defaultEveryMs = 60_000;

/**
 * A walk goes on where the last one ended: what waits to be removed is not looked at again each minute. Once an hour a walk
 * begins with the first deletion, for what was locked or held when it was looked at.
 */
const walksFromPlace = 60;

/** Starts to look for sessions that were deleted long ago, and asks for their removal batch by batch. */
export function startDeletedRetention(options: DeletedRetentionOptions): Loop {
  const { database, days, purgeRequested, onError, everyMs = defaultEveryMs } = options;
  let after: string | undefined;
  let walks = 0;
  let isOnWalk = false;
  const task = async () => {
    if (!isOnWalk && walks++ % walksFromPlace === 0) after = undefined;
    const step = await purgeOldDeleted(database, { days, after });
    after = step.place;
    isOnWalk = step.more;
    if (step.asked > 0) purgeRequested();
    return step.more;
  };
  const loop = startLoop({ task, everyMs, onError });
  // At once: a process that is never up for a minute would else never come to it.
  loop.wake();
  return loop;
}
