/**
 * The lease of a session: who works on it, until when, and by which fencing token. It is taken, renewed, released and
 * handed over here; claims give one too (see claim.ts), and whoever names the token of one renews it by what it writes.
 */

import type { Queries } from "../db/client.ts";
import { utcText } from "../db/time.ts";
import { appendEvents } from "../events/outbox.ts";
import { changeTime } from "./change-assignments.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";
import { livePhases, type Phase, type Status } from "./lifecycle.ts";
import { earliestCheck } from "./timers.ts";
import { type Assignments, phaseList, setList } from "./transition.ts";

export const leaseActions = ["take", "renew", "release", "hand_over"] as const;
export type LeaseAction = (typeof leaseActions)[number];

/** For how long a lease is good whose worker does not say. */
export const defaultLeaseSeconds = 30;

export interface LeaseChange {
  readonly id: string;
  readonly action: LeaseAction;
  /** Who takes it; with the other actions, who is believed to have it. */
  readonly workerId?: string | undefined;
  /** Who gets it when it is handed over. */
  readonly toWorkerId?: string | undefined;
  /** Needed for all but to take it. A holder that takes its lease again and names the token keeps that. */
  readonly leaseToken?: number | undefined;
  /** Undefined: as long as before, or the default. */
  readonly leaseSeconds?: number | undefined;
}

/** What a worker that holds a session, or would, needs to know of it. Times are as `utcText` gives them. */
export interface LeaseRow {
  readonly id: string;
  readonly status: Status;
  readonly phase: Phase;
  readonly version: number;
  readonly attempt: number;
  readonly exit_requested: boolean | null;
  readonly lease_owner: string | null;
  /** Null unless the lease is its reader's: it would else be anybody's. */
  readonly lease_token: number | null;
  readonly lease_expires_at: string | null;
  readonly last_activity_at: string;
}

export type LeaseResult =
  /** `changed` is false when the lease has the owner that it had: no new version, no event. */
  | { readonly outcome: "ok"; readonly changed: boolean; readonly lease: LeaseRow }
  | { readonly outcome: "not_found" }
  /** The lease of that token is over, or is not that worker's. */
  | { readonly outcome: "lease_lost" }
  /** Somebody else has it. */
  | { readonly outcome: "lease_held"; readonly owner: string; readonly expiresAt: string }
  /** Nobody works on a session in that phase. */
  | { readonly outcome: "not_live"; readonly phase: Phase };

const shown = ["id", "status", "phase", "version", "attempt", "exit_requested", "lease_owner"] as const;

/**
 * The select list that gives a `LeaseRow` from a row of sessions.
 *
 * @param knowsToken SQL of whether the reader may see the token
 */
export function leaseColumns(relation: string, knowsToken: string): string {
  return [
    ...shown.map((column) => `${relation}.${column}`),
    `case when ${knowsToken} then ${relation}.lease_token::float8 end as lease_token`,
    `${utcText(`${relation}.lease_expires_at`)} as lease_expires_at`,
    `${utcText(`${relation}.last_activity_at`)} as last_activity_at`,
  ].join(", ");
}

/** The select list that gives a `LeaseRow` from a relation that was selected by `leaseColumns`. */
export function leaseColumnNames(relation: string): string {
  return [...shown, "lease_token", "lease_expires_at", "last_activity_at"]
    .map((column) => `${relation}.${column}`)
    .join(", ");
}

const live = phaseList(livePhases);

const assignments: Assignments = {
  lease_owner: "i.owner",
  lease_token: "s.lease_token + i.begins::int",
  lease_expires_at: "case when i.owner is not null then i.now + make_interval(secs => i.seconds) end",
  lease_seconds: "case when i.owner is not null then i.seconds end",
  version: "s.version + i.changes::int",
  last_sequence: "s.last_sequence + i.changes::int",
  updated_at: "case when i.changes then i.now else s.updated_at end",
  last_activity_at: "i.now",
  last_activity_kind: "case when i.changes then 'change' else 'heartbeat' end",
};

const after = (column: string) => (column in assignments ? `(${assignments[column]})` : `s.${column}`);

/* A lease that is renewed for as long as before ends later than it did: the time to look at it stays, and the index too. */
const nextCheck = `case when i.changes or i.seconds < s.lease_seconds then ${earliestCheck("i.now", after)}
        else s.next_check_at end`;

/*
 * A lease whose time is up is its holder's still until a sweep has ended it: the sweep alone knows whether there was a time
 * in which nobody could renew one.
 */
const statement = `
  with decided as materialized (
    select *, outcome = 'ok' and owner is distinct from from_owner as changes
    from (
      select i.id, i.event_id, i.metadata, l.phase as from_phase, l.lease_owner as from_owner,
        l.lease_expires_at as from_expires_at,
        ${changeTime("l")} as now,
        case i.action when 'take' then i.worker_id when 'renew' then l.lease_owner when 'hand_over' then i.to_worker_id
          end as owner,
        i.action = 'hand_over' or i.action = 'take' and i.lease_token is null as begins,
        coalesce(i.lease_seconds, case when i.action <> 'take' then l.lease_seconds end, ${defaultLeaseSeconds})
          as seconds,
        case
          when l.id is null then 'not_found'
          when i.lease_token is not null and (l.lease_owner is null or l.lease_token <> i.lease_token)
            then 'lease_lost'
          when i.action <> 'take' then case when i.worker_id <> l.lease_owner then 'lease_lost' else 'ok' end
          when l.phase not in (${live}) then 'not_live'
          when l.lease_owner <> i.worker_id then 'lease_held'
          else 'ok'
        end as outcome
      from jsonb_to_record($3::text::jsonb) as i (
        id uuid, event_id uuid, metadata jsonb, action text, worker_id text, to_worker_id text, lease_token bigint,
        lease_seconds int)
      left join (
        select id, phase, lease_owner, lease_token, lease_expires_at, lease_seconds, updated_at, last_activity_at
        from sessions
        where namespace = $1 and id = $2::text::uuid and deleted_at is null
        for no key update
      ) l using (id)
    ) looked
  ), updated as (
    update sessions s set
      ${setList({ ...assignments, next_check_at: nextCheck })}
    from decided i
    where i.outcome = 'ok' and s.namespace = $1 and s.id = $2::text::uuid
    returning s.namespace, s.last_sequence, s.agent_id, s.updated_at as changed_at,
      ${leaseColumns("s", "i.owner is not null")}
  ), event as (${appendEvents(
    "updated s join decided i using (id) where i.changes",
    "'session.updated'",
    `jsonb_build_object('agent_id', s.agent_id, 'status', s.status, 'phase', s.phase,
       'updates', jsonb_build_array('lease_owner'))`,
  )})
  select i.outcome, i.changes as changed, i.from_phase, i.from_owner, ${utcText("i.from_expires_at")} as from_expires_at,
    ${leaseColumnNames("u")}
  from decided i left join updated u using (id)`;

type ResultRow = LeaseRow & {
  readonly outcome: LeaseResult["outcome"];
  readonly changed: boolean;
  readonly from_phase: Phase;
  readonly from_owner: string;
  readonly from_expires_at: string;
};

/**
 * Changes the lease of a session, and appends a `session.updated` event when that gives it another owner, or none.
 *
 * @param change its id must be a UUID
 */
export async function changeLease(
  database: Queries,
  context: RequestContext,
  change: LeaseChange,
): Promise<LeaseResult> {
  const { id, action, workerId, toWorkerId, leaseToken, leaseSeconds } = change;
  const fields = JSON.stringify({
    id,
    event_id: newId(),
    action,
    worker_id: workerId,
    to_worker_id: toWorkerId,
    lease_token: leaseToken,
    lease_seconds: leaseSeconds,
  });
  const input = `${fields.slice(0, -1)},"metadata":${eventMetadata(context)}}`;
  const [row] = await database.query<ResultRow>(statement, [context.namespace, id, input]);
  switch (row?.outcome) {
    case "ok":
      return { outcome: "ok", changed: row.changed, lease: row };
    case "lease_held":
      return { outcome: "lease_held", owner: row.from_owner, expiresAt: row.from_expires_at };
    case "not_live":
      return { outcome: "not_live", phase: row.from_phase };
    case "lease_lost":
      return { outcome: "lease_lost" };
    default:
      return { outcome: "not_found" };
  }
}
