/**
 * Taking deletions back: look under the row's lock, decide, write, and append the event, in one statement for a set of
 * sessions. What was live when it was deleted is stopped: its worker was told long ago that its lease is over.
 */

import type { Queries } from "../db/client.ts";
import { isDuplicate } from "../db/failures.ts";
import { appendEvents } from "../events/outbox.ts";
import { changeTime, counted } from "./change-assignments.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";
import { livePhases, type Phase } from "./lifecycle.ts";
import { readEvenDeleted } from "./read.ts";
import { type SessionRow, sessionColumns } from "./row.ts";
import { earliestCheck } from "./timers.ts";
import { type Assignments, phaseList, setList, timesOfPhases, transitionAssignments } from "./transition.ts";

export interface Undeletion {
  readonly id: string;
  /** The versions that If-Match names; undefined: any. */
  readonly expectedVersions?: readonly number[] | undefined;
  /** The `status_reason` of a session that is stopped by this. */
  readonly reason?: string | undefined;
}

export type UndeletionResult =
  /** `changed` is false when the session was not deleted. `from` is the phase that it was deleted in. */
  | { readonly outcome: "ok"; readonly changed: boolean; readonly from: Phase; readonly session: SessionRow }
  /** There never was one, or it has been removed. */
  | { readonly outcome: "not_found" }
  /** The session has a version that was not expected. */
  | { readonly outcome: "stale" }
  /** It is being removed for good. */
  | { readonly outcome: "purge_requested" }
  /** The session `ownerId` has its external id by now. */
  | { readonly outcome: "external_id_taken"; readonly externalId: string; readonly ownerId: string }
  /** Somebody took its external id at the same moment: the transaction is lost, and another one can tell who. */
  | { readonly outcome: "raced" };

const live = phaseList(livePhases);

const defaultReason = "undeleted";

/*
 * Nobody worked on it once it was deleted: its last phase ended then. That is told by the row that was locked: `s` may at
 * first be an older one, from before a deletion that was waited for, and its null would be refused before it is read again.
 */
const moving = transitionAssignments(false, timesOfPhases("i.deleted_at"));

/*
 * What may be claimed waits from now on: see `claimable` in claim.ts. A time to expire that passed meanwhile would delete it
 * at once; it has done what it was for.
 */
const restoring: Assignments = {
  ...moving,
  ...counted,
  deleted_at: "null",
  expires_at: "case when s.expires_at > i.now then s.expires_at end",
  claimable_at: `case
        when s.phase = 'pending' then greatest(i.now, s.scheduled_at)
        when s.phase = 'crashed' and s.next_attempt_at is not null then greatest(i.now, s.next_attempt_at)
        when s.phase in ('paused', 'stopped') and s.auto_resume then i.now end`,
  updated_at: "i.now",
  last_activity_at: "i.now",
};

const assignments: Assignments = {
  ...restoring,
  next_check_at: earliestCheck("i.now", (column) => `(${restoring[column] ?? `s.${column}`})`),
};

/** In the order of the Session schema. */
const changedFields = ["status", "phase", "expires_at", "status_reason"];
const updates = changedFields.map((name) => `case when s.${name} is distinct from i.from_${name} then '${name}' end`);

export const undeleteStatement = `
  with decided as materialized (
    select *, outcome = 'ok' and deleted as restores,
      outcome = 'ok' and deleted and from_phase in (${live}) as moves,
      case when from_phase in (${live}) then 'stopped' else from_phase end as to_phase,
      false as recovers
    from (
      select *,
        case
          when missing then 'not_found'
          when not expected @> to_jsonb(version) then 'stale'
          when purges then 'purge_requested'
          when deleted and owner_id is not null then 'external_id_taken'
          else 'ok'
        end as outcome
      from (
        select i.id, i.event_id, i.metadata, i.expected, i.reason, l.version, l.external_id,
          l.phase as from_phase, l.status as from_status, l.expires_at as from_expires_at,
          l.status_reason as from_status_reason,
          l.deleted_at,
          l.id is null as missing,
          l.deleted_at is not null as deleted,
          l.purge_requested_at is not null as purges,
          (
            select o.id from sessions o
            where o.namespace = $1 and o.external_id = l.external_id and o.deleted_at is null
          ) as owner_id,
          ${changeTime("l")} as now
        from jsonb_to_recordset($3::text::jsonb) as i (
          id uuid, event_id uuid, metadata jsonb, expected jsonb, reason text)
        left join (
          select id, version, phase, status, status_reason, expires_at, deleted_at, purge_requested_at, updated_at,
            last_activity_at, external_id
          from sessions
          where namespace = $1 and id = any($2::text::uuid[])
          order by id
          for no key update
        ) l using (id)
      ) looked
    ) judged
  ), restored as (
    update sessions s set
      ${setList(assignments)}
    from decided i
    where i.restores and s.namespace = $1 and s.id = i.id
      and s.id = any($2::text::uuid[]) -- else the planner, which expects 100 inputs, may read the whole table
    returning s.namespace, s.last_sequence, s.updated_at as changed_at,
      jsonb_build_object('agent_id', s.agent_id, 'status', s.status, 'phase', s.phase,
        'updates', to_jsonb(array_remove(array[${updates.join(", ")}], null)))
        || case when i.moves then jsonb_build_object('from', i.from_phase, 'to', s.phase, 'reason', s.status_reason)
          else '{}' end as payload,
      ${sessionColumns("s")}
  ), event as (${appendEvents("restored s join decided i using (id)", "'session.restored'", "s.payload")}
  )
  select i.id as asked_id, i.outcome, i.restores as changed, i.from_phase, i.external_id as asked_external_id,
    i.owner_id, ${sessionColumns("r")}
  from decided i left join restored r using (id)`;

type ResultRow = SessionRow & {
  readonly asked_id: string;
  readonly outcome: Exclude<UndeletionResult["outcome"], "raced">;
  readonly changed: boolean;
  readonly from_phase: Phase;
  readonly asked_external_id: string | null;
  readonly owner_id: string | null;
};

interface Asked {
  readonly context: RequestContext;
  readonly input: Undeletion;
}

/**
 * Takes the deletions of sessions back, each for itself, and appends a `session.restored` event for each that was deleted.
 * Their timers run again, what may be claimed waits again, and an `expires_at` that has passed is cleared.
 *
 * @param asked of one namespace, at most one a session
 * @returns a result for each, in their order
 */
export async function undeleteSessions(database: Queries, asked: readonly Asked[]): Promise<UndeletionResult[]> {
  try {
    return await undelete(database, asked);
  } catch (error) {
    if (!isRace(error)) throw error;
  }
  // Whoever took the external id has been waited for, and is seen now. Not so in a transaction: it is lost.
  return undelete(database, asked).catch((error: unknown) => {
    if (!isRace(error)) throw error;
    return asked.map(() => ({ outcome: "raced" }));
  });
}

const isRace = (error: unknown) => isDuplicate(error, "sessions_by_external_id");

async function undelete(database: Queries, asked: readonly Asked[]): Promise<UndeletionResult[]> {
  const [first] = asked;
  if (first === undefined) return [];
  const rows = await database.query<ResultRow>(undeleteStatement, [
    first.context.namespace,
    `{${asked.map(({ input }) => input.id).join(",")}}`,
    `[${asked.map(({ context, input }) => inputText(input, eventMetadata(context))).join(",")}]`,
  ]);
  // One of these may have been deleted by now: it is told as it is, for when it was looked at there was nothing to take back.
  const unchanged = rows.filter(({ outcome, changed }) => outcome === "ok" && !changed).map((row) => row.asked_id);
  const read = unchanged.length === 0 ? [] : await readEvenDeleted(database, first.context, unchanged);
  const sessions = new Map([...rows, ...read].map((session) => [session.id, session]));
  const byId = new Map(rows.map((row) => [row.asked_id, row]));
  return asked.map(({ input }) => {
    const row = byId.get(input.id.toLowerCase());
    return resultOf(row, sessions.get(row?.asked_id ?? ""));
  });
}

function inputText({ id, expectedVersions, reason = defaultReason }: Undeletion, metadata: string): string {
  const fields = JSON.stringify({ id, event_id: newId(), expected: expectedVersions, reason });
  return `${fields.slice(0, -1)},"metadata":${metadata}}`;
}

/** @param session undefined where nothing was changed, and it has been removed since */
function resultOf(row: ResultRow | undefined, session: SessionRow | undefined): UndeletionResult {
  if (row === undefined || (row.outcome === "ok" && session === undefined)) return { outcome: "not_found" };
  if (row.outcome === "external_id_taken") {
    return { outcome: row.outcome, externalId: row.asked_external_id ?? "", ownerId: row.owner_id ?? "" };
  }
  if (row.outcome !== "ok" || session === undefined) return { outcome: row.outcome } as UndeletionResult;
  return { outcome: "ok", changed: row.changed, from: row.from_phase, session };
}
