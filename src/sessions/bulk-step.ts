/**
 * A batch of a bulk job: the next sessions that the filter finds are locked, looked at again, changed, and written into the
 * results, in one transaction. So what the job says is what has happened, also when the process dies in the middle.
 *
 * The batches go by the time at which sessions were created, downward from the time of the dry run: whatever a change does
 * to what the filter asks for, each session is looked at once.
 */

import type { Database, Queries } from "../db/client.ts";
import { rfc3339 } from "../db/time.ts";
import type { BulkChange, BulkOutcome } from "./bulk-jobs.ts";
import { type BulkProgress, type HeldJob, keepProgress, renewBulkJob } from "./bulk-work.ts";
import type { SessionChange } from "./change-input.ts";
import { type FinalCheckpoints, finalPhases } from "./checkpoint-history.ts";
import { deleteSessions } from "./delete.ts";
import { findPlaces } from "./find.ts";
import { filterText, newestFirst, type Place } from "./find-query.ts";
import { isAskedFor, withFilter } from "./find-sources.ts";
import { weight } from "./read.ts";
import type { Transition } from "./transition-log.ts";
import { type ChangeResult, updateSessions } from "./update.ts";

export interface BulkStep {
  /** The job as it stands; undefined when it has ended. */
  readonly job: HeldJob | undefined;
  /** Whether events wait to be published. */
  readonly changed: boolean;
  /** Whether sessions wait to be removed for good. */
  readonly purges: boolean;
  readonly transitions: readonly Transition[];
}

/** As many take some 30 ms: nobody waits long for one of the rows. */
const batchSize = 100;

/** What is changed comes back with its documents: fewer at a time are changed that are large, or with what is large. */
const batchBytes = 4 * 1024 * 1024;

/** How many sessions a batch has at most: what is written to each is sent once for each. */
function sizeOf(change: BulkChange): number {
  const details = change.action === "update" ? (change.details ?? []) : [];
  const bytes = details.reduce((sum, [, text]) => sum + text.length, 1);
  return Math.max(1, Math.min(batchSize, Math.floor(batchBytes / bytes)));
}

const lockStatement = (whenLocked: "" | "skip locked") => `${withFilter}
  select s.id, (${weight})::float8 as bytes, ${isAskedFor} as is_asked_for
  from f cross join (
    select * from sessions
    where namespace = $1 and id = any($3::text::uuid[])
    order by id
    for no key update ${whenLocked}
  ) s`;

const lockStatements = { waiting: lockStatement(""), skipping: lockStatement("skip locked") };

interface LockedRow {
  readonly id: string;
  readonly bytes: number;
  readonly is_asked_for: boolean;
}

/** A session that was found, and its place in the order of the job. */
interface Found {
  readonly id: string;
  readonly place: Place;
}

/**
 * Does the next batch of a job.
 *
 * @param finalCheckpoints of which sessions a last checkpoint is saved
 * @throws JobLost when another process has taken the job over: nothing was done then
 */
export async function bulkStep(
  database: Database,
  job: HeldJob,
  finalCheckpoints: FinalCheckpoints,
): Promise<BulkStep> {
  const { context, filter, change, place } = job;
  if (await renewBulkJob(database, job)) return ended(database, job, { results: [], place, state: "cancelled" });
  const page = await findPlaces(database, context, { filter, limit: sizeOf(change), after: place });
  const found = page.sessions.flatMap(({ place_id: id, place_key: key }): Found[] =>
    id === null ? [] : [{ id, place: { key: rfc3339(key), id } }],
  );
  if (found.length === 0) {
    if (page.next === undefined) return ended(database, job, { results: [], place, state: "completed" });
    const kept = await keepProgress(database, job, { results: [], place: page.next, state: "running" });
    return { job: kept, ...nothing };
  }
  const run = (sessions: readonly Found[], wait: boolean) =>
    database.transaction((transaction) =>
      batch(transaction, { job, sessions, wait, finalCheckpoints, next: page.next, isPage: sessions === found }),
    );
  // One that somebody else is changing is waited for, but not with the locks of the others in hand.
  return (await run(found, false)) ?? (await run(found.slice(0, 1), true)) ?? { job, ...nothing };
}

const nothing = { changed: false, purges: false, transitions: [] };

/**
 * Ends a job.
 *
 * @throws JobLost
 */
export async function failBulkJob(database: Queries, job: HeldJob, error: string): Promise<void> {
  await keepProgress(database, job, { results: [], place: job.place, state: "failed", error });
}

async function ended(database: Queries, job: HeldJob, progress: BulkProgress): Promise<BulkStep> {
  await keepProgress(database, job, progress);
  return { job: undefined, ...nothing };
}

interface Batch {
  readonly job: HeldJob;
  readonly sessions: readonly Found[];
  /** Whether to wait for what somebody else is changing. */
  readonly wait: boolean;
  readonly finalCheckpoints: FinalCheckpoints;
  /** Where the page after these goes on, where they are one. */
  readonly next: Place | undefined;
  readonly isPage: boolean;
}

/**
 * Changes the first of the sessions, up to one that somebody else is changing.
 *
 * @returns undefined when that is the first: nothing was done
 */
async function batch(
  transaction: Queries,
  { job, sessions, wait, finalCheckpoints, next, isPage }: Batch,
): Promise<BulkStep | undefined> {
  const { context, filter, change } = job;
  const rows = await transaction.query<LockedRow>(lockStatements[wait ? "waiting" : "skipping"], [
    context.namespace,
    filterText(filter, newestFirst, undefined),
    `{${sessions.map(({ id }) => id).join(",")}}`,
  ]);
  const locked = new Map(rows.map((row) => [row.id, row]));
  const bytes = change.action === "delete" ? Number.POSITIVE_INFINITY : batchBytes;
  const ready = wait ? sessions : readyOnes(sessions, locked, bytes);
  const last = ready.at(-1);
  if (last === undefined) return undefined;
  const matching = ready.map(({ id }) => id).filter((id) => locked.get(id)?.is_asked_for === true);
  const done = await apply(transaction, job, matching, finalCheckpoints);
  const results = ready.map(({ id }) => ({ id, outcome: done.outcomes.get(id) ?? "not_matching" }));
  const isWhole = isPage && ready.length === sessions.length;
  const place = isWhole ? next : last.place;
  const kept = await keepProgress(transaction, job, {
    results,
    place: place ?? last.place,
    state: place === undefined ? "completed" : "running",
  });
  const changed = results.some(({ outcome }) => outcome === "changed");
  return {
    job: place === undefined ? undefined : kept,
    changed,
    purges: changed && change.action === "delete" && change.hard,
    transitions: done.transitions,
  };
}

/** Those before the first that is not locked, or is too much. */
function readyOnes(
  sessions: readonly Found[],
  locked: ReadonlyMap<string, LockedRow>,
  mostBytes: number,
): readonly Found[] {
  let bytes = 0;
  const end = sessions.findIndex(({ id }, at) => {
    const row = locked.get(id);
    bytes += row?.bytes ?? 0;
    return row === undefined || (at > 0 && bytes > mostBytes);
  });
  return end < 0 ? sessions : sessions.slice(0, end);
}

interface Applied {
  readonly outcomes: ReadonlyMap<string, BulkOutcome>;
  readonly transitions: readonly Transition[];
}

/** @param ids of sessions that are locked, and that the filter asks for */
async function apply(
  transaction: Queries,
  { context, change }: HeldJob,
  ids: readonly string[],
  finalCheckpoints: FinalCheckpoints,
): Promise<Applied> {
  if (change.action === "delete") {
    const { hard } = change;
    const results = await deleteSessions(
      transaction,
      ids.map((id) => ({ context, input: { id, hard } })),
    );
    const outcomes = results.map((result): BulkOutcome => {
      if (result.outcome === "ok") return result.changed || result.purges ? "changed" : "unchanged";
      return result.outcome === "legal_hold" ? "legal_hold" : "not_matching";
    });
    return { outcomes: byId(ids, outcomes), transitions: [] };
  }
  const wanted = changeOf(change, finalCheckpoints);
  const results = await updateSessions(
    transaction,
    ids.map((id) => ({ context, input: { ...wanted, id } })),
  );
  const transitions = results.flatMap((result): Transition[] => {
    if (result?.outcome !== "ok" || !result.changed || result.from === result.session.phase) return [];
    return [{ context, from: result.from, session: result.session }];
  });
  return { outcomes: byId(ids, results.map(outcomeOf)), transitions };
}

function changeOf(
  change: Exclude<BulkChange, { action: "delete" }>,
  finalCheckpoints: FinalCheckpoints,
): Omit<SessionChange, "id"> {
  if (change.action === "update") {
    return { settings: change.settings, details: change.details && new Map(change.details) };
  }
  const { state, reason } = change;
  return { state, reason, finalPhases: finalPhases[finalCheckpoints] };
}

function outcomeOf(result: ChangeResult | undefined): BulkOutcome {
  switch (result?.outcome) {
    case "ok":
      return result.changed ? "changed" : "unchanged";
    case "conflict":
      return "invalid_transition";
    case "not_found":
      return "not_matching";
    default:
      throw new Error(`a change that names nothing of the session was refused: ${result?.outcome}`);
  }
}

function byId(ids: readonly string[], outcomes: readonly BulkOutcome[]): ReadonlyMap<string, BulkOutcome> {
  return new Map(outcomes.map((outcome, at) => [ids[at] ?? "", outcome]));
}
