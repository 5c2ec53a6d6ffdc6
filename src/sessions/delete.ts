/**
 * Deleting sessions: look under the row's lock, decide, write, and append the event, in one statement for a set of
 * sessions. A soft deletion hides a session; a hard one also asks a job to remove it for good (see purge.ts).
 */

import type { Queries } from "../db/client.ts";
import { appendEvents } from "../events/outbox.ts";
import { changeTime } from "./change-assignments.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";

export interface SessionDeletion {
  readonly id: string;
  /** The external id by which it was found: a session that does not have it any more is not the one that was meant. */
  readonly foundBy?: string | undefined;
  /** The versions that If-Match names; undefined: any. */
  readonly expectedVersions?: readonly number[] | undefined;
  /** The fencing token of the lease that the writer believes to hold: without that lease the deletion is refused. */
  readonly leaseToken?: number | undefined;
  /** Whether the session and all that is its own is to be removed for good, also one that is deleted already. */
  readonly hard: boolean;
}

export type DeletionResult =
  /**
   * `changed` is false when the session was deleted already: no new version, no event. `purges`: its removal for good was
   * asked for by this, and not before.
   */
  | { readonly outcome: "ok"; readonly changed: boolean; readonly purges: boolean }
  /** There never was one, or it has been removed. */
  | { readonly outcome: "not_found" }
  /** The session has a version that was not expected. */
  | { readonly outcome: "stale" }
  /** The lease of that token is over. */
  | { readonly outcome: "lease_lost" }
  /** Nothing of the session may be removed. */
  | { readonly outcome: "legal_hold" };

/*
 * What has been done already is not asked for its version, nor for its lease: whoever repeats a request whose answer got
 * lost names those from before it. The lease goes with the deletion, so a worker that still holds it is refused.
 */
const statement = `
  with decided as materialized (
    select id, event_id, metadata, hard, deletes, purges, now,
      case
        when missing then 'not_found'
        when legal_hold and (deletes or hard) then 'legal_hold'
        when deletes and lease_token is not null and current_token is distinct from lease_token then 'lease_lost'
        when (deletes or purges) and not expected @> to_jsonb(version) then 'stale'
        else 'ok'
      end as outcome
    from (
      select i.id, i.event_id, i.metadata, i.expected, i.lease_token, i.hard, l.version, l.legal_hold,
        case when l.lease_owner is not null then l.lease_token end as current_token,
        l.id is null or i.found_by is not null and l.external_id is distinct from i.found_by as missing,
        l.deleted_at is null as deletes,
        i.hard and l.purge_requested_at is null as purges,
        ${changeTime("l")} as now
      from jsonb_to_recordset($3::text::jsonb) as i (
        id uuid, found_by text, event_id uuid, metadata jsonb, expected jsonb, lease_token bigint, hard boolean)
      left join (
        select id, external_id, version, legal_hold, deleted_at, purge_requested_at, updated_at, last_activity_at, lease_owner,
          lease_token
        from sessions
        where namespace = $1 and id = any($2::text::uuid[])
        order by id
        for no key update
      ) l using (id)
    ) looked
  ), deleted as (
    update sessions s set
      deleted_at = coalesce(s.deleted_at, i.now),
      purge_requested_at = case when i.purges then i.now else s.purge_requested_at end,
      version = s.version + i.deletes::int,
      last_sequence = s.last_sequence + i.deletes::int,
      updated_at = case when i.deletes then i.now else s.updated_at end,
      lease_owner = null,
      lease_expires_at = null,
      lease_seconds = null,
      claimable_at = null,
      next_check_at = null
    from decided i
    where i.outcome = 'ok' and (i.deletes or i.purges) and s.namespace = $1 and s.id = i.id
      and s.id = any($2::text::uuid[]) -- else the planner, which expects 100 inputs, may read the whole table
    returning s.namespace, s.id, s.last_sequence, s.version, s.updated_at as changed_at, s.agent_id, s.status, s.phase
  ), event as (${appendEvents(
    "deleted s join decided i using (id) where i.deletes",
    "'session.deleted'",
    "jsonb_build_object('agent_id', s.agent_id, 'status', s.status, 'phase', s.phase)",
  )})
  select id as asked_id, outcome, deletes as changed, purges from decided`;

interface ResultRow {
  readonly asked_id: string;
  readonly outcome: DeletionResult["outcome"];
  readonly changed: boolean;
  readonly purges: boolean;
}

/**
 * Deletes sessions, each for itself, and appends a `session.deleted` event for each that was not deleted before.
 *
 * @param asked of one namespace, at most one deletion a session
 * @returns a result for each deletion, in their order
 */
export async function deleteSessions(
  database: Queries,
  asked: readonly { readonly context: RequestContext; readonly input: SessionDeletion }[],
): Promise<DeletionResult[]> {
  const [first] = asked;
  if (first === undefined) return [];
  const rows = await database.query<ResultRow>(statement, [
    first.context.namespace,
    `{${asked.map(({ input }) => input.id).join(",")}}`,
    `[${asked.map(({ context, input }) => inputText(input, eventMetadata(context))).join(",")}]`,
  ]);
  const byId = new Map(rows.map((row) => [row.asked_id, row]));
  return asked.map(({ input }) => resultOf(byId.get(input.id.toLowerCase())));
}

function inputText({ id, foundBy, expectedVersions, leaseToken, hard }: SessionDeletion, metadata: string): string {
  const fields = JSON.stringify({
    id,
    found_by: foundBy,
    event_id: newId(),
    expected: expectedVersions,
    lease_token: leaseToken,
    hard,
  });
  return `${fields.slice(0, -1)},"metadata":${metadata}}`;
}

function resultOf(row: ResultRow | undefined): DeletionResult {
  if (row === undefined) return { outcome: "not_found" };
  const { outcome, changed, purges } = row;
  return outcome === "ok" ? { outcome, changed, purges } : { outcome };
}
