/**
 * Claiming sessions: each worker that asks gets one that waits, the one that has waited longest, with a lease. Sessions
 * that are being changed, or claimed, by somebody else are passed over, so no two workers get the same.
 */

import type { Queries } from "../db/client.ts";
import { columnsBefore } from "./change-statement.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";
import type { Phase } from "./lifecycle.ts";
import { moveSessions } from "./move-statement.ts";
import { isHeavy, readSessions } from "./read.ts";
import { type SessionRow, sessionColumns } from "./row.ts";

/** Which sessions a worker takes; what is undefined does not matter. */
export interface ClaimFilter {
  readonly agentId?: string | undefined;
  readonly sessionType?: string | undefined;
  readonly runtimeBackend?: string | undefined;
  /** JSON text of an object of texts, each of which the session must have. */
  readonly labels?: string | undefined;
}

/** A worker's wish for a session. */
export interface Claim {
  readonly workerId: string;
  /** For how long the lease is good, from the claim and from each heartbeat on. */
  readonly leaseSeconds: number;
  readonly filter: ClaimFilter;
}

export interface ClaimedSession {
  readonly session: SessionRow;
  /** The fencing token of the lease. */
  readonly leaseToken: number;
  /** The phase that it had before. */
  readonly from: Phase;
}

/** How many workers one statement serves at most. */
export const mostClaims = 64;

/*
 * What may be claimed, if its time has come.
 *
 * All conditions stand where the rows are locked, so that they hold of a session as somebody else has left it by then.
 */
const claimable = `deleted_at is null and lease_owner is null
      and (phase = 'pending' or phase = 'crashed' and auto_recover or phase in ('paused', 'stopped') and auto_resume)
      and (scheduled_at is null or scheduled_at <= statement_timestamp())`;

/** The time of the statement: an index is not read by one that moves on meanwhile. */
const now = "(select statement_timestamp())";

/*
 * Only where the planner expects many sessions to be found does it read them in the order of the index, and no more than are
 * asked for; else it reads all that wait, and sorts them. Statistics that were made when none waited, or none at all, say
 * few. So it is told nothing that it has statistics of: the time is selected, and what else must hold is a case.
 */

/** @param byAgent whether the filter names an agent, of which an index knows */
function claimStatement(byAgent: boolean): string {
  return `
  with asked as materialized (
    select * from rows from (
      jsonb_to_recordset($2::text::jsonb) as (event_id uuid, metadata jsonb, worker_id text, lease_seconds int)
    ) with ordinality as asked (event_id, metadata, worker_id, lease_seconds, number)
  ), found as materialized (
    select id, claimable_at, greatest(updated_at + interval '1 microsecond', last_activity_at) as earliest,
      ${columnsBefore("sessions")}
    from sessions
    where namespace = $1 ${byAgent ? "and agent_id = $6::text::uuid" : ""} and claimable_at <= ${now}
      and case when ${claimable}
        and ($3::text is null or session_type = $3)
        and ($4::text is null or runtime_backend = $4)
        and ($5::text is null or details -> 'labels' @> $5::text::jsonb) then true else false end
    order by claimable_at, id
    limit (select count(*) from asked)
    for no key update skip locked
  ), decided as materialized (
    select *, 'running' as to_phase, from_phase = 'crashed' as recovers, null::text as reason,
      greatest(clock_timestamp(), earliest) as now
    from (select *, row_number() over (order by claimable_at, id) as number from found) oldest
      join asked using (number)
  ), ${moveSessions(
    {
      lease_owner: "i.worker_id",
      lease_token: "s.lease_token + 1",
      lease_expires_at: "i.now + make_interval(secs => i.lease_seconds)",
      lease_seconds: "i.lease_seconds",
    },
    `s.lease_token, ${isHeavy} as heavy, ${sessionColumns("s", isHeavy)}`,
  )}
  select i.number::int, i.from_phase, m.lease_token::float8 as lease_token, m.heavy, ${sessionColumns("m")}
  from moved m join decided i using (id)`;
}

/** For whoever looks at how they are planned. */
export const claimStatements = { ofAny: claimStatement(false), ofAgent: claimStatement(true) };

type ClaimedRow = SessionRow & {
  /** Of the claim that got it, from 1. */
  readonly number: number;
  readonly from_phase: Phase;
  readonly lease_token: number;
  readonly heavy: boolean;
};

/**
 * Gives each claim, in their order, the next of the sessions that wait, the longest waiting first, and starts its lease;
 * appends a `session.updated` event for each. Waits for nobody.
 *
 * @param asked of one namespace and one filter, `mostClaims` at most
 * @returns a session for each claim, in their order; undefined for those that are left when none waits any more
 */
export async function claimSessions(
  database: Queries,
  asked: readonly { readonly context: RequestContext; readonly input: Claim }[],
): Promise<(ClaimedSession | undefined)[]> {
  const [first] = asked;
  if (first === undefined) return [];
  const { agentId, sessionType, runtimeBackend, labels } = first.input.filter;
  const rows = await database.query<ClaimedRow>(
    agentId === undefined ? claimStatements.ofAny : claimStatements.ofAgent,
    [
      first.context.namespace,
      `[${asked.map(({ context, input }) => inputText(input, eventMetadata(context))).join(",")}]`,
      sessionType ?? null,
      runtimeBackend ?? null,
      labels ?? null,
      ...(agentId === undefined ? [] : [agentId]),
    ],
  );
  const claimed: (ClaimedSession | undefined)[] = asked.map(() => undefined);
  for (const row of rows) {
    const session = row.heavy ? await readWhole(database, first.context, row) : row;
    claimed[row.number - 1] = { session, leaseToken: row.lease_token, from: row.from_phase };
  }
  return claimed;
}

/** A session with large documents is read for itself: many of them together would fill the memory. */
async function readWhole(database: Queries, context: RequestContext, row: SessionRow): Promise<SessionRow> {
  const [whole] = await readSessions(database, context, [row.id]);
  // It was deleted meanwhile, and its worker will hear of it: what it had is gone.
  return whole ?? { ...row, context: "{}", runtime_metadata: "{}" };
}

function inputText({ workerId, leaseSeconds }: Claim, metadata: string): string {
  const fields = JSON.stringify({ event_id: newId(), worker_id: workerId, lease_seconds: leaseSeconds });
  return `${fields.slice(0, -1)},"metadata":${metadata}}`;
}

/** So old a session may be, in seconds of waiting, that is new to a look: some are seen late, and some twice. */
const overlapSeconds = 5;

/* A filter with an agent and one without need different indexes. */
function existsOne(condition: string): string {
  return `exists (
      select from sessions
      where namespace = $1 and claimable_at > since and claimable_at <= ${now} and ${claimable}
        and ${condition}
        and (f.session_type is null or sessions.session_type = f.session_type)
        and (f.runtime_backend is null or sessions.runtime_backend = f.runtime_backend)
        and (f.labels is null or details -> 'labels' @> f.labels))`;
}

const lookStatement = `
  select (statement_timestamp() - interval '${overlapSeconds} s')::text as next_since, (
    select coalesce(jsonb_agg(number - 1), '[]')::text from rows from (
      jsonb_to_recordset($2::text::jsonb) as (agent_id uuid, session_type text, runtime_backend text, labels jsonb)
    ) with ordinality as f (agent_id, session_type, runtime_backend, labels, number)
    where case when f.agent_id is null then ${existsOne("true")} else ${existsOne("sessions.agent_id = f.agent_id")} end
  ) as found
  from (select coalesce($3::text::timestamptz, statement_timestamp() - interval '${overlapSeconds} s') as since) s`;

/** What a look has found. */
export interface Look {
  /** The indexes of the filters that a session would pass. */
  readonly found: readonly number[];
  /** For the next look: it goes on from there. */
  readonly nextSince: string;
}

/**
 * Looks whether there are sessions that have become claimable of late, and takes none: who is first gets them.
 *
 * @param since from the look before; undefined: 5 s ago
 */
export async function lookForClaimable(
  database: Queries,
  namespace: string,
  filters: readonly ClaimFilter[],
  since?: string,
): Promise<Look> {
  const [row] = await database.query<{ readonly next_since: string; readonly found: string }>(lookStatement, [
    namespace,
    `[${filters.map(filterText).join(",")}]`,
    since ?? null,
  ]);
  if (row === undefined) throw new Error("a look gave no row");
  return { found: JSON.parse(row.found), nextSince: row.next_since };
}

function filterText({ agentId, sessionType, runtimeBackend, labels }: ClaimFilter): string {
  const fields = { agent_id: agentId, session_type: sessionType, runtime_backend: runtimeBackend };
  const members = Object.entries(fields).map(([name, value]) => `"${name}":${JSON.stringify(value ?? null)}`);
  return `{${[...members, ...(labels === undefined ? [] : [`"labels":${labels}`])].join(",")}}`;
}
