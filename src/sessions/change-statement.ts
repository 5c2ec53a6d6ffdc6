/**
 * The statement that changes sessions on request: look under the row's lock, decide, write, append the event.
 *
 *   input (JSON) ──┐
 *                  ├─► looked ──► decided ──► updated ──► event
 *   locked rows  ──┘
 *
 * There are several of it, the later ones with what the earlier ones have. Each step carries the columns that the next
 * one needs and no more: setting up the others for one row cost as much as the update itself.
 */

import { appendEvents } from "../events/outbox.ts";
import {
  allAssignments,
  changeTime,
  clearable,
  documentAssignments,
  documentNames,
  renewal,
  savesCheckpoint,
  stateAssignments,
} from "./change-assignments.ts";
import {
  editLaterals,
  isChanged,
  isOfAll,
  isThere,
  mayEdit,
  mayMove,
  movesColumns,
  notAsFound,
  outcomeOf,
  type Part,
  partsOf,
  type Variant,
} from "./change-parts.ts";
import { keepCheckpoints, keepFinalCheckpoints, keptColumns } from "./checkpoint-history.ts";
import { editFailure, editPayload } from "./context-edit.ts";
import { changeLabels, labelsColumns, labelsLateral } from "./labels.ts";
import { sessionColumns } from "./row.ts";
import { type Assignments, setList } from "./transition.ts";

const assignmentsOf: Readonly<Record<Variant, Assignments>> = {
  checkpoint: documentAssignments(["checkpoint"]),
  context: documentAssignments(["context"]),
  documents: documentAssignments(documentNames),
  state: stateAssignments,
  all: allAssignments,
  edit: allAssignments,
  labels: allAssignments,
};

/** Fields that a transition changes, or may, in the order of the schema: compared after it. */
const consequences = ["status_reason", "exit_requested", "error", "result", "lease_owner", "auto_resume"];

/** The columns of sessions that `changePayload` compares, each with `from_<column>`: what it was before a transition. */
export const comparedColumns = ["phase", "status", ...consequences];

/** The select list of what they are before it, over a relation with the columns of sessions. */
export function columnsBefore(relation: string): string {
  return comparedColumns.map((column) => `${relation}.${column} as from_${column}`).join(", ");
}

/** SQL over `s`, the session after the change, and `i`, what was decided of it. */
export function changePayload(variant: Variant): string {
  const session = "'agent_id', s.agent_id, 'status', s.status, 'phase', s.phase";
  if (!mayMove(variant)) return `jsonb_build_object(${session}, 'updates', ${updatesOf(variant)})`;
  const changed = consequences.map(
    (name) => `case when s.${name}::text is distinct from i.from_${name}::text then '${name}' end`,
  );
  return `jsonb_build_object(${session}, 'updates', to_jsonb(array_remove(
      array[case when s.status <> i.from_status then 'status' end, case when i.moves then 'phase' end]
        || i.updates || array[${changed.join(", ")}], null)))
    || case when i.moves then jsonb_build_object('from', i.from_phase, 'to', s.phase) else '{}' end
    || case when i.moves and s.status_reason is not null then jsonb_build_object('reason', s.status_reason)
      when not i.moves and s.exit_requested and i.from_exit_requested is not true and i.reason is not null
      then jsonb_build_object('reason', i.reason) else '{}' end${mayEdit(variant) ? editPayload : ""}`;
}

/** SQL of what a change of a document changes. */
function updatesOf(variant: Variant): string {
  return variant === "documents" ? "to_jsonb(i.updates)" : `'["${variant}"]'::jsonb`;
}

/** SQL over `looked`: what decides whether anything changes at all, beside the updates. */
const anythingChanges = ["moves", "turns_resume", ...clearable.map((column) => isChanged(column, "from"))];
const changesOf: Readonly<Record<Variant, readonly string[]>> = {
  checkpoint: [],
  context: [],
  documents: [],
  state: ["moves", "turns_resume"],
  all: anythingChanges,
  edit: anythingChanges,
  labels: anythingChanges,
};

/** The locked rows `l` beside the input `i`, where they are, and what is found of them. */
function looked(
  variant: Variant,
  { join, skipLocked }: { readonly join: string; readonly skipLocked: boolean },
): string {
  const parts = partsOf[variant];
  const moves = mayMove(variant);
  return `
      select ${joined(parts, "looked")},
        l.phase as from_phase,
        ${changeTime("l")} as now,
        case
          when l.id is null${isOfAll(variant) ? notAsFound : ""} then 'not_found'
          when i.lease_token is not null and (l.lease_owner is null or l.lease_token <> i.lease_token)
            then 'lease_lost'
          when not i.expected @> to_jsonb(l.version) then 'stale'
          ${moves ? `when i.enter is not null and not ${isThere} and not i.allowed ? l.phase then 'conflict'` : ""}
          else 'ok'
        end as found
      from (
        select ${["*", ...parts.flatMap(({ spelled }) => spelled || [])].join(", ")}
        from jsonb_to_recordset($3::text::jsonb) as i (${joined(parts, "input")})
        offset 0 -- else it is spelled wherever it is named
      ) i
      ${join} (
        select id, phase, version, lease_owner, lease_token, ${joined(parts, "locked")}
        from sessions
        where namespace = $1 and id = any($2::text::uuid[]) and deleted_at is null
        order by id
        for no key update ${skipLocked ? "skip locked" : ""}
      ) l using (id)
      ${mayEdit(variant) ? editLaterals : ""}
      ${variant === "labels" ? labelsLateral : ""}
      offset 0 -- else what is asked of it is worked out twice`;
}

function joined(parts: readonly Part[], key: keyof Part): string {
  return parts.flatMap((part) => part[key] ?? []).join(",\n        ");
}

/** What comes of what was found: `outcome`, `updates`, and whether the session `changes` at all. */
function decided(variant: Variant, from: string): string {
  const moves = mayMove(variant);
  return `
    select *, outcome = 'ok' and (${[...changesOf[variant], "cardinality(updates) > 0"].join(" or ")}) as changes
    from (
      select *, ${outcomeOf[variant]} as outcome,
        array_remove(array[${joined(partsOf[variant], "updates")}], null) as updates${moves ? movesColumns : ""}
      from (${from}
      ) looked
    ) compared`;
}

/** Else the planner, which expects 100 inputs, may read the whole table. */
const amongThose = "s.id = any($2::text::uuid[])";

/** The update of those that change, their events, and the checkpoints and labels that they have kept for them. */
function changed(variant: Variant, which: string): string {
  const saves = variant !== "context";
  const moves = mayMove(variant);
  return `updated as (
    update sessions s set
      ${setList(assignmentsOf[variant])}
    from decided i
    where ${which}
      s.namespace = $1 and s.id = i.id
    returning s.namespace, s.last_sequence, s.updated_at as changed_at, i.from_phase, i.event_id, i.metadata,
      ${changePayload(variant)} as payload, ${saves ? `${savesCheckpoint} as saves, ${keptColumns},` : ""}
      ${moves ? "i.leaves_final," : ""} ${variant === "labels" ? `${labelsColumns},` : ""} ${sessionColumns("s")}
  ), event as (${appendEvents("updated s", "'session.updated'", "s.payload", "s")}
  )${saves ? `, kept as (${keepCheckpoints("updated s where s.saves", "s")})` : ""}
  ${moves ? `, final as (${keepFinalCheckpoints("updated s where s.leaves_final", "s")})` : ""}
  ${variant === "labels" ? `, ${changeLabels("updated", "l.session_id = any($2::text::uuid[])")}` : ""}`;
}

/*
 * A session that did not change is not given back here. Who names the token of its lease renews that all the same: a worker
 * that says again and again where it is has shown that it is at work.
 */

/**
 * Changes what can be changed, and says of each what came of it.
 *
 * @param skipLocked leaves out sessions that somebody else is changing, instead of waiting for them
 */
export function changeStatement(variant: Variant, skipLocked: boolean): string {
  return `
  with decided as materialized (${decided(variant, looked(variant, { join: "left join", skipLocked }))}
  ), ${changed(variant, `i.changes and ${amongThose} and`)}, renewed as (
    update sessions s set
      ${setList(renewal)}
    from decided i
    where i.outcome = 'ok' and not i.changes and i.lease_token is not null and s.namespace = $1 and s.id = i.id
      and ${amongThose}
  )
  select i.id as asked_id, i.outcome, i.changes as changed, i.from_phase,
    ${mayEdit(variant) ? `${editFailure}, ` : ""}${sessionColumns("u")}
  from decided i left join updated u using (id)`;
}

/**
 * Makes the changes that are to be made, and are as simple as nearly all, and waits for nobody: what is not given back was
 * not changed, and is for the other statement to say why. Among others a change costs up to a sixth less so
 * (docs/performance.md).
 */
export function leanChangeStatement(variant: Variant): string {
  return `
  with decided as materialized (
    select * from (${decided(variant, looked(variant, { join: "join", skipLocked: true }))}
    ) all_of_them
    where changes
  ), ${changed(variant, "")}
  select u.id as asked_id, 'ok' as outcome, true as changed, u.from_phase, ${sessionColumns("u")} from updated u`;
}
