/**
 * The timers of a session: what is due when, and what comes of it. Pure: it makes the SQL that the sweeper, the commands
 * and the diagnosis share, and knows no database.
 *
 * Deadlines move with activity, so none is stored. `next_check_at` is only the earliest time at which it is worth looking:
 * commands may bring it nearer (see `earliestCheck`), never push it on; the sweeper, who looks at the deadlines themselves,
 * does. So a heartbeat or a checkpoint touches no index.
 *
 *   a command ──► next_check_at = least(what it was, the earliest that could be) ──► a sweeper looks
 *                        ▲                                                              │ too early: pushes it on
 *                        └──────────────────────────────────────────────────────────────┤
 *                                                     outcome: idle, expired, … ◄───────┘ due
 */

import { livePhases, type Phase, phases, transitions } from "./lifecycle.ts";

/** What a timer makes of a session: a phase that it enters, or its soft deletion. */
export type TimerOutcome = Phase | "deleted";

export interface Timer {
  /** As the diagnosis calls it; also the field that sets it, where there is one. */
  readonly name: string;
  readonly outcome: TimerOutcome;
  /** The `status_reason` of a session that it ended. */
  readonly reason: string;
  /** SQL over `s`, a row of sessions: its deadline, null when it does not run. */
  readonly deadline: string;
}

/** The shortest and the longest that a timer, and a lease, may be set to, in seconds; 0 turns a timer off. */
export const longestTimerSeconds = 10 * 366 * 24 * 3_600;
export const longestLeaseSeconds = 3_600;

/** SQL for an interval of so many seconds; null, so that no deadline comes of it, when it is off. */
function seconds(column: string): string {
  return `make_interval(secs => nullif(${column}, 0))`;
}

function among(list: readonly Phase[]): string {
  return `s.phase in (${list.map((phase) => `'${phase}'`).join(", ")})`;
}

/** Where the outcome is a legal transition: a timer never does what nobody else could. */
function mayBecome(outcome: Phase, candidates: readonly Phase[]): readonly Phase[] {
  return candidates.filter((phase) => transitions[phase].includes(outcome));
}

/**
 * SQL over `s`: until when its holder's lease is good, null when nobody holds one. Leases that were held while nobody could
 * renew them count as renewed when the sweeps begin again.
 *
 * @param renewedAt SQL of `sweeps.leases_renewed_at`
 */
export function leaseEnd(renewedAt: string): string {
  return `case when s.lease_owner is not null
    then greatest(s.lease_expires_at, ${renewedAt} + make_interval(secs => s.lease_seconds)) end`;
}

/** SQL over `s`: milliseconds that the attempt has been live, up to `phase_since`. */
const attemptMs = "(s.active_ms - s.attempt_base_ms)";

/**
 * Every timer there is, in the order in which they win when several are due at the same time.
 *
 * @param renewedAt SQL of `sweeps.leases_renewed_at`
 */
export function timers(renewedAt: string): readonly Timer[] {
  // While nobody could renew a lease, its holder could not show in any other way that it is at work.
  const lastActivity = `case when s.lease_owner is not null
    then greatest(s.last_activity_at, ${renewedAt}) else s.last_activity_at end`;
  return [
    {
      name: "expires_at",
      outcome: "deleted",
      reason: "expires_at",
      deadline: "case when not s.legal_hold then s.expires_at end",
    },
    {
      name: "timeout_seconds",
      outcome: "timed_out",
      reason: "timeout",
      deadline: `case when ${among(mayBecome("timed_out", livePhases))}
        then s.phase_since + ${seconds("s.timeout_seconds")} - make_interval(secs => ${attemptMs} / 1000.0) end`,
    },
    {
      name: "lease",
      outcome: "crashed",
      reason: "lease_expired",
      deadline: `case when ${among(mayBecome("crashed", livePhases))} then ${leaseEnd(renewedAt)} end`,
    },
    {
      // A busy session that somebody holds is ended by its lease, if by anything.
      name: "idle_timeout_seconds",
      outcome: "expired",
      reason: "idle_timeout",
      deadline: `case when ${among(["running", "ready", "paused", "idle", "stopped"])}
          or s.phase = 'busy' and s.lease_owner is null
        then ${lastActivity} + ${seconds("s.idle_timeout_seconds")} end`,
    },
    {
      name: "pending_timeout_seconds",
      outcome: "expired",
      reason: "pending_timeout",
      deadline: `case when s.phase = 'pending' then s.claimable_at + ${seconds("s.pending_timeout_seconds")} end`,
    },
    {
      name: "waiting_timeout_seconds",
      outcome: "idle",
      reason: "waiting_timeout",
      deadline: `case when ${among(mayBecome("idle", phases))}
        then ${lastActivity} + ${seconds("s.waiting_timeout_seconds")} end`,
    },
  ];
}

/** SQL of what a column is after a change. */
export type After = (column: string) => string;

/** The columns that the deadlines are made of. */
export const timerColumns = [
  "phase",
  "phase_since",
  "active_ms",
  "attempt_base_ms",
  "last_activity_at",
  "claimable_at",
  "lease_owner",
  "lease_expires_at",
  "lease_seconds",
  "legal_hold",
  "expires_at",
  "timeout_seconds",
  "waiting_timeout_seconds",
  "idle_timeout_seconds",
  "pending_timeout_seconds",
] as const;

/**
 * SQL for `next_check_at` after a change by a sweeper, who alone may push it on: the first deadline that the session has
 * then, null when it has none.
 *
 * @param renewedAt SQL of `sweeps.leases_renewed_at`
 */
export function exactCheck(renewedAt: string, after: After): string {
  return `(select least(${timers(renewedAt)
    .map(({ deadline }) => deadline)
    .join(", ")})
    from (select ${timerColumns.map((column) => `${after(column)} as ${column}`).join(", ")}) s)`;
}

/**
 * SQL for `next_check_at` after a change on request: as early as any timer could be due by then, whatever the phase, and
 * never later than it was. A change is activity, so what counts from the last one counts from now.
 *
 * @param after for `next_check_at`: before the change
 */
export function earliestCheck(now: string, after: After): string {
  const spent = `${after("active_ms")} - ${after("attempt_base_ms")}`;
  const untouched = ["waiting_timeout_seconds", "idle_timeout_seconds"].map((column) => `nullif(${after(column)}, 0)`);
  return `least(
    ${after("next_check_at")},
    ${now} + make_interval(secs => least(${untouched.join(", ")})),
    ${after("claimable_at")} + ${seconds(after("pending_timeout_seconds"))},
    ${after("phase_since")} + ${seconds(after("timeout_seconds"))} - make_interval(secs => (${spent}) / 1000.0),
    case when ${after("lease_owner")} is not null then ${after("lease_expires_at")} end,
    case when not ${after("legal_hold")} then ${after("expires_at")} end)`;
}
