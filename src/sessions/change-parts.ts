/**
 * What the variants of the statement that changes sessions add to each of its steps (see change-statement.ts): which columns
 * of the input and of the locked row they need, and how it is told what changes.
 */

import { bytesOf, type DocumentName, documentNames } from "./change-assignments.ts";
import { editedContext, editInput, editLateral, editLooked, editRefused } from "./context-edit.ts";
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
import { labelsLooked, labelsRefused } from "./labels.ts";
import { endedPhases, phases, statusOf } from "./lifecycle.ts";
import { mergedDocuments, mergeInput, mergeLateral, mergeLooked, mergeRefused } from "./session-merge.ts";
import { phaseList } from "./transition.ts";

/**
 * `checkpoint`, `context`: that alone; `documents`: any of the documents; `state`: a transition too; `all`: the settings,
 * details and outcome too; `edit`: what there is not only replaced, but edited or merged into, as what it is by then;
 * `labels`: the details with the labels among them, which have a table of their own.
 */
export const variants = ["checkpoint", "context", "documents", "state", "all", "edit", "labels"] as const;
export type Variant = (typeof variants)[number];

/** Whether it can take a session to another phase. */
export function mayMove(variant: Variant): boolean {
  return variant === "state" || variant === "all" || mayEdit(variant);
}

/** Whether it can edit the context, and merge into the rest. */
export function mayEdit(variant: Variant): boolean {
  return variant === "edit" || variant === "labels";
}

const ended = phaseList(endedPhases);
const crashed = phaseList(phases.filter((phase) => statusOf[phase] === "crashed"));

/** A part of the statement: what a variant adds to each of its steps. */
export interface Part {
  /** Columns of the input. */
  readonly input?: string;
  /** Select list over the input: documents as text, which is long work for large ones, and done once. */
  readonly spelled?: string;
  /** Columns of the locked row, beside `phase`, `version` and the lease. */
  readonly locked?: string;
  /** Select list over the input `i` and the locked row `l`. */
  readonly looked: string;
  /** Names of fields that change, null where they don't: SQL over `looked`. */
  readonly updates?: string;
}

const documentInputs: Readonly<Record<DocumentName, string>> = {
  context: "context jsonb",
  checkpoint: "set_checkpoint boolean, checkpoint jsonb",
  runtime_backend: "runtime_backend text",
  runtime_metadata: "runtime_metadata jsonb",
};

/**
 * SQL, true or null when a document changes: as text, as jsonb thinks 1 and 1.0 equal, and clients don't. One of another
 * length is another one: the old one, which may be large, is then not even read.
 *
 * @param spelled the new one as text
 * @param row of sessions
 */
export function isAnother(name: DocumentName, spelled: string, row: string): string {
  const other = `${spelled} is distinct from ${row}.${name}::text`;
  const bytes = bytesOf(name);
  return bytes === undefined ? other : `(octet_length(${spelled}) <> ${row}.${bytes} or ${other})`;
}

/**
 * A checkpoint alone can be cleared.
 *
 * @param made the aliases of what was made of those that are not only replaced
 */
function documents(names: readonly DocumentName[], made: { readonly [Name in DocumentName]?: string } = {}): Part {
  const from = (name: DocumentName) => made[name] ?? "i";
  const isSaid = (name: DocumentName) =>
    name === "checkpoint" ? "i.set_checkpoint" : `${from(name)}.${name} is not null`;
  const weighed = names.filter((name) => bytesOf(name) !== undefined);
  return {
    input: `id uuid, event_id uuid, metadata jsonb, expected jsonb, lease_token bigint,
        ${names.map((name) => documentInputs[name]).join(", ")}`,
    spelled: weighed
      .filter((name) => from(name) === "i")
      .map((name) => `${name}::text as spelled_${name}`)
      .join(", "),
    locked: ["updated_at, last_activity_at", ...names, ...weighed.map(bytesOf)].join(", "),
    looked: [
      "i.id, i.event_id, i.metadata, i.lease_token",
      ...names.map((name) => `${from(name)}.${name}`),
      ...weighed.map((name) => `octet_length(${from(name)}.spelled_${name}) as new_${bytesOf(name)}`),
      ...names.map((name) => {
        const spelled = weighed.includes(name) ? `${from(name)}.spelled_${name}` : `i.${name}`;
        return `${isSaid(name)} and ${isAnother(name, spelled, "l")} as sets_${name}`;
      }),
    ].join(",\n        "),
    updates: names.map((name) => `case when sets_${name} then '${name}' end`).join(", "),
  };
}

const anyDocument = documents(documentNames);
const anyEditedDocument = documents(documentNames, {
  context: editedContext,
  checkpoint: mergedDocuments,
  runtime_metadata: mergedDocuments,
});

/** Whether somebody else than the writer holds the lease. */
const isHeld = "(l.lease_owner is not null and i.lease_token is null and l.lease_expires_at > clock_timestamp())";

const enters = `case when i.unless_held is null or ${isHeld} then i.enter else i.unless_held end`;
export const isThere = `(i.means ? l.phase or l.phase = ${enters})`;

const state: Part = {
  input: `enter text, unless_held text, means jsonb, allowed jsonb, new_attempt boolean, reason text,
        auto_resume boolean, final_phases jsonb`,
  locked: "lease_expires_at, is_context_unsaved, status, status_reason, exit_requested, error, result, auto_resume",
  looked: `l.status as from_status, l.status_reason as from_status_reason, l.exit_requested as from_exit_requested,
        l.error as from_error, l.result as from_result, l.lease_owner as from_lease_owner,
        l.auto_resume as from_auto_resume, l.is_context_unsaved as from_is_context_unsaved, i.final_phases,
        i.reason, i.new_attempt, i.auto_resume,
        case when i.enter is null or ${isThere} then l.phase else ${enters} end as to_phase`,
  // No updates: these follow from the transition itself, and are compared after it.
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

export const isChanged = (column: string, from = "l") => `new_${column}::text is distinct from ${from}_${column}::text`;
/** Compared as they are shown: what is not set is shown as its default. */
const changedDetail = (name: DetailName) => {
  const shown = (details: string) => `coalesce((${details} -> '${name}')::text, '${detailDefaults[name]}')`;
  return `case when details is not null and ${shown("new_details")} <> ${shown("l_details")} then '${name}' end`;
};

const kept = ["stats", "stats_max", ...settingNames.filter((name) => name !== "exit_requested")] as const;

/** SQL over `i` and `l`: whether the session has lost the external id that it was found by. */
export const notAsFound = " or i.found_by is not null and l.external_id is distinct from i.found_by";

const restInput: Pick<Part, "input" | "locked"> = {
  input: `found_by text, settings jsonb, details jsonb, details_cleared text[], set_error boolean, error jsonb, set_result boolean,
        result jsonb, stats jsonb, stats_set jsonb, stats_max jsonb, clear_stats boolean`,
  locked: ["details", ...kept].join(", "),
};

/** @param made the alias of what was made of the error, the result and the details, and SQL of the latter */
const restOf = (made: string, details: string): Part => ({
  ...restInput,
  looked: [
    ...settingNames.map((name) => `${newSetting(name)} as new_${name}`),
    `case when i.set_error then ${made}.error else l.error end as new_error`,
    `case when i.set_result then ${made}.result else l.result end as new_result`,
    `${newStats} as new_stats`,
    `${newStatsMax} as new_stats_max`,
    `${details} as new_details`,
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
});

const rest = restOf("i", newDetails);
const mergedRest = restOf(mergedDocuments, `${mergedDocuments}.details`);

/** Whether it changes all that there is to change of a session. */
export function isOfAll(variant: Variant): boolean {
  return variant === "all" || mayEdit(variant);
}

const edit: Part = { input: `${editInput}, ${mergeInput}`, looked: `${editLooked}, ${mergeLooked}` };

/** Joined to the input and the locked row by the variants that edit. */
export const editLaterals = `${editLateral}
      ${mergeLateral(newDetails)}`;

const labels: Part = { looked: labelsLooked };

const tooMany = (column: string) =>
  `tells_figures and (select count(*) from jsonb_object_keys(${column})) > ${mostNames}`;

const tooManyFigures = `when ${tooMany("new_stats")} then 'too_many_stats'
          when ${tooMany("new_stats_max")} then 'too_many_gauges'`;

/** SQL over `looked`: what refuses a change that could be made otherwise. */
export const outcomeOf: Readonly<Record<Variant, string>> = {
  checkpoint: "found",
  context: "found",
  documents: "found",
  state: "found",
  all: `case when found <> 'ok' then found ${tooManyFigures} else 'ok' end`,
  edit: `case when found <> 'ok' then found ${editRefused} ${mergeRefused} ${tooManyFigures} else 'ok' end`,
  labels: `case when found <> 'ok' then found ${editRefused} ${mergeRefused} ${tooManyFigures} ${labelsRefused} else 'ok' end`,
};

export const partsOf: Readonly<Record<Variant, readonly Part[]>> = {
  checkpoint: [documents(["checkpoint"])],
  context: [documents(["context"])],
  documents: [anyDocument],
  state: [anyDocument, state],
  all: [anyDocument, state, rest],
  edit: [anyEditedDocument, state, mergedRest, edit],
  labels: [anyEditedDocument, state, mergedRest, edit, labels],
};

/** SQL over `looked`: of what may take the session to another phase, whether it does. */
export const movesColumns = `,
        found = 'ok' and to_phase <> from_phase as moves,
        (to_phase <> from_phase and final_phases ? to_phase and not (sets_checkpoint is true and checkpoint is not null)
          and (sets_context is true or from_is_context_unsaved)) is true as leaves_final,
        to_phase <> from_phase
          and (new_attempt is true or from_phase in (${crashed}) and to_phase not in (${ended})) as recovers,
        to_phase = from_phase and from_phase in ('paused', 'stopped')
          and auto_resume <> coalesce(from_auto_resume, false) is true as turns_resume`;
