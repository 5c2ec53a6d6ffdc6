/** Bulk jobs as answers spell them. */

import { rfc3339 } from "../db/time.ts";
import type { BulkJob, BulkOutcome, BulkResult } from "../sessions/bulk-jobs.ts";

function time(utc: string | null): string | null {
  return utc === null ? null : rfc3339(utc);
}

function shown(job: BulkJob): object {
  const { id, action, state, planned, changed, unchanged, refused } = job;
  return {
    id,
    action,
    state,
    planned,
    changed,
    unchanged,
    refused,
    created_at: time(job.created_at),
    started_at: time(job.started_at),
    finished_at: time(job.finished_at),
    cancel_requested: job.cancel_requested,
    error: job.error,
  };
}

/** A job as JSON text. */
export function jobText(job: BulkJob): string {
  return JSON.stringify(shown(job));
}

/** A page of jobs: a bare JSON array. */
export function jobsText(jobs: readonly BulkJob[]): string {
  return JSON.stringify(jobs.map(shown));
}

/** How each outcome counts. */
const kinds: Readonly<Record<BulkOutcome, "changed" | "unchanged" | "refused">> = {
  changed: "changed",
  unchanged: "unchanged",
  not_matching: "unchanged",
  legal_hold: "refused",
  invalid_transition: "refused",
};

/** A page of results: a bare JSON array. */
export function resultsText(results: readonly BulkResult[]): string {
  const each = results.map(({ session_id, outcome }) => {
    const kind = kinds[outcome];
    return { session_id, outcome: kind, reason: kind === outcome ? null : outcome };
  });
  return JSON.stringify(each);
}
