/** Lets happen to sessions what their timers say, once they are due. */

import type { Database } from "../db/client.ts";
import type { FinalCheckpoints } from "../sessions/checkpoint-history.ts";
import { beginSweep, type Swept, sweepDue } from "../sessions/sweep.ts";
import type { Transition } from "../sessions/transition-log.ts";
import { type Loop, startLoop } from "./loop.ts";

/** A sweep that has ended: all that was due has been worked off. */
export interface EndedSweep {
  /** How many sessions it changed, by what became of them. */
  readonly outcomes: Readonly<Record<string, number>>;
  readonly seconds: number;
}

export interface SweepOptions {
  readonly database: Database;
  readonly everyMs: number;
  /** Of which sessions a last checkpoint is saved. */
  readonly finalCheckpoints: FinalCheckpoints;
  /** Called after a session was taken from one phase to another. */
  readonly onTransition: (transition: Transition) => void;
  /** Called after events were committed: they wait to be published. */
  readonly appended: () => void;
  readonly onEnd: (sweep: EndedSweep) => void;
  /** Called once, until a sweep is done again: a database that is away is away for many sweeps. */
  readonly onError: (error: unknown) => void;
}

/**
 * A sweep that is late by a little is no outage: after so long without one, and after so many pauses between two, leases
 * count as renewed.
 */
const leastGraceMs = 3_000;
const pausesOfGrace = 3;

/** Where very many are due, so many statements work them off at a time: each leaves the sessions of the others alone. */
const mostLanes = 2;

/** Starts to look for sessions that are due. */
export function startSweeping(options: SweepOptions): Loop {
  const { database, everyMs, finalCheckpoints, onTransition, appended, onEnd, onError } = options;
  const graceMs = Math.max(leastGraceMs, pausesOfGrace * everyMs);
  let outcomes: Record<string, number> = {};
  let began: number | undefined;
  let fails = false;
  let lanes = 1;
  const round = async () => {
    began ??= performance.now();
    const start = await beginSweep(database, graceMs);
    const rounds = await Promise.allSettled(
      Array.from({ length: lanes }, () => sweepDue(database, start, finalCheckpoints)),
    );
    let more = false;
    for (const done of rounds) {
      if (done.status === "fulfilled") {
        tell(done.value.swept);
        more ||= done.value.more;
      }
    }
    const failed = rounds.find(({ status }) => status === "rejected");
    if (failed?.status === "rejected") throw failed.reason;
    fails = false;
    lanes = more ? mostLanes : 1;
    if (!more) end();
    return more;
  };
  const tell = (swept: readonly Swept[]) => {
    for (const { outcome, from, session } of swept) {
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      if (outcome !== "deleted") onTransition({ context: undefined, from, session });
    }
    if (swept.length > 0) appended();
  };
  const end = () => {
    onEnd({ outcomes, seconds: (performance.now() - (began ?? performance.now())) / 1_000 });
    outcomes = {};
    began = undefined;
  };
  const task = () =>
    round().catch((error: unknown) => {
      if (!fails) onError(error);
      fails = true;
      lanes = 1;
      end();
      return false;
    });
  return startLoop({ task, everyMs, onError });
}
