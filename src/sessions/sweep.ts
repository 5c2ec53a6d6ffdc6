/**
 * What timers make of sessions: looks for those that are due, by the database's clock, and lets happen to each what its
 * first deadline says. Any number of processes may do this at once.
 *
 *   beginSweep ──as of──► sweepDue ──► locked ──► decided ──┬─► moved ────► session.updated
 *       ▲                    │                              ├─► deleted ──► session.deleted
 *       │                    │                              ├─► kept: pushed on to its first deadline
 *       └──────more──────────┘                              └─► later: too much to save at once
 */

import type { Queries } from "../db/client.ts";
import { utcText } from "../db/time.ts";
import { appendEvents } from "../events/outbox.ts";
import { changeTime } from "./change-assignments.ts";
import { changePayload, columnsBefore, comparedColumns } from "./change-statement.ts";
import {
  countFinalCheckpoint,
  type FinalCheckpoints,
  finalColumns,
  finalPhases,
  keepFinalCheckpoints,
} from "./checkpoint-history.ts";
import type { Phase } from "./lifecycle.ts";
import { exactCheck, type TimerOutcome, timerColumns, timers } from "./timers.ts";
import { type Assignments, setList, transitionAssignments } from "./transition.ts";
import type { TransitionedSession } from "./transition-log.ts";

/** A moment, and since when leases count as renewed; both as the database writes them. */
export interface SweepStart {
  readonly as_of: string;
  readonly renewed_at: string;
}

/** A session that a sweep changed. */
export interface Swept {
  readonly outcome: TimerOutcome;
  readonly from: Phase;
  /** As it is afterwards. */
  readonly session: TransitionedSession;
}

export interface SweepResult {
  readonly swept: readonly Swept[];
  /** Whether more sessions may be due. */
  readonly more: boolean;
}

/*
 * The clock is read once. A server that froze in the midst of it has then either been asked for a time before the
 * freeze, and judges by that, or for one after it, and sees that nobody has swept for long.
 */
const beginStatement = `
  update sweeps w set
    leases_renewed_at = case when w.swept_at < n.now - make_interval(secs => $1::text::float8 / 1000)
      then n.now else w.leases_renewed_at end
  from (select clock_timestamp() as now) n
  where w.name = 'sessions'
  returning n.now::text as as_of, w.leases_renewed_at::text as renewed_at`;

/**
 * Looks at the clock, and at when a sweep was last done. When none was for a while, nobody could renew a lease either, and
 * all that are held count as renewed now.
 *
 * @param graceMs how old the last sweep must be for that, in milliseconds
 */
export async function beginSweep(database: Queries, graceMs: number): Promise<SweepStart> {
  const [start] = await database.query<SweepStart>(beginStatement, [String(graceMs)]);
  if (start === undefined) throw new Error("the table sweeps has lost its row");
  return start;
}

/** As many take 20 to 40 ms: nobody waits long for a row's lock, and what a statement costs by itself is spread thin. */
const batchSize = 500;

/**
 * What the last checkpoints that one statement saves may weigh together, but for the first one's: some 30 ms a megabyte. Of
 * a fleet that is lost with large contexts the others wait for the next statement.
 */
const mostBytes = 16 * 1024 * 1024;

const asOf = "$1::text::timestamptz";
const renewedAt = "$2::text::timestamptz";

const known = timers(renewedAt);
const deadlines = known.map((_, at) => `deadline_${at}`);

/** SQL for a word of the first timer that is due; of two at the same time the one that is listed first. */
const ofFirst = (word: "outcome" | "reason") =>
  `case ${known.map((timer, at) => `when first = deadline_${at} then '${timer[word]}'`).join(" ")} end`;

const read = new Set([
  "deleted_at",
  "updated_at",
  "is_context_unsaved",
  "context_bytes",
  "checkpoint_bytes",
  "next_check_at",
  ...timerColumns,
  ...comparedColumns,
]);

const moving = transitionAssignments(true);

/** No activity: it is the lack of it that brought the sweeper here. */
const assignments: Assignments = {
  ...moving,
  ...countFinalCheckpoint("i.leaves_final"),
  version: "s.version + 1",
  last_sequence: "s.last_sequence + 1",
  updated_at: "i.now",
  next_check_at: exactCheck(renewedAt, (column) => moving[column] ?? `s.${column}`),
};

const told = `s.id, s.phase, s.status_reason, s.attempt, ${utcText("s.started_at")} as started_at,
      ${utcText("s.ended_at")} as ended_at`;
const toldNames = "id, phase, status_reason, attempt, started_at, ended_at";

/** What its event is written from. */
const event = "s.namespace, s.last_sequence, s.version, s.updated_at as changed_at, gen_random_uuid() as event_id";
const marked = `cross join lateral (select s.event_id, '{"actor":"sweeper"}'::jsonb as metadata) i`;

/*
 * A row that somebody else has locked is left to them: it is looked at again at the next sweep. One that was changed since
 * the statement began is given as it is now, so a heartbeat that came before the lock counts; its new version can't be
 * seen by the update, and so it is left for the next sweep, too.
 *
 * The statement is planned when the table may be empty, and has to be right for a million rows. So the planner is told
 * an interval, not "all before", and not how many are wanted: it then expects few, finds them by their index, in its
 * order, and each row by its place. The events are written from what was changed, without a join.
 *
 * A deleted session has no timers.
 *
 * That it was done goes on record in the statement itself. One that had to be given up, as while an index is built on the
 * table, was none: nobody could renew a lease meanwhile either.
 */
export const sweepStatement = `
  with locked as materialized (
    select ctid as place, ${[...read].join(", ")} from sessions
    where next_check_at > '-infinity' and next_check_at <= ${asOf}
    order by next_check_at
    limit $3::text::int
    for no key update skip locked
  ), judged as materialized (
    select place, first, next_check_at,
      case when first > ${asOf} or first is null then 'kept' when ${ofFirst("outcome")} = 'deleted' then 'deleted'
        else 'moved' end as verdict,
      ${ofFirst("outcome")} as to_phase, ${ofFirst("reason")} as reason, false as recovers,
      ${changeTime("timed")} as now,
      is_context_unsaved, context_bytes::bigint + checkpoint_bytes as bytes, ${columnsBefore("timed")}
    from (
      select *, case when deleted_at is null then least(${deadlines.join(", ")}) end as first
      from (
        select *, ${known.map(({ deadline }, at) => `${deadline} as deadline_${at}`).join(",\n        ")}
        from locked s
        offset 0 -- else each deadline is worked out again wherever it is named
      ) known
      offset 0
    ) timed
  ), decided as materialized (
    select *, case when leaves_final and heaviness > greatest(bytes, ${mostBytes}) then 'later' else verdict end as fate
    from (
      select *, sum(bytes) filter (where leaves_final) over (order by next_check_at, place) as heaviness
      from (
        select *, verdict = 'moved' and is_context_unsaved and to_phase = any($4::text::text[]) as leaves_final
        from judged
      ) leaving
    ) weighed
  ), moved as (
    update sessions s set
      ${setList(assignments)}
    from (select *, true as moves, '{}'::text[] as updates from decided) i
    where i.fate = 'moved' and s.ctid = i.place
    returning ${told}, ${event}, i.from_phase, ${changePayload("state")} as payload, ${finalColumns("i.leaves_final")}
  ), deleted as (
    update sessions s set
      deleted_at = i.now,
      version = s.version + 1,
      last_sequence = s.last_sequence + 1,
      updated_at = i.now,
      lease_owner = null,
      lease_expires_at = null,
      lease_seconds = null,
      claimable_at = null,
      next_check_at = null
    from decided i
    where i.fate = 'deleted' and s.ctid = i.place
    returning ${told}, ${event},
      jsonb_build_object('agent_id', s.agent_id, 'status', s.status, 'phase', s.phase, 'reason', i.reason) as payload
  ), kept as (
    update sessions s set next_check_at = i.first
    from decided i
    where i.fate = 'kept' and s.ctid = i.place
    returning ${told}
  ), updated_event as (${appendEvents(`moved s ${marked}`, "'session.updated'", "s.payload")}
  ), final as (${keepFinalCheckpoints(`moved s ${marked} where s.leaves_final`)}
  ), deleted_event as (${appendEvents(`deleted s ${marked}`, "'session.deleted'", "s.payload")}
  ), noted as (
    update sweeps set swept_at = case when swept_at between ${asOf} and clock_timestamp() then swept_at else ${asOf} end
    where name = 'sessions'
  )
  select changed.*,
    (select count(*) = $3::text::int from locked) or exists (select 1 from decided where fate = 'later') as more
  from (
    select 'moved' as fate, from_phase, ${toldNames} from moved
    union all select 'deleted', phase, ${toldNames} from deleted
    union all select 'kept', phase, ${toldNames} from kept
  ) changed`;

type SweptRow = TransitionedSession & {
  readonly fate: "moved" | "deleted" | "kept";
  readonly from_phase: Phase;
  /** Whether it looked at as many as it may, or left some for the next statement. */
  readonly more: boolean;
};

/**
 * Looks at sessions that may be due, 500 at most, those that have waited longest first. Each that is due changes once,
 * with one event; the others will be looked at when they are.
 *
 * @param start the moment as of which it is judged, from `beginSweep`: what froze in between judges nobody by a clock
 * that nobody else could follow
 * @param leaving of which sessions it saves a last checkpoint
 */
export async function sweepDue(
  database: Queries,
  start: SweepStart,
  leaving: FinalCheckpoints = "crashes",
): Promise<SweepResult> {
  const parameters = [start.as_of, start.renewed_at, String(batchSize), `{${finalPhases[leaving].join(",")}}`];
  const rows = await database.query<SweptRow>(sweepStatement, parameters);
  const swept = rows.flatMap(({ fate, from_phase: from, more: _, ...session }): Swept[] =>
    fate === "kept" ? [] : [{ outcome: fate === "deleted" ? fate : session.phase, from, session }],
  );
  return { swept, more: rows[0]?.more === true };
}
