/**
 * Removing single checkpoints of a session. What the session is stays what it was: no version, no event. The one that it
 * shows is not removed, nor anything under a legal hold.
 */

import type { Queries } from "../db/client.ts";
import { changeTime } from "./change-assignments.ts";
import type { RequestContext } from "./context.ts";
import { type Assignments, setList } from "./transition.ts";

/** Which checkpoint: by its session and number, or by its own id; ids must be UUIDs. */
export type CheckpointKey = { readonly sessionId: string; readonly number: number } | { readonly id: string };

export interface CheckpointDeletion {
  readonly key: CheckpointKey;
  /** The versions of the session that If-Match names; undefined: any. */
  readonly expectedVersions?: readonly number[] | undefined;
  /** The fencing token of the lease that the writer believes to hold: it is then renewed, or the deletion refused. */
  readonly leaseToken?: number | undefined;
}

export interface CheckpointDeletionResult {
  readonly outcome:
    | "ok"
    | "not_found"
    /** The session has no such checkpoint, or none has that id. */
    | "no_checkpoint"
    /** Nothing of the session may be removed. */
    | "legal_hold"
    /** The lease of that token is over. */
    | "lease_lost"
    /** The session has a version that was not expected. */
    | "stale"
    /** It is the one that the session shows. */
    | "in_use";
}

/** As a heartbeat of who names the token. */
const renewed = (column: string, value: string) =>
  `case when r.lease_token is not null then ${value} else s.${column} end`;

const removing: Assignments = {
  checkpoint_count: "s.checkpoint_count - 1",
  last_activity_at: renewed("last_activity_at", "r.now"),
  last_activity_kind: renewed("last_activity_kind", "'heartbeat'"),
  lease_expires_at: renewed("lease_expires_at", "r.now + make_interval(secs => s.lease_seconds)"),
};

/** SQL over `c`, a checkpoint: whether it is the last of the line whose last one the session shows. */
const isShown = `c.checkpoint_ns = '' and not exists (
          select 1 from checkpoints later
          where later.namespace = c.namespace and later.session_id = c.session_id and later.number > c.number
            and later.checkpoint_ns = '')`;

/*
 * The session's row is locked first, as by all who write checkpoints. Of two who remove the same one, the second finds it
 * gone once it has the lock: nothing is counted twice.
 */
function statement(session: string, which: string): string {
  return `
  with decided as materialized (
    select i.lease_token, c.session_id, c.number, ${changeTime("l")} as now,
      case
        when l.id is null then 'not_found'
        when c.number is null then 'no_checkpoint'
        when l.legal_hold then 'legal_hold'
        when i.lease_token is not null and (l.lease_owner is null or l.lease_token <> i.lease_token) then 'lease_lost'
        when not i.expected @> to_jsonb(l.version) then 'stale'
        when l.shows_one and ${isShown} then 'in_use'
        else 'ok'
      end as outcome
    from jsonb_to_record($2::text::jsonb) as i (expected jsonb, lease_token bigint)
    left join (
      select id, version, legal_hold, lease_owner, lease_token, checkpoint is not null as shows_one, updated_at,
        last_activity_at
      from sessions
      where namespace = $1 and id = ${session} and deleted_at is null
      for no key update
    ) l on true
    left join checkpoints c on c.namespace = $1 and c.session_id = l.id and ${which}
  ), removed as (
    delete from checkpoints c using decided i
    where i.outcome = 'ok' and c.namespace = $1 and c.session_id = i.session_id and c.number = i.number
    returning c.session_id, i.lease_token, i.now
  ), counted as (
    update sessions s set
      ${setList(removing)}
    from removed r
    where s.namespace = $1 and s.id = r.session_id
  )
  select case when i.outcome = 'ok' and not exists (select 1 from removed) then 'no_checkpoint' else i.outcome end as outcome
  from decided i`;
}

const statements = {
  byNumber: statement("$3::text::uuid", "c.number = $4::text::int"),
  byId: statement(
    "(select session_id from checkpoints where namespace = $1 and id = $3::text::uuid)",
    "c.id = $3::text::uuid",
  ),
};

/** Removes a checkpoint. */
export async function deleteCheckpoint(
  database: Queries,
  context: RequestContext,
  { key, expectedVersions, leaseToken }: CheckpointDeletion,
): Promise<CheckpointDeletionResult> {
  const input = JSON.stringify({ expected: expectedVersions, lease_token: leaseToken });
  const [row] = await ("id" in key
    ? database.query<CheckpointDeletionResult>(statements.byId, [context.namespace, input, key.id])
    : database.query<CheckpointDeletionResult>(statements.byNumber, [
        context.namespace,
        input,
        key.sessionId,
        String(key.number),
      ]));
  return { outcome: row?.outcome ?? "no_checkpoint" };
}
