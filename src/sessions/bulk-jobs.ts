/**
 * Bulk jobs: the same done to all sessions that a filter finds. Here they are asked for, shown and cancelled; what they do
 * is done by a batch at a time (see bulk-step.ts).
 *
 *   a dry run ──token──► queued ──► running ──► completed
 *                          │           ├──────► cancelled
 *                          │           └──────► failed
 *                          └──────────────────► cancelled
 */

import type { Queries } from "../db/client.ts";
import { rfc3339 } from "../db/time.ts";
import type { Target } from "./actions.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";
import type { DetailName, Settings } from "./fields.ts";
import { findPlaces } from "./find.ts";
import { countSessions } from "./find-count.ts";
import type { Place, SessionFilter } from "./find-query.ts";

/** What is done to each session. It is kept as JSON. */
export type BulkChange =
  | { readonly action: "delete"; readonly hard: boolean }
  | {
      readonly action: "update";
      readonly settings?: Settings | undefined;
      /** JSON texts. */
      readonly details?: readonly (readonly [DetailName, string])[] | undefined;
    }
  | { readonly action: "transition"; readonly state: Target; readonly reason?: string | undefined };

export type BulkAction = BulkChange["action"];

export const bulkStates = ["queued", "running", "completed", "cancelled", "failed"] as const;
export type BulkState = (typeof bulkStates)[number];

/** As the database has it; times as text. */
export interface BulkJob {
  readonly id: string;
  readonly action: BulkAction;
  readonly state: BulkState;
  /** How many sessions there were when it was asked for. */
  readonly planned: number;
  readonly changed: number;
  readonly unchanged: number;
  readonly refused: number;
  readonly cancel_requested: boolean;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly error: string | null;
}

/** What a job would do. */
export interface BulkDryRun {
  /** Of the job that it may become. */
  readonly jobId: string;
  /** Sessions that are made from then on are not meant (RFC 3339). */
  readonly asOf: string;
  /** Until when it may become a job (RFC 3339). */
  readonly expiresAt: string;
  readonly count: number;
  /** The ids of the newest of them. */
  readonly sample: readonly string[];
}

/** A job that begins with what a dry run has said. */
export interface NewBulkJob extends Pick<BulkDryRun, "jobId" | "asOf" | "count"> {
  readonly filter: SessionFilter;
  readonly change: BulkChange;
}

/** What became of a session: the words beside the first two say why it was left as it is. */
export const bulkOutcomes = ["changed", "unchanged", "not_matching", "legal_hold", "invalid_transition"] as const;
export type BulkOutcome = (typeof bulkOutcomes)[number];

export interface BulkResult {
  readonly number: number;
  readonly session_id: string;
  readonly outcome: BulkOutcome;
}

export interface BulkJobs {
  /** Tells what a job would do, and changes nothing. */
  dryRunBulk(context: RequestContext, filter: SessionFilter): Promise<BulkDryRun>;
  /**
   * Begins the job of a dry run; gives the one that there is when it has begun already. Undefined when the dry run is too
   * old, or was never made.
   */
  startBulk(context: RequestContext, job: NewBulkJob): Promise<BulkJob | undefined>;
  /** Undefined when there is no such job, as for the others. */
  readBulkJob(context: RequestContext, id: string): Promise<BulkJob | undefined>;
  /** Newest first; one more than the limit where there are more. */
  listBulkJobs(
    context: RequestContext,
    query: { readonly limit: number; readonly after?: Place | undefined },
  ): Promise<readonly BulkJob[]>;
  /** Asks a job to stop before its next batch; says nothing to one that has ended. */
  cancelBulkJob(context: RequestContext, id: string): Promise<BulkJob | undefined>;
  /** What became of each session, in the order in which it was done; one more than the limit where there are more. */
  listBulkResults(
    context: RequestContext,
    query: { readonly id: string; readonly limit: number; readonly after: number },
  ): Promise<readonly BulkResult[] | undefined>;
}

/** For how long a dry run may become a job. */
const minutesOfDryRun = 15;

const sampleSize = 10;

const columns = (job: string) =>
  `${job}.id, ${job}.action, ${job}.state, ${job}.planned, ${job}.changed, ${job}.unchanged, ${job}.refused,
    ${job}.cancel_requested, ${job}.created_at::text, ${job}.started_at::text, ${job}.finished_at::text, ${job}.error`;

const dryRunStatement = `
  select now::text as as_of, (now + interval '${minutesOfDryRun} minutes')::text as expires_at from clock_timestamp() now`;

const startStatement = `
  insert into bulk_jobs as j (namespace, id, action, filter, change, as_of, planned, metadata, created_at)
  select $1, $2::text::uuid, $3, $4::text::jsonb, $5::text::jsonb, $6::text::timestamptz, $7::text::int, $8::text::jsonb, now
  from clock_timestamp() now
  where now between $6::text::timestamptz and $6::text::timestamptz + interval '${minutesOfDryRun} minutes'
  on conflict (namespace, id) do update set id = excluded.id -- waits for who begins it at the same time, and reads it
  returning ${columns("j")}`;

const readStatement = `select ${columns("j")} from bulk_jobs j where j.namespace = $1 and j.id = $2::text::uuid`;

const listStatement = `
  select ${columns("j")} from bulk_jobs j
  where j.namespace = $1 and (j.created_at, j.id) < ($2::text::timestamptz, $3::text::uuid)
  order by j.created_at desc, j.id desc
  limit $4::text::int`;

/* What nobody has begun ends at once; who is at it asks with each batch. */
const cancelStatement = `
  with asked as (
    update bulk_jobs set
      cancel_requested = true,
      state = case state when 'queued' then 'cancelled' else state end,
      finished_at = case state when 'queued' then clock_timestamp() end
    where namespace = $1 and id = $2::text::uuid and state in ('queued', 'running')
    returning *
  )
  select ${columns("j")}
  from (
    select * from asked
    union all
    select * from bulk_jobs where namespace = $1 and id = $2::text::uuid and not exists (select from asked)
  ) j`;

const resultsStatement = `
  select r.number, r.session_id, r.outcome
  from bulk_jobs j left join lateral (
    select number, session_id, outcome from bulk_results
    where namespace = j.namespace and job_id = j.id and number > $3::text::int
    order by number
    limit $4::text::int
  ) r on true
  where j.namespace = $1 and j.id = $2::text::uuid
  order by r.number`;

/** @param database the pool, or a transaction: the commands are then part of it */
export function openBulkJobs(database: Queries): BulkJobs {
  return {
    dryRunBulk: (context, filter) => dryRun(database, context, filter),
    startBulk: (context, job) => start(database, context, job),
    readBulkJob: (context, id) => read(database, context, id),
    listBulkJobs: (context, { limit, after = { key: "infinity", id: noId } }) =>
      database.query<BulkJob>(listStatement, [context.namespace, after.key, after.id, String(limit + 1)], {
        neverWaits: true,
      }),
    async cancelBulkJob(context, id) {
      const [job] = await database.query<BulkJob>(cancelStatement, [context.namespace, id]);
      return job;
    },
    async listBulkResults(context, { id, limit, after }) {
      const parameters = [context.namespace, id, String(after), String(limit + 1)];
      type Row = BulkResult | { readonly number: null };
      const rows = await database.query<Row>(resultsStatement, parameters, { neverWaits: true });
      return rows.length === 0 ? undefined : rows.filter((row) => row.number !== null);
    },
  };
}

/** Any will do: no time is as late as the one that it stands beside. */
const noId = "00000000-0000-0000-0000-000000000000";

async function read(database: Queries, context: RequestContext, id: string): Promise<BulkJob | undefined> {
  const [job] = await database.query<BulkJob>(readStatement, [context.namespace, id], { neverWaits: true });
  return job;
}

/** What the filter finds of the sessions that were there at a time. */
function asOfThen(filter: SessionFilter, asOf: string): SessionFilter {
  const { createdBefore } = filter;
  // Both are in UTC, with microseconds: they compare as texts do.
  return createdBefore !== undefined && createdBefore < asOf ? filter : { ...filter, createdBefore: asOf };
}

async function dryRun(database: Queries, context: RequestContext, filter: SessionFilter): Promise<BulkDryRun> {
  const [time] = await database.query<{ as_of: string; expires_at: string }>(dryRunStatement, [], { neverWaits: true });
  if (time === undefined) throw new Error("the database gave no time");
  const asOf = rfc3339(time.as_of);
  const meant = asOfThen(filter, asOf);
  const count = await countSessions(database, context, meant);
  const sample = await newest(database, context, meant, Math.min(count, sampleSize));
  return { jobId: newId(), asOf, expiresAt: rfc3339(time.expires_at), count, sample };
}

async function newest(
  database: Queries,
  context: RequestContext,
  filter: SessionFilter,
  most: number,
): Promise<string[]> {
  const ids: string[] = [];
  let after: Place | undefined;
  while (ids.length < most) {
    const page = await findPlaces(database, context, { filter, limit: most - ids.length, after });
    ids.push(...page.sessions.flatMap(({ place_id: id }) => id ?? []));
    if (page.next === undefined) break;
    after = page.next;
  }
  return ids;
}

async function start(
  database: Queries,
  context: RequestContext,
  { jobId, asOf, count, filter, change }: NewBulkJob,
): Promise<BulkJob | undefined> {
  const [job] = await database.query<BulkJob>(startStatement, [
    context.namespace,
    jobId,
    change.action,
    JSON.stringify(asOfThen(filter, asOf)),
    JSON.stringify(change),
    asOf,
    String(count),
    eventMetadata(context),
  ]);
  // Too late to begin it is not too late to hear of it.
  return job ?? read(database, context, jobId);
}
