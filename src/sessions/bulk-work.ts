/** Which process is at a bulk job, and what is kept of how far it has come. */

import type { Queries } from "../db/client.ts";
import { rfc3339 } from "../db/time.ts";
import type { BulkChange, BulkOutcome, BulkState } from "./bulk-jobs.ts";
import type { RequestContext } from "./context.ts";
import type { Place, SessionFilter } from "./find-query.ts";

/** A job that this process is at. */
export interface HeldJob {
  readonly id: string;
  /** The process. */
  readonly holder: string;
  /** On whose behalf: as the request said that asked for it. */
  readonly context: RequestContext;
  readonly filter: SessionFilter;
  readonly change: BulkChange;
  /** The session that was looked at last; undefined before the first. */
  readonly place: Place | undefined;
}

/** What a batch has come to. */
export interface BulkProgress {
  readonly results: readonly { readonly id: string; readonly outcome: BulkOutcome }[];
  readonly place: Place | undefined;
  /** What the job is afterwards. */
  readonly state: Exclude<BulkState, "queued">;
  /** `failed`: why, as a sentence. */
  readonly error?: string;
}

/** Another process has taken the job over: what this one has begun of it must not be committed. */
export class JobLost extends Error {
  constructor() {
    super("the job is somebody else's by now");
  }
}

/** A batch takes some 50 ms, or as long as a statement may; what a killed process was at is gone on with after this. */
const held = "clock_timestamp() + interval '10 seconds'";

const takeStatement = `
  update bulk_jobs j set
    holder = $1::text::uuid,
    held_until = ${held},
    state = 'running',
    started_at = coalesce(j.started_at, clock_timestamp())
  from (
    select namespace, id from bulk_jobs
    where state in ('queued', 'running') and (held_until is null or held_until < clock_timestamp())
    order by created_at
    limit 1
    for update skip locked
  ) due
  where j.namespace = due.namespace and j.id = due.id
  returning j.namespace, j.id, j.filter::text, j.change::text, j.metadata::text, j.place_created_at::text, j.place_id`;

interface TakenRow {
  readonly namespace: string;
  readonly id: string;
  readonly filter: string;
  readonly change: string;
  readonly metadata: string;
  readonly place_created_at: string | null;
  readonly place_id: string | null;
}

/** Takes the oldest job that nobody is at, for as long as its progress is kept every few seconds. */
export async function takeBulkJob(database: Queries, holder: string): Promise<HeldJob | undefined> {
  const [row] = await database.query<TakenRow>(takeStatement, [holder]);
  if (row === undefined) return undefined;
  const { place_created_at: at, place_id: placeId } = row;
  return {
    id: row.id,
    holder,
    context: contextOf(row.namespace, row.metadata),
    filter: JSON.parse(row.filter) as SessionFilter,
    change: JSON.parse(row.change) as BulkChange,
    place: at === null || placeId === null ? undefined : { key: rfc3339(at), id: placeId },
  };
}

/** As `eventMetadata` wrote it. */
function contextOf(namespace: string, metadata: string): RequestContext {
  const said = JSON.parse(metadata) as Readonly<Record<string, string | undefined>>;
  const { request_id: requestId = "", actor, correlation_id: correlationId, traceparent } = said;
  return {
    namespace,
    requestId,
    ...(actor !== undefined && { actor }),
    ...(correlationId !== undefined && { correlationId }),
    ...(traceparent !== undefined && { traceparent }),
  };
}

const renewStatement = `
  update bulk_jobs set held_until = ${held}
  where namespace = $1 and id = $2::text::uuid and holder = $3::text::uuid and state = 'running'
  returning cancel_requested`;

/**
 * Holds the job for longer.
 *
 * @returns whether it is to stop
 * @throws JobLost
 */
export async function renewBulkJob(database: Queries, { id, holder, context }: HeldJob): Promise<boolean> {
  const parameters = [context.namespace, id, holder];
  const [row] = await database.query<{ readonly cancel_requested: boolean }>(renewStatement, parameters);
  if (row === undefined) throw new JobLost();
  return row.cancel_requested;
}

const releaseStatement = `
  update bulk_jobs set held_until = clock_timestamp()
  where namespace = $1 and id = $2::text::uuid and holder = $3::text::uuid and state = 'running'`;

/** Lets another process go on with the job at once. */
export async function releaseBulkJob(database: Queries, { id, holder, context }: HeldJob): Promise<void> {
  await database.query(releaseStatement, [context.namespace, id, holder]);
}

const progressStatement = `
  with done as materialized (
    select session_id, outcome, number
    from jsonb_array_elements($4::text::jsonb) with ordinality as e (result, number)
    cross join lateral jsonb_to_record(result) as r (session_id uuid, outcome text)
  ), counts as materialized (
    select count(*)::int as all_of_them, (count(*) filter (where outcome = 'changed'))::int as changed,
      (count(*) filter (where outcome in ('unchanged', 'not_matching')))::int as unchanged
    from done
  ), progress as (
    update bulk_jobs j set
      changed = j.changed + c.changed,
      unchanged = j.unchanged + c.unchanged,
      refused = j.refused + c.all_of_them - c.changed - c.unchanged,
      place_created_at = $5::text::timestamptz,
      place_id = $6::text::uuid,
      state = $7,
      error = $8,
      finished_at = case when $7 <> 'running' then clock_timestamp() end,
      held_until = case when $7 = 'running' then ${held} end
    from counts c
    where j.namespace = $1 and j.id = $2::text::uuid and j.holder = $3::text::uuid and j.state = 'running'
    returning j.changed + j.unchanged + j.refused - c.all_of_them as before
  ), kept as (
    insert into bulk_results (namespace, job_id, number, session_id, outcome)
    select $1, $2::text::uuid, p.before + d.number, d.session_id, d.outcome from done d cross join progress p
  )
  select 1 from progress`;

/**
 * Keeps what a batch has come to, in the transaction of the batch.
 *
 * @returns the job as it stands
 * @throws JobLost
 */
export async function keepProgress(
  database: Queries,
  job: HeldJob,
  { results, place, state, error }: BulkProgress,
): Promise<HeldJob> {
  const rows = await database.query(progressStatement, [
    job.context.namespace,
    job.id,
    job.holder,
    JSON.stringify(results.map(({ id, outcome }) => ({ session_id: id, outcome }))),
    place?.key ?? null,
    place?.id ?? null,
    state,
    error ?? null,
  ]);
  if (rows.length === 0) throw new JobLost();
  return { ...job, place };
}

/** For how long a job is kept after its end. */
const keptDays = 30;

/** So many results are removed at a time: a statement takes some milliseconds. */
const removedAtOnce = 1_000;

/* Jobs are few: all of them are looked at. The job goes once its last results are gone. */
const removeStatement = `
  with old as materialized (
    select namespace, id from bulk_jobs
    where finished_at < now() - interval '${keptDays} days'
    order by finished_at
    limit 1
    for update skip locked
  ), batch as materialized (
    select r.namespace, r.job_id, r.number from old o cross join lateral (
      select namespace, job_id, number from bulk_results where namespace = o.namespace and job_id = o.id
      order by number
      limit ${removedAtOnce}
    ) r
  ), removed as (
    delete from bulk_results r using batch b
    where r.namespace = b.namespace and r.job_id = b.job_id and r.number = b.number
    returning 1
  ), gone as (
    delete from bulk_jobs j using old o
    where j.namespace = o.namespace and j.id = o.id and (select count(*) from batch) < ${removedAtOnce}
    returning 1
  )
  select exists (select from old) as more`;

/**
 * Removes a batch of what is kept of a job that ended long ago. Any number of processes may do this at once.
 *
 * @returns whether there may be more
 */
export async function removeOldJobs(database: Queries): Promise<boolean> {
  const [row] = await database.query<{ readonly more: boolean }>(removeStatement);
  return row?.more === true;
}
