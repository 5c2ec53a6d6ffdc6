/**
 * What a change on request writes, as SQL: of the documents alone, with a transition, and with all else. It reads `s`, the
 * row before, and `i`, what was decided of it (see change-statement.ts).
 */

import { countCheckpoint } from "./checkpoint-history.ts";
import { type SettingName, settingNames } from "./fields.ts";
import { earliestCheck } from "./timers.ts";
import {
  type Assignments,
  exhausted,
  nextAttempt,
  phaseList,
  transitionAssignments,
  unownedPhases,
} from "./transition.ts";

const unowned = phaseList(unownedPhases);

/** What the request may set, and a transition may clear: what is said holds. */
export const clearable = ["exit_requested", "error", "result"] as const;

/** How the holder of the lease, who has named its token, renews it by what it writes. */
const leaseRenewed = (now: string) =>
  `case when i.lease_token is not null then ${now} + make_interval(secs => s.lease_seconds)
        else s.lease_expires_at end`;

/** The documents, in the order of the schema; the backend is no document, and changes like one. */
export const documentNames = ["context", "checkpoint", "runtime_backend", "runtime_metadata"] as const;
export type DocumentName = (typeof documentNames)[number];

/** The column that keeps what a document weighs in an answer, in bytes. */
export function bytesOf(name: DocumentName): string | undefined {
  return name === "runtime_backend" ? undefined : `${name}_bytes`;
}

/** SQL over `i`: whether a checkpoint is saved, and not only cleared. */
export const savesCheckpoint = "(i.sets_checkpoint is true and i.checkpoint is not null)";

const documentValues: Readonly<Record<DocumentName, Assignments>> = {
  context: {
    context: "case when i.sets_context then i.context else s.context end",
    context_bytes: "case when i.sets_context then i.new_context_bytes else s.context_bytes end",
  },
  checkpoint: {
    checkpoint: "case when i.sets_checkpoint then i.checkpoint else s.checkpoint end",
    checkpoint_bytes: `case when i.sets_checkpoint then coalesce(i.new_checkpoint_bytes, 0)
        else s.checkpoint_bytes end`,
    ...countCheckpoint(savesCheckpoint),
  },
  runtime_backend: { runtime_backend: "coalesce(i.runtime_backend, s.runtime_backend)" },
  runtime_metadata: {
    runtime_metadata: "case when i.sets_runtime_metadata then i.runtime_metadata else s.runtime_metadata end",
    runtime_metadata_bytes: `case when i.sets_runtime_metadata then i.new_runtime_metadata_bytes
        else s.runtime_metadata_bytes end`,
  },
};

function isContextUnsaved(names: readonly DocumentName[]): string {
  const saved = names.includes("checkpoint") ? `when ${savesCheckpoint} then false` : "";
  const changed = names.includes("context") ? "when i.sets_context then true" : "";
  return `case ${saved} ${changed} else s.is_context_unsaved end`;
}

/** Of every change, whatever it is of. */
export const counted: Assignments = {
  version: "s.version + 1",
  last_sequence: "s.last_sequence + 1",
  last_activity_kind: "'change'",
};

/**
 * SQL of the time of a change: read after the lock was waited for, and never before the last change, nor before what was
 * reported since. (now() is the transaction's start, and would run backwards.)
 *
 * @param row of sessions, locked
 */
export function changeTime(row: string): string {
  return `greatest(clock_timestamp(), ${row}.updated_at + interval '1 microsecond', ${row}.last_activity_at)`;
}

/** What a change at that time moves. */
export function dated(now: string): Assignments {
  return { updated_at: now, last_activity_at: now, lease_expires_at: leaseRenewed(now) };
}

/** Of these documents alone. */
export function documentAssignments(names: readonly DocumentName[]): Assignments {
  return {
    ...Object.fromEntries(names.flatMap((name) => Object.entries(documentValues[name]))),
    ...(names.includes("context") || names.includes("checkpoint")
      ? { is_context_unsaved: isContextUnsaved(names) }
      : {}),
    ...counted,
    ...dated("i.now"),
  };
}

/** Of nothing, by the holder of the lease: as a heartbeat. */
export const renewal: Assignments = {
  last_activity_at: "i.now",
  last_activity_kind: "'heartbeat'",
  lease_expires_at: "i.now + make_interval(secs => s.lease_seconds)",
};

const pausing: Assignments = { auto_resume: "case when i.to_phase = 'paused' and i.auto_resume then true end" };

function withTransition(moving: Assignments): Assignments {
  return {
    ...documentAssignments(documentNames),
    ...moving,
    ...countCheckpoint(`(${savesCheckpoint} or i.leaves_final)`),
    is_context_unsaved: `not i.leaves_final and ${isContextUnsaved(documentNames)}`,
    lease_expires_at: `case when i.moves and i.to_phase in (${unowned}) then null
        else ${leaseRenewed("i.now")} end`,
    auto_resume: `case when i.turns_resume then nullif(i.auto_resume, false) else ${moving["auto_resume"]} end`,
    claimable_at: `case when i.moves and i.to_phase = 'paused' and i.auto_resume then i.now
        when i.turns_resume then case when i.auto_resume then i.now end
        else ${moving["claimable_at"]} end`,
  };
}

/** With a transition. */
export const stateAssignments = withNextCheck(withTransition(transitionAssignments(false, pausing)));

const newSettingName = (name: SettingName) => `i.new_${name}`;
const settings: Assignments = Object.fromEntries(settingNames.map((name) => [name, newSettingName(name)]));
const movingWithSettings = withTransition(transitionAssignments(false, pausing, newSettingName));

function unlessSaid(column: (typeof clearable)[number]): string {
  return `case when i.sets_${column} then i.new_${column} else ${movingWithSettings[column]} end`;
}

/** Who changes what is asked of a session that has crashed, changes whether it may be tried again. */
const isJudgedAgain = `not i.moves and s.phase = 'crashed'
        and (i.new_auto_recover, i.new_max_attempts) is distinct from (s.auto_recover, s.max_attempts)`;
const attemptAfterAll = nextAttempt(newSettingName);

/** With the settings, the details and the outcome too. */
export const allAssignments: Assignments = withNextCheck({
  ...movingWithSettings,
  ...settings,
  exit_requested: unlessSaid("exit_requested"),
  error: unlessSaid("error"),
  result: unlessSaid("result"),
  outcome_bytes: ["error", "result", "stats", "stats_max"]
    .map((column) => `coalesce(octet_length(i.new_${column}::text), 0)`)
    .join(" + "),
  stats: "i.new_stats",
  stats_max: "i.new_stats_max",
  details: "i.new_details",
  details_bytes: `case when i.details is null then s.details_bytes
        else coalesce(octet_length(i.new_details::text), 0) end`,
  claimable_at: `case when not i.moves and s.phase = 'pending' and i.new_scheduled_at is distinct from s.scheduled_at
          then greatest(i.now, i.new_scheduled_at)
        when ${isJudgedAgain} then ${attemptAfterAll} else ${movingWithSettings["claimable_at"]} end`,
  next_attempt_at: `case when ${isJudgedAgain} then ${attemptAfterAll} else ${movingWithSettings["next_attempt_at"]} end`,
  status_reason: `case when ${isJudgedAgain} and (${attemptAfterAll}) is not null
        then nullif(s.status_reason, '${exhausted}') else ${movingWithSettings["status_reason"]} end`,
});

function withNextCheck(assignments: Assignments): Assignments {
  const after = (column: string) => `(${assignments[column] ?? `s.${column}`})`;
  return { ...assignments, next_check_at: earliestCheck("i.now", after) };
}
