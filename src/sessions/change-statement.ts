/**
 * The statement that changes sessions on request: look under the row's lock, decide, write, append the event.
 *
 *   input (JSON) ──┐
 *                  ├─► looked ──► decided ──► updated ──► event
 *   locked rows  ──┘
 *
 * There are three of it, each with what the one before it has. Each step carries the columns that the next one needs and
 * no more: setting up the others for one row cost as much as the update itself.
 */

import { appendEvents } from "../events/outbox.ts";
import { allAssignments, clearable, documentAssignments, renewal, stateAssignments } from "./change-assignments.ts";
import {
  type DetailName,
  detailDefaults,
  detailNames,
  keptSetting,
  mostNames,
  type SettingName,
  settingNames,
  settingTypes,
} from "./fields.ts";
import { endedPhases, phases, statusOf } from "./lifecycle.ts";
import { sessionColumnNames, sessionColumns } from "./row.ts";
import { type Assignments, phaseList, setList } from "./transition.ts";

/** `documents`: the documents alone; `state`: a transition too; `all`: the settings, details and outcome too. */
export const variants = ["documents", "state", "all"] as const;
export type Variant = (typeof variants)[number];

const ended = phaseList(endedPhases);
const crashed = phaseList(phases.filter((phase) => statusOf[phase] === "crashed"));

/** A part of the statement: what a variant adds to each of its steps. */
interface Part {
  /** Columns of the input. */
  readonly input: string;
  /** Columns of the locked row, beside `phase`, `version` and the lease. */
  readonly locked: string;
  /** Select list over the input `i` and the locked row `l`. */
  readonly looked: string;
  /** Names of fields that change, null where they don't: SQL over `looked`. */
  readonly updates: string;
}

/* "Changed" means changed as text: jsonb thinks 1 and 1.0 equal, clients don't. */
const documents: Part = {
  input: `id uuid, event_id uuid, metadata jsonb, expected jsonb, lease_token bigint, context jsonb,
        set_checkpoint boolean, checkpoint jsonb, runtime_backend text, runtime_metadata jsonb`,
  locked: "context, checkpoint, runtime_backend, runtime_metadata, updated_at, last_activity_at",
  looked: `i.id, i.event_id, i.metadata, i.lease_token, i.context, i.checkpoint, i.runtime_backend, i.runtime_metadata,
        i.context is not null and i.context::text is distinct from l.context::text as sets_context,
        i.set_checkpoint and i.checkpoint::text is distinct from l.checkpoint::text as sets_checkpoint,
        i.runtime_backend <> l.runtime_backend is true as sets_backend,
        i.runtime_metadata is not null and i.runtime_metadata::text is distinct from l.runtime_metadata::text
          as sets_metadata`,
  updates: `case when sets_context then 'context' end, case when sets_checkpoint then 'checkpoint' end,
        case when sets_backend then 'runtime_backend' end, case when sets_metadata then 'runtime_metadata' end`,
};

/** Whether somebody else than the writer holds the lease. */
const isHeld = "(l.lease_owner is not null and i.lease_token is null and l.lease_expires_at > clock_timestamp())";

const enters = `case when i.unless_held is null or ${isHeld} then i.enter else i.unless_held end`;
const isThere = `(i.means ? l.phase or l.phase = ${enters})`;

const state: Part = {
  input: `enter text, unless_held text, means jsonb, allowed jsonb, new_attempt boolean, reason text,
        auto_resume boolean`,
  locked: "status, status_reason, exit_requested, error, result, auto_resume",
  looked: `l.status as from_status, l.status_reason as from_status_reason, l.exit_requested as from_exit_requested,
        l.error as from_error, l.result as from_result, l.lease_owner as from_lease_owner,
        l.auto_resume as from_auto_resume, i.reason, i.new_attempt, i.auto_resume,
        case when i.enter is null or ${isThere} then l.phase else ${enters} end as to_phase`,
  // These follow from the transition itself, and are compared after it.
  updates: "",
};

/** SQL of what a setting is after the change. */
function newSetting(name: SettingName): string {
  const said = keptSetting(name, `(i.settings ->> '${name}')::${settingTypes[name]}`);
  return `case when i.settings ? '${name}' then ${said} else l.${name} end`;
}

/** Numbers by name: what the row has, or is set, and to that what is added. */
const newStats = `case when i.stats is null and i.stats_set is null and i.clear_stats is not true then l.stats else nullif((
          select kept || coalesce(
            jsonb_object_agg(key, coalesce((kept ->> key)::numeric, 0) + value::numeric) filter (where key is not null),
            '{}')
          from (
            select case when i.clear_stats then '{}' else coalesce(l.stats, '{}') end || coalesce(i.stats_set, '{}') as kept
          ) base
            left join jsonb_each_text(i.stats) on true
          group by kept
        ), '{}') end`;

const newStatsMax = `case when i.clear_stats then nullif(i.stats_max, '{}') when i.stats_max is null then l.stats_max
        else nullif(coalesce(l.stats_max, '{}') || (
          select coalesce(jsonb_object_agg(key, greatest((l.stats_max ->> key)::numeric, value::numeric)), '{}')
          from jsonb_each_text(i.stats_max)
        ), '{}') end`;

const newDetails = `case when i.details is null then l.details
          else nullif((coalesce(l.details, '{}') || i.details) - i.details_cleared, '{}') end`;

const isChanged = (column: string, from = "l") => `new_${column}::text is distinct from ${from}_${column}::text`;
/** Compared as they are shown: what is not set is shown as its default. */
const changedDetail = (name: DetailName) => {
  const shown = (details: string) => `coalesce((${details} -> '${name}')::text, '${detailDefaults[name]}')`;
  return `case when details is not null and ${shown("new_details")} <> ${shown("l_details")} then '${name}' end`;
};

const kept = ["stats", "stats_max", ...settingNames.filter((name) => name !== "exit_requested")] as const;

const rest: Part = {
  input: `settings jsonb, details jsonb, details_cleared text[], set_error boolean, error jsonb, set_result boolean,
        result jsonb, stats jsonb, stats_set jsonb, stats_max jsonb, clear_stats boolean`,
  locked: ["details", ...kept].join(", "),
  looked: [
    ...settingNames.map((name) => `${newSetting(name)} as new_${name}`),
    "case when i.set_error then i.error else l.error end as new_error",
    "case when i.set_result then i.result else l.result end as new_result",
    `${newStats} as new_stats`,
    `${newStatsMax} as new_stats_max`,
    `${newDetails} as new_details`,
    "i.details, l.details as l_details",
    "i.stats is not null or i.stats_set is not null or i.stats_max is not null as tells_figures",
    "i.set_error as sets_error, i.set_result as sets_result",
    "i.settings ? 'exit_requested' is true as sets_exit_requested",
    ...kept.map((column) => `l.${column} as l_${column}`),
  ].join(",\n        "),
  updates: [
    ...kept.map((column) => `case when ${isChanged(column)} then '${column}' end`),
    ...detailNames.map(changedDetail),
  ].join(",\n        "),
};

const tooMany = (column: string) =>
  `tells_figures and (select count(*) from jsonb_object_keys(${column})) > ${mostNames}`;

/** SQL over `looked`: what refuses a change that could be made otherwise. */
const outcomeOf: Readonly<Record<Variant, string>> = {
  documents: "found",
  state: "found",
  all: `case when found <> 'ok' then found
          when ${tooMany("new_stats")} then 'too_many_stats' when ${tooMany("new_stats_max")} then 'too_many_gauges'
          else 'ok' end`,
};

const partsOf: Readonly<Record<Variant, readonly Part[]>> = {
  documents: [documents],
  state: [documents, state],
  all: [documents, state, rest],
};

const assignmentsOf: Readonly<Record<Variant, Assignments>> = {
  documents: documentAssignments,
  state: stateAssignments,
  all: allAssignments,
};

/** Fields that a transition changes, or may, in the order of the schema: compared after it. */
const consequences = ["status_reason", "exit_requested", "error", "result", "lease_owner", "auto_resume"];

/** The columns of sessions that `changePayload` compares, each with `from_<column>`: what it was before a transition. */
export const comparedColumns = ["phase", "status", ...consequences];

/** The select list of what they are before it, over a relation with the columns of sessions. */
export function columnsBefore(relation: string): string {
  return comparedColumns.map((column) => `${relation}.${column} as from_${column}`).join(", ");
}

/** SQL over `s`, the session after the change, and `i`. */
export function changePayload(variant: Variant): string {
  const session = "'agent_id', s.agent_id, 'status', s.status, 'phase', s.phase";
  if (variant === "documents") return `jsonb_build_object(${session}, 'updates', to_jsonb(i.updates))`;
  const changed = consequences.map(
    (name) => `case when s.${name}::text is distinct from i.from_${name}::text then '${name}' end`,
  );
  return `jsonb_build_object(${session}, 'updates', to_jsonb(array_remove(
      array[case when s.status <> i.from_status then 'status' end, case when i.moves then 'phase' end]
        || i.updates || array[${changed.join(", ")}], null)))
    || case when i.moves then jsonb_build_object('from', i.from_phase, 'to', s.phase) else '{}' end
    || case when i.moves and s.status_reason is not null then jsonb_build_object('reason', s.status_reason)
      when not i.moves and s.exit_requested and i.from_exit_requested is not true and i.reason is not null
      then jsonb_build_object('reason', i.reason) else '{}' end`;
}

/** SQL over `looked`: what decides whether anything changes at all, beside the updates. */
const changesOf: Readonly<Record<Variant, readonly string[]>> = {
  documents: [],
  state: ["moves", "turns_resume"],
  all: ["moves", "turns_resume", ...clearable.map((column) => isChanged(column, "from"))],
};

const movesColumns = `,
        found = 'ok' and to_phase <> from_phase as moves,
        to_phase <> from_phase
          and (new_attempt is true or from_phase in (${crashed}) and to_phase not in (${ended})) as recovers,
        to_phase = from_phase and from_phase in ('paused', 'stopped')
          and auto_resume <> coalesce(from_auto_resume, false) is true as turns_resume`;

/*
 * `now` is read after the lock was waited for, and never lies before the last change, nor before what was reported since:
 * now() is the transaction's start, and would run backwards.
 *
 * A session that did not change is not given back here. Who names the token of its lease renews that all the same: a worker
 * that says again and again where it is has shown that it is at work.
 */
/** @param skipLocked leaves out sessions that somebody else is changing, instead of waiting for them */
export function changeStatement(variant: Variant, skipLocked: boolean): string {
  const parts = partsOf[variant];
  const moves = variant !== "documents";
  const join = (key: keyof Part) =>
    parts
      .map((part) => part[key])
      .filter((text) => text !== "")
      .join(",\n        ");
  return `
  with decided as materialized (
    select *, outcome = 'ok' and (${[...changesOf[variant], "cardinality(updates) > 0"].join(" or ")}) as changes
    from (
      select *, ${outcomeOf[variant]} as outcome,
        array_remove(array[${join("updates")}], null) as updates${moves ? movesColumns : ""}
      from (
        select ${join("looked")},
          l.phase as from_phase,
          greatest(clock_timestamp(), l.updated_at + interval '1 microsecond', l.last_activity_at) as now,
          case
            when l.id is null then 'not_found'
            when i.lease_token is not null and (l.lease_owner is null or l.lease_token <> i.lease_token)
              then 'lease_lost'
            when not i.expected @> to_jsonb(l.version) then 'stale'
            ${moves ? `when i.enter is not null and not ${isThere} and not i.allowed ? l.phase then 'conflict'` : ""}
            else 'ok'
          end as found
        from jsonb_to_recordset($3::text::jsonb) as i (${join("input")})
        left join (
          select id, phase, version, lease_owner, lease_token, lease_expires_at, ${join("locked")}
          from sessions
          where namespace = $1 and id = any($2::text::uuid[]) and deleted_at is null
          order by id
          for no key update ${skipLocked ? "skip locked" : ""}
        ) l using (id)
      ) looked
    ) compared
  ), updated as (
    update sessions s set
      ${setList(assignmentsOf[variant])}
    from decided i
    where i.changes and s.namespace = $1 and s.id = i.id
      and s.id = any($2::text::uuid[]) -- else the planner, which expects 100 inputs, may read the whole table
    returning s.namespace, s.last_sequence, s.updated_at as changed_at, ${sessionColumns("s")}
  ), renewed as (
    update sessions s set
      ${setList(renewal)}
    from decided i
    where i.outcome = 'ok' and not i.changes and i.lease_token is not null and s.namespace = $1 and s.id = i.id
      and s.id = any($2::text::uuid[])
  ), event as (${appendEvents("updated s join decided i using (id)", "'session.updated'", changePayload(variant))})
  select i.id as asked_id, i.outcome, i.changes as changed, i.from_phase, ${sessionColumnNames("u")}
  from decided i left join updated u using (id)`;
}
