/**
 * What a transition does to a session's row, as SQL, for every statement that makes one: requests, claims, the sweeper.
 * The assignments read `s`, the row before, and `i`, what was decided of it:
 *
 *   moves       whether it goes to another phase
 *   to_phase    the phase that it has afterwards
 *   recovers    whether that begins another attempt
 *   reason      why; null when nobody said
 *   now         the time of the change
 */

import { type SettingName, settingDefaults } from "./fields.ts";
import { endedPhases, livePhases, type Phase, phases, statusOf } from "./lifecycle.ts";

/** Column of sessions → SQL of its new value. */
export type Assignments = Readonly<Record<string, string>>;

/** Phases as an SQL list of literals. */
export function phaseList(list: readonly Phase[]): string {
  return list.map((phase) => `'${phase}'`).join(", ");
}

const live = phaseList(livePhases);
const goingOn = phaseList(["pending", ...livePhases]);
const ended = phaseList(endedPhases);

/** Nobody owns a session that waits, was set aside, or is over: entering one of these frees its lease. */
export const unownedPhases: readonly Phase[] = phases.filter(
  (phase) => phase === "pending" || statusOf[phase] !== "active",
);
const unowned = phaseList(unownedPhases);

/** A crashed session waits before it may be claimed again: so long after the first crash, twice as long after each other. */
const firstBackOffSeconds = 5;
const longestBackOffSeconds = 600;

/** How many seconds after the crash of an attempt the next one may be claimed; `nextAttempt` says the same in SQL. */
export function backOffSeconds(attempt: number): number {
  return Math.min(firstBackOffSeconds * 2 ** (attempt - 1), longestBackOffSeconds);
}

/**
 * The assignments of what a session has spent in the phases that it leaves.
 *
 * @param end SQL over `s` and `i`: until when it was in the last one
 */
export function timesOfPhases(end: string): Assignments {
  const milliseconds = `(extract(epoch from ${end} - s.phase_since) * 1000)::bigint`;
  return {
    phase_since: end,
    active_ms: `s.active_ms + case when s.phase in (${live}) then ${milliseconds} else 0 end`,
    phase_ms: `coalesce(s.phase_ms, '{}')
    || jsonb_build_object(s.phase, coalesce((s.phase_ms ->> s.phase)::bigint, 0) + ${milliseconds})`,
  };
}

const beginsAttempt = `i.to_phase in (${live}) and (i.recovers or s.attempt_started_at is null)`;

/** SQL of what a setting is after the change. */
type Setting = (name: SettingName) => string;

function mayTryAgain(setting: Setting): string {
  return `${setting("auto_recover")} and s.attempt < coalesce(${setting("max_attempts")}, ${settingDefaults.max_attempts})`;
}

/** SQL of when a session that has crashed may be claimed again; null when it may not. */
export function nextAttempt(setting: Setting): string {
  return `case when i.to_phase = 'crashed' and ${mayTryAgain(setting)}
    then i.now + make_interval(secs => least(${firstBackOffSeconds} * 2 ^ (s.attempt - 1), ${longestBackOffSeconds})) end`;
}

/** The reason of a session that has crashed for the last time. */
export const exhausted = "attempts_exhausted";

function whenItMoves(setting: Setting): Assignments {
  return {
    ...timesOfPhases("i.now"),
    transitions: "s.transitions + 1",
    status_reason: `case when i.to_phase = 'crashed' and ${setting("auto_recover")} and not (${mayTryAgain(setting)})
    then '${exhausted}'
    -- Why it was to stop stands with the request, and not with the worker that has then come to its end.
    else coalesce(i.reason, case when s.phase = 'stopping' and i.to_phase = 'stopped' then s.status_reason end) end`,
    attempt: "s.attempt + i.recovers::int",
    started_at: `coalesce(s.started_at, case when i.to_phase in (${live}) then i.now end)`,
    attempt_started_at: `case when ${beginsAttempt} then i.now when i.recovers then null else s.attempt_started_at end`,
    // Only from a phase that is not live does an attempt begin, so what `active_ms` is before is what it is afterwards.
    attempt_base_ms: `case when ${beginsAttempt} then s.active_ms else s.attempt_base_ms end`,
    ended_at: `case when i.to_phase in (${ended}) then i.now end`,
    next_attempt_at: nextAttempt(setting),
    claimable_at: `case i.to_phase when 'pending' then greatest(i.now, ${setting("scheduled_at")}) when 'crashed' then ${nextAttempt(setting)} end`,
    lease_owner: `case when i.to_phase in (${unowned}) then null else s.lease_owner end`,
    lease_expires_at: `case when i.to_phase in (${unowned}) then null else s.lease_expires_at end`,
    lease_seconds: `case when i.to_phase in (${unowned}) then null else s.lease_seconds end`,
    // What was asked of the work before is not asked of what begins now. What waits for a worker has that before it still.
    exit_requested: `case when i.to_phase in (${goingOn}) and s.phase not in (${goingOn}) and s.auto_resume is not true
    then null else s.exit_requested end`,
    auto_resume: "null",
    error: "case when i.to_phase = 'completed' then null else s.error end",
    result: "case when i.recovers then null else s.result end",
  };
}

/**
 * The assignments of a transition.
 *
 * @param always true: every row moves; false: those where `i.moves`, the others keep what they have
 * @param instead assignments for rows that move, in place of the usual ones (a claim gives a lease)
 * @param setting SQL of what a setting is after the change, where the same statement may change it
 */
export function transitionAssignments(
  always: boolean,
  instead: Assignments = {},
  setting: Setting = (name) => `s.${name}`,
): Assignments {
  const moving = Object.entries({ ...whenItMoves(setting), ...instead });
  const assignments = moving.map(([column, value]) => [
    column,
    always ? value : `case when i.moves then ${value} else s.${column} end`,
  ]);
  return { phase: "i.to_phase", ...Object.fromEntries(assignments) };
}

/** SQL for the SET of an UPDATE of `sessions s`. */
export function setList(assignments: Assignments): string {
  return Object.entries(assignments)
    .map(([column, value]) => `${column} = ${value}`)
    .join(",\n      ");
}
