/** Does what was asked of many sessions at once, a batch at a time. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Database } from "../db/client.ts";
import { ServiceError } from "../service-error.ts";
import { bulkStep, failBulkJob } from "../sessions/bulk-step.ts";
import { type HeldJob, JobLost, releaseBulkJob, removeOldJobs, takeBulkJob } from "../sessions/bulk-work.ts";
import type { FinalCheckpoints } from "../sessions/checkpoint-history.ts";
import { newId } from "../sessions/context.ts";
import type { Transition } from "../sessions/transition-log.ts";
import { type Loop, startLoop } from "./loop.ts";

export interface BulkJobsOptions {
  readonly database: Database;
  /** Of which sessions a last checkpoint is saved. */
  readonly finalCheckpoints: FinalCheckpoints;
  /** Called after a session was taken from one phase to another. */
  readonly onTransition: (transition: Transition) => void;
  /** Called after events were committed: they wait to be published. */
  readonly appended: () => void;
  /** Called after the removal of sessions was asked for. */
  readonly purgeRequested: () => void;
  /** @param jobId of the job that waits, or has failed */
  readonly onError: (error: unknown, jobId: string | undefined) => void;
  readonly everyMs?: number;
}

/** For what other processes were asked, and did not live to do: an idle look is one search of a small index. */
const defaultEveryMs = 2_000;

/** After each batch it rests so many times as long as that took: while others create sessions, they lose 10 to 17 % by it. */
const restsFor = 4;
const longestRestMs = 5_000;

/** Jobs are kept for days: when they go does not matter to the minute. */
const removesEveryMs = 10 * 60_000;

/** Starts to look for bulk jobs. Any number of processes may do so: each is at one job at a time, and no two at the same. */
export function startBulkJobs(options: BulkJobsOptions): Loop {
  const { database, onError, everyMs = defaultEveryMs } = options;
  const holder = newId();
  let job: HeldJob | undefined;
  let removesAt = performance.now();

  const remove = async () => {
    if (performance.now() < removesAt) return false;
    const more = await removeOldJobs(database);
    if (!more) removesAt = performance.now() + removesEveryMs;
    return more;
  };

  const task = async (signal: AbortSignal) => {
    job ??= await takeBulkJob(database, holder);
    if (job === undefined) return remove();
    const began = performance.now();
    const current = job;
    // Until it is known what came of this batch: what fails is taken up again later, and does not keep others waiting.
    job = undefined;
    try {
      job = await runBatch(options, current);
    } catch (error) {
      if (error instanceof JobLost) return true;
      onError(error, current.id);
      if (isPassing(error)) return false;
      await failBulkJob(database, current, "It is a defect of the service; its log has more under the job's id.");
      return true;
    }
    const restMs = Math.min((performance.now() - began) * restsFor, longestRestMs);
    await sleep(restMs, undefined, { signal, ref: false }).catch(() => {});
    return true;
  };
  const loop = startLoop({ task, everyMs, onError: (error) => onError(error, undefined) });
  // At once: another process may have been killed in the middle of one.
  loop.wake();
  return {
    wake: loop.wake,
    async stop() {
      await loop.stop();
      if (job !== undefined) await releaseBulkJob(database, job).catch(() => {});
    },
  };
}

/** @returns the job as it stands; undefined when it has ended */
async function runBatch(
  { database, finalCheckpoints, onTransition, appended, purgeRequested }: BulkJobsOptions,
  job: HeldJob,
): Promise<HeldJob | undefined> {
  const step = await bulkStep(database, job, finalCheckpoints);
  if (step.changed) appended();
  if (step.purges) purgeRequested();
  for (const transition of step.transitions) onTransition(transition);
  return step.job;
}

/** The database is away, or somebody has kept a session locked for long. */
function isPassing(error: unknown): boolean {
  return error instanceof ServiceError && error.status === 503;
}
