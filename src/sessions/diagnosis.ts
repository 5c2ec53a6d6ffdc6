/** Why is it stuck? All that decides what becomes of a session, as of one moment, and in words. */

import type { Queries } from "../db/client.ts";
import { utcText } from "../db/time.ts";
import { actions, type Target } from "./actions.ts";
import type { RequestContext } from "./context.ts";
import { type DiagnosisFacts, summaryOf, type TimerFacts } from "./diagnosis-summary.ts";
import { settingDefaults } from "./fields.ts";
import { type Phase, phases, phasesThatMayEnter, type Status, statusOf, transitions } from "./lifecycle.ts";
import { leaseEnd, type Timer, timers } from "./timers.ts";

export type ActivityKind = "change" | "heartbeat" | "event";

export interface DiagnosisQuery {
  /** A UUID. */
  readonly id: string;
  /** How long ago the last sweep must be for the sweeps to count as stopped. */
  readonly sweepOverdueSeconds: number;
}

/** Times are as `utcText` gives them, durations in seconds with at most three decimals. */
export interface Diagnosis extends DiagnosisFacts {
  readonly id: string;
  readonly summary: string;
  /** The moment as of which all is told. */
  readonly checkedAt: string;
  readonly status: Status;
  readonly phaseSince: string;
  readonly lease: (NonNullable<DiagnosisFacts["lease"]> & { readonly expiresAt: string }) | undefined;
  readonly lastActivity: { readonly at: string; readonly secondsAgo: number; readonly kind: ActivityKind };
  readonly timers: readonly RunningTimer[];
  readonly claimableAt: string | null;
  readonly scheduledAt: string | null;
  readonly nextAttemptAt: string | null;
  readonly openTransitions: readonly OpenTransition[];
  readonly sweptAt: string | null;
}

export interface RunningTimer extends TimerFacts {
  readonly deadline: string;
}

/** Where a session may go from where it is. */
export interface OpenTransition {
  readonly to: Phase;
  /** The actions (`POST /sessions/{id}/<verb>`) that lead there; none: a change of `phase` does, or the service itself. */
  readonly verbs: readonly string[];
}

/** The name of each verb, by what it asks for; `requestExit` leads nowhere. */
const verbs: readonly (readonly [verb: string, target: Target])[] = [
  ["start", actions.starting],
  ["start", actions.start],
  ["pause", actions.pause],
  ["resume", actions.resume],
  ["stop", actions.stop],
  ["complete", actions.complete],
  ["fail", actions.fail],
  ["crash", actions.crash],
  ["recover", actions.recover],
  ["recover", actions.recoverByForce],
  ["restart", actions.restart],
];

/**
 * The phases that a session may go to, each with the verbs that lead there.
 *
 * @param isHeld whether somebody holds its lease
 */
export function openTransitions(from: Phase, isHeld: boolean): OpenTransition[] {
  const open = new Map<Phase, Set<string>>(transitions[from].map((to) => [to, new Set()]));
  for (const [verb, { entry, entryUnlessHeld, means, allowed }] of verbs) {
    const mayLeave = allowed ?? phasesThatMayEnter(entryUnlessHeld ?? entry);
    if (means.includes(from) || !mayLeave.includes(from)) continue;
    // Who holds the lease stops it; who does not asks the holder to.
    const landings = entryUnlessHeld === undefined ? [entry] : isHeld ? [entry, entryUnlessHeld] : [entryUnlessHeld];
    for (const to of landings) if (to !== from) open.set(to, (open.get(to) ?? new Set()).add(verb));
  }
  return phases.flatMap((to) => {
    const found = open.get(to);
    return found === undefined ? [] : [{ to, verbs: [...found] }];
  });
}

const renewedAt = "w.leases_renewed_at";
const known: readonly Timer[] = timers(renewedAt);

function seconds(interval: string): string {
  return `round(extract(epoch from ${interval}), 3)::float8`;
}

/** RFC 3339 knows no later one. */
const latest = "timestamptz '9999-12-31 23:59:59.999999Z'";
const deadlines = known
  .map(
    ({ name, deadline }, place) =>
      `(${place}, '${name}', case when (${deadline}) > ${latest} then ${latest} else ${deadline} end)`,
  )
  .join(", ");

/** Who was never swept has no time; the sweeps begin at -infinity. */
const sweptAt = "case when isfinite(w.swept_at) then w.swept_at end";

/** A claim asks for both. */
const claimableAt = "case when s.claimable_at is not null then greatest(s.claimable_at, s.scheduled_at) end";

const statement = `
  with w as materialized (
    select clock_timestamp() as now, leases_renewed_at, swept_at from sweeps where name = 'sessions'
  )
  select s.id, s.phase, s.status_reason, s.exit_requested, s.attempt, s.max_attempts, s.auto_recover,
    s.lease_owner, s.last_activity_kind,
    ${utcText("w.now")} as checked_at,
    ${utcText("s.phase_since")} as phase_since,
    ${seconds("w.now - s.phase_since")} as phase_seconds,
    ${utcText(leaseEnd(renewedAt))} as lease_end,
    ${seconds(`${leaseEnd(renewedAt)} - w.now`)} as lease_seconds_left,
    (${leaseEnd(renewedAt)}) > w.now as lease_is_live,
    ${utcText("s.last_activity_at")} as last_activity_at,
    ${seconds("w.now - s.last_activity_at")} as last_activity_seconds,
    ${utcText(claimableAt)} as claimable_at,
    ${seconds(`${claimableAt} - w.now`)} as seconds_until_claimable,
    ${utcText("s.scheduled_at")} as scheduled_at,
    ${utcText("s.next_attempt_at")} as next_attempt_at,
    ${utcText(sweptAt)} as swept_at,
    ${seconds(`w.now - ${sweptAt}`)} as sweep_seconds,
    (
      select coalesce(jsonb_agg(jsonb_build_object('name', name, 'deadline', ${utcText("deadline")},
        'seconds_left', ${seconds("deadline - w.now")}) order by deadline, place), '[]')::text
      from (values ${deadlines}) t (place, name, deadline)
      where deadline is not null
    ) as timers
  from w cross join sessions s
  where s.namespace = $1 and s.id = $2::text::uuid and s.deleted_at is null`;

interface Row {
  readonly id: string;
  readonly phase: Phase;
  readonly status_reason: string | null;
  readonly exit_requested: boolean | null;
  readonly attempt: number;
  readonly max_attempts: number | null;
  readonly auto_recover: boolean | null;
  readonly lease_owner: string | null;
  readonly last_activity_kind: ActivityKind;
  readonly checked_at: string;
  readonly phase_since: string;
  readonly phase_seconds: number;
  readonly lease_end: string | null;
  readonly lease_seconds_left: number | null;
  readonly lease_is_live: boolean | null;
  readonly last_activity_at: string;
  readonly last_activity_seconds: number;
  readonly claimable_at: string | null;
  readonly seconds_until_claimable: number | null;
  readonly scheduled_at: string | null;
  readonly next_attempt_at: string | null;
  readonly swept_at: string | null;
  readonly sweep_seconds: number | null;
  readonly timers: string;
}

/**
 * Tells all that decides what becomes of a session.
 *
 * @returns undefined when there is no such session
 * @throws {ServiceError} database_unavailable, schema_outdated
 */
export async function diagnoseSession(
  database: Queries,
  context: RequestContext,
  { id, sweepOverdueSeconds }: DiagnosisQuery,
): Promise<Diagnosis | undefined> {
  const [row] = await database.query<Row>(statement, [context.namespace, id], { neverWaits: true });
  return row && diagnosisOf(row, sweepOverdueSeconds);
}

function diagnosisOf(row: Row, sweepOverdueSeconds: number): Diagnosis {
  const facts = {
    id: row.id,
    checkedAt: row.checked_at,
    phase: row.phase,
    status: statusOf[row.phase],
    phaseSince: row.phase_since,
    phaseSeconds: row.phase_seconds,
    statusReason: row.status_reason,
    exitRequested: row.exit_requested ?? false,
    attempt: row.attempt,
    maxAttempts: row.max_attempts ?? settingDefaults.max_attempts,
    autoRecover: row.auto_recover ?? false,
    lease: leaseOf(row),
    lastActivity: { at: row.last_activity_at, secondsAgo: row.last_activity_seconds, kind: row.last_activity_kind },
    timers: timersOf(row.timers),
    claimableAt: row.claimable_at,
    secondsUntilClaimable: row.seconds_until_claimable,
    scheduledAt: row.scheduled_at,
    nextAttemptAt: row.next_attempt_at,
    openTransitions: openTransitions(row.phase, row.lease_is_live ?? false),
    sweptAt: row.swept_at,
    sweepSeconds: row.sweep_seconds,
    isSweepOverdue: row.sweep_seconds === null || row.sweep_seconds > sweepOverdueSeconds,
  };
  return { ...facts, summary: summaryOf(facts) };
}

function leaseOf({ lease_owner: owner, lease_end, lease_is_live, lease_seconds_left }: Row): Diagnosis["lease"] {
  if (owner === null || lease_end === null) return undefined;
  return { owner, expiresAt: lease_end, isLive: lease_is_live ?? false, secondsLeft: lease_seconds_left ?? 0 };
}

function timersOf(text: string): RunningTimer[] {
  const rows = JSON.parse(text) as {
    readonly name: string;
    readonly deadline: string;
    readonly seconds_left: number;
  }[];
  return rows.flatMap(({ name, deadline, seconds_left: secondsLeft }) => {
    const timer = known.find((one) => one.name === name);
    return timer === undefined ? [] : [{ name, outcome: timer.outcome, deadline, secondsLeft }];
  });
}
