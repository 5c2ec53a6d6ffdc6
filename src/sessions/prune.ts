/** Pruning the checkpoints of one session because somebody asks for it, and telling what that would remove. */

import type { Queries } from "../db/client.ts";
import {
  type KeepRules,
  mostLooks,
  newestFirst,
  type PruneMode,
  type PrunePlace,
  pruneStep,
} from "./checkpoint-retention.ts";
import type { RequestContext } from "./context.ts";

export interface Prune {
  readonly id: string;
  /** Of what neither the caller nor the session says. */
  readonly defaults: KeepRules;
  /** What goes before the session's own rules. */
  readonly rules: Partial<KeepRules>;
  /** Whether it is only told what would be removed. */
  readonly dryRun: boolean;
  /** The versions that If-Match names; undefined: any. */
  readonly expectedVersions?: readonly number[] | undefined;
  /** The fencing token of the lease that the caller believes to hold. */
  readonly leaseToken?: number | undefined;
}

export interface Pruned {
  readonly outcome: "ok";
  /** How many were removed, or would be. */
  readonly deleted: number;
  readonly bytes: number;
  /** How many are left, or would be. */
  readonly kept: number;
  /** Those that were removed, newest first. */
  readonly numbers: readonly number[];
  /** Whether the time was up before all had been looked at. */
  readonly more: boolean;
}

export type PruneResult = Pruned | { readonly outcome: "not_found" | "legal_hold" | "lease_lost" | "stale" };

/** Each step locks the row for some 10 ms, unless all of it is one transaction: then that is how long others wait. */
const mostMs = 1_000;

const size = { looks: mostLooks, removals: mostLooks, bytes: 32 * 1024 * 1024 };

/** So often in a row it is begun again because others remove checkpoints of the same session. */
const mostRestarts = 20;

/**
 * Removes the checkpoints that no rule keeps, in steps, for a second at most: a session may have millions. What it tells is
 * what it did.
 */
export async function pruneCheckpoints(
  database: Queries,
  { namespace }: RequestContext,
  { id, defaults, rules, dryRun, expectedVersions, leaseToken }: Prune,
): Promise<PruneResult> {
  const mode: PruneMode = dryRun ? "look" : "ask";
  const until = performance.now() + mostMs;
  const numbers: number[] = [];
  let bytes = 0;
  let count = 0;
  let place: PrunePlace = newestFirst;
  // What has been let in once is let go on: the session may get a new version meanwhile.
  let conditions: Pick<Prune, "expectedVersions" | "leaseToken"> = { expectedVersions, leaseToken };
  for (let restarts = 0; ; ) {
    const step = await pruneStep(database, namespace, { id, defaults, rules, place, size, ...conditions }, mode);
    if (step.outcome === "disturbed") {
      if (dryRun) reset();
      count = step.count;
      place = newestFirst;
      if (++restarts > mostRestarts) return told(true);
      continue;
    }
    if (step.outcome !== "ok") {
      const isBegun = numbers.length > 0 && !dryRun;
      return isBegun ? told(true) : { outcome: step.outcome };
    }
    for (const number of step.numbers) numbers.push(number);
    bytes += step.bytes;
    count = dryRun ? step.count - numbers.length : step.count - step.numbers.length;
    place = step.place;
    conditions = {};
    if (step.ended || performance.now() > until) return told(!step.ended);
  }

  function told(more: boolean): Pruned {
    return { outcome: "ok", deleted: numbers.length, bytes, kept: count, numbers, more };
  }

  function reset(): void {
    numbers.length = 0;
    bytes = 0;
  }
}
