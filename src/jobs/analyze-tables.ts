/** Lets the planner know of tables that grow faster than PostgreSQL looks: new ones, and restored ones. */

import type { Database } from "../db/client.ts";
import { analyzeTable, outgrownTables } from "../db/statistics.ts";
import { type Loop, startLoop } from "./loop.ts";

export interface AnalysisOptions {
  readonly database: Database;
  /** Where tables are analyzed: with a deadline that allows for a large one. */
  readonly patient: Database;
  /** Called once, until it works again. */
  readonly onError: (error: unknown) => void;
  readonly everyMs?: number;
  readonly restMs?: number;
}

/** A look costs 0.1 ms. Thousands of sessions may be created in a second, so a minute is too long for a new table. */
const defaultEveryMs = 1_000;

/** After a failure: a table that can't be analyzed in time must not be tried again each second. */
const defaultRestMs = 60_000;

/**
 * Starts to look for tables that have outgrown their statistics, and analyzes them. Several processes may: what one
 * analyzes the others pass by, and then find done.
 */
export function startAnalysis(options: AnalysisOptions): Loop {
  const { database, patient, onError, everyMs = defaultEveryMs, restMs = defaultRestMs } = options;
  let restsUntil = 0;
  let fails = false;
  const look = async () => {
    for (const { name, is_ours } of await outgrownTables(database)) {
      if (!is_ours) {
        throw new Error(`The database's user does not own the table ${name}: let its owner run ANALYZE ${name}.`);
      }
      await analyzeTable(patient, name);
    }
  };
  const task = async (signal: AbortSignal) => {
    if (performance.now() < restsUntil) return false;
    try {
      await look();
      fails = false;
    } catch (error) {
      if (!fails && !signal.aborted) onError(error);
      fails = true;
      restsUntil = performance.now() + restMs;
    }
    return false;
  };
  const loop = startLoop({ task, everyMs, onError });
  // At once: the database may have been restored while nobody was there.
  loop.wake();
  return loop;
}
