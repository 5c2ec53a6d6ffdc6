/** Removes events that are older than they shall be kept. */

import type { Database } from "../db/client.ts";
import { namespacesOfEvents, type RetentionPlace, removeOldEvents } from "../events/retention.ts";
import { type Loop, startLoop } from "./loop.ts";

export interface RetentionOptions {
  readonly database: Database;
  /** How old an event may be. */
  readonly days: number;
  readonly onError: (error: unknown) => void;
  readonly everyMs?: number;
}

/** Days are asked for; a minute more does not matter, and an idle look is two searches of an index. */
const defaultEveryMs = 60_000;

/**
 * A walk goes on where the last one ended, so what is held is not looked at again each minute. A hold may be lifted:
 * once an hour a walk begins with the oldest event.
 */
const walksFromPlace = 60;

/** Starts to look for old events, and removes them batch by batch as long as there are any. */
export function startRetention({ database, days, onError, everyMs = defaultEveryMs }: RetentionOptions): Loop {
  const places = new Map<string, RetentionPlace>();
  let walks = 0;
  let waiting: string[] = [];
  const task = async () => {
    if (waiting.length === 0) {
      if (walks++ % walksFromPlace === 0) places.clear();
      waiting = await namespacesOfEvents(database);
    }
    const [namespace] = waiting;
    if (namespace === undefined) return false;
    const step = await removeOldEvents(database, { namespace, days, after: places.get(namespace) });
    places.set(namespace, step.place);
    if (!step.more) waiting.shift();
    return waiting.length > 0;
  };
  const loop = startLoop({ task, everyMs, onError });
  // At once: a process that is never up for a minute would else never come to it.
  loop.wake();
  return loop;
}
