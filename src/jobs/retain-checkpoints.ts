/** Removes the checkpoints that no rule keeps. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Database } from "../db/client.ts";
import {
  type KeepRules,
  mostLooks,
  newestFirst,
  type PrunePlace,
  pruneStep,
} from "../sessions/checkpoint-retention.ts";
import { findSessionsToPrune, type WalkPlace } from "../sessions/checkpoint-walk.ts";
import { type Loop, startLoop } from "./loop.ts";

export interface CheckpointRetentionOptions {
  readonly database: Database;
  /** Of sessions that say nothing else. */
  readonly rules: KeepRules;
  readonly onError: (error: unknown) => void;
  readonly everyMs?: number;
}

/** A session that saves a checkpoint a second has 60 too many by then. */
const defaultEveryMs = 60_000;

/**
 * A step holds the session's row for 2 to 10 ms: that long its worker may wait. What it removes must be written to disk by
 * the database at some time, so the bytes are bounded as well.
 */
const size = { looks: mostLooks, removals: 200, bytes: 8 * 1024 * 1024 };

/** After each statement it rests so many times as long as that took: the others have four fifths of the database. */
const restsFor = 4;

/** A walk over all sessions is followed by a pause of so many times its length: it takes a fiftieth of a connection. */
const restsAfterWalk = 50;

/**
 * Starts to walk over the sessions that have checkpoints, and removes what too many of them have. Any number of processes
 * may do so: what one is at, the others pass by.
 */
export function startCheckpointRetention(options: CheckpointRetentionOptions): Loop {
  const { database, rules, onError, everyMs = defaultEveryMs } = options;
  let place: WalkPlace | undefined;
  let found: readonly WalkPlace[] = [];
  let within: PrunePlace = newestFirst;
  let isOnWalk = false;
  let walkMs = 0;
  let restsUntil = 0;

  /** Looks for sessions; false at the end of the walk. */
  const look = async () => {
    if (!isOnWalk && performance.now() < restsUntil) return false;
    const began = performance.now();
    isOnWalk = true;
    const next = await findSessionsToPrune(database, rules, place);
    walkMs += performance.now() - began;
    found = next.sessions;
    place = next.place;
    if (place !== undefined) return true;
    isOnWalk = false;
    restsUntil = performance.now() + walkMs * restsAfterWalk;
    walkMs = 0;
    return false;
  };

  /** The next step of the first session that was found. What goes wrong there must not keep the others waiting. */
  const prune = async ({ namespace, sessionId: id }: WalkPlace) => {
    const done = () => {
      found = found.slice(1);
      within = newestFirst;
    };
    try {
      const step = await pruneStep(database, namespace, { id, defaults: rules, place: within, size }, "sweep");
      // Somebody else changes it, or prunes it too: there is a next time.
      if (step.outcome !== "ok" || step.ended) done();
      else within = step.place;
    } catch (error) {
      done();
      throw error;
    }
  };

  const task = async (signal: AbortSignal) => {
    const began = performance.now();
    const [first] = found;
    if (first !== undefined) await prune(first);
    else if (!(await look())) return false;
    const restMs = (performance.now() - began) * restsFor;
    await sleep(restMs, undefined, { signal, ref: false }).catch(() => {});
    return true;
  };
  const loop = startLoop({ task, everyMs, onError });
  // At once: a process that is never up for a minute would else never come to it.
  loop.wake();
  return loop;
}
