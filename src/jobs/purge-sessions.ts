/** Removes for good the sessions that a hard deletion asked for. */

import type { Database } from "../db/client.ts";
import { type PurgePlace, purgeNext } from "../sessions/purge.ts";
import { type Loop, startLoop } from "./loop.ts";

export interface PurgeOptions {
  readonly database: Database;
  /** Called after a `session.purged` was committed: it waits to be published. */
  readonly appended: () => void;
  readonly onError: (error: unknown) => void;
  readonly everyMs?: number;
}

/** For what other processes were asked, and did not live to do. */
const defaultEveryMs = 5_000;

/**
 * The deletion itself must be published first, which takes milliseconds while Redis is there: what waits is looked at
 * again soon, then less and less often, up to the pause between two looks.
 */
const leastRetryMs = 50;

/** Starts to look for sessions to remove, and removes them batch by batch as long as there are any. */
export function startPurge({ database, appended, onError, everyMs = defaultEveryMs }: PurgeOptions): Loop {
  let place: PurgePlace | undefined;
  let retryMs = leastRetryMs;
  let retry: NodeJS.Timeout | undefined;
  const task = async () => {
    clearTimeout(retry);
    const step = await purgeNext(database, place);
    place = step.outcome === "removed" ? step.place : undefined;
    if (step.outcome === "purged") appended();
    if (step.outcome === "waits") {
      if (retryMs < everyMs) retry = setTimeout(loop.wake, retryMs).unref();
      retryMs *= 2;
      return false;
    }
    retryMs = leastRetryMs;
    return step.outcome !== "nothing";
  };
  const loop = startLoop({ task, everyMs, onError });
  // At once: a process that was killed may have left one half done.
  loop.wake();
  return {
    wake() {
      retryMs = leastRetryMs;
      loop.wake();
    },
    async stop() {
      await loop.stop();
      clearTimeout(retry);
    },
  };
}
