/**
 * What runtimes report of sessions: events that change nothing but the session's last activity, unless that was set aside
 * for want of any: then they wake it. Their sequences are drawn under the row's lock, as those of changes are.
 */

import type { Queries } from "../db/client.ts";
import { utcText } from "../db/time.ts";
import { appendEvents } from "../events/outbox.ts";
import { type EventRow, eventColumns } from "../events/row.ts";
import { changeTime } from "./change-assignments.ts";
import { changePayload, columnsBefore, comparedColumns } from "./change-statement.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";
import type { Phase } from "./lifecycle.ts";
import { earliestCheck } from "./timers.ts";
import { type Assignments, setList, transitionAssignments } from "./transition.ts";
import type { TransitionedSession } from "./transition-log.ts";

/** What happened in a session, in the order in which it happened. */
export interface Report {
  readonly id: string;
  /** The fencing token of the lease that the reporter believes to hold: it is then renewed, or the report refused. */
  readonly leaseToken?: number | undefined;
  /** One at least. */
  readonly events: readonly ReportedEvent[];
}

export interface ReportedEvent {
  /** What stands behind `session.` in the event's type. */
  readonly word: string;
  /** JSON text of an object. */
  readonly payload: string;
}

export type ReportResult =
  /** `woke` is the session when it was idle, as it is now. */
  | { readonly outcome: "ok"; readonly events: readonly EventRow[]; readonly woke?: TransitionedSession }
  | { readonly outcome: "not_found" }
  /** The lease of that token is over. */
  | { readonly outcome: "lease_lost" };

/** A session that was set aside for want of activity, and what input makes of it. */
const sleeping: Phase = "idle";
const awake: Phase = "ready";

const isLost = "i.lease_token is not null and (l.lease_owner is null or l.lease_token <> i.lease_token)";

const event = "event_id uuid, event_type text, payload jsonb, metadata jsonb";

/** Whoever names the token of the lease renews it. */
const leaseRenewed = `case when i.lease_token is not null
      then clock_timestamp() + make_interval(secs => s.lease_seconds) else s.lease_expires_at end`;

/*
 * The time is read after the lock was waited for, and never lies before anything that the session has seen. No column
 * that it writes is in an index, so the update is a HOT one.
 *
 * The events are sorted before they are inserted: PostgreSQL then draws their positions in the order of their sequences.
 *
 * What somebody else is changing, what is to be woken or refused is left out, for the statement that waits.
 */
const leanStatement = `
  with input as materialized (
    select i.id, i.events, i.lease_token
    from jsonb_to_recordset($3::text::jsonb) as i (id uuid, lease_token bigint, events jsonb)
    join (
      select id, lease_owner, lease_token from sessions
      where namespace = $1 and id = any($2::text::uuid[]) and deleted_at is null and phase <> '${sleeping}'
      order by id
      for no key update skip locked
    ) l using (id)
    where not (${isLost})
  ), reported as (
    update sessions s set
      last_sequence = s.last_sequence + jsonb_array_length(i.events),
      last_activity_at = greatest(clock_timestamp(), s.last_activity_at, s.updated_at),
      last_activity_kind = 'event',
      lease_expires_at = ${leaseRenewed}
    from input i
    where s.namespace = $1 and s.id = i.id
      and s.id = any($2::text::uuid[]) -- else the planner, which expects 100 inputs, may read the whole table
    returning s.namespace, s.id, s.version, i.events, s.last_activity_at as changed_at,
      s.last_sequence - jsonb_array_length(i.events) as sequence_before
  )
  ${appendEvents(
    `reported r
     cross join lateral rows from (jsonb_to_recordset(r.events) as (${event}))
       with ordinality as i (event_id, event_type, payload, metadata, number)
     cross join lateral (
       select r.namespace, r.id, r.version, r.changed_at, r.sequence_before + i.number as last_sequence
     ) s`,
    "i.event_type",
    "i.payload",
  )}
  order by s.id, s.last_sequence
  returning ${eventColumns("events")}`;

const waking = transitionAssignments(false);

const assignments: Assignments = {
  ...waking,
  version: "s.version + i.moves::int",
  last_sequence: "s.last_sequence + jsonb_array_length(i.events) + i.moves::int",
  updated_at: "case when i.moves then i.now else s.updated_at end",
  last_activity_at: "i.now",
  last_activity_kind: "'event'",
  lease_expires_at: leaseRenewed,
  next_check_at: `case when i.moves
      then ${earliestCheck("i.now", (column) => `(${waking[column] ?? `s.${column}`})`)} else s.next_check_at end`,
};

const told = ["phase", "status_reason", "attempt"];
const toldTimes = ["started_at", "ended_at"];

/* The cause comes first: what was reported has the version before, and then the session changes. */
const wakingStatement = `
  with input as materialized (
    select i.id, i.event_id, i.metadata, i.events, i.lease_token, ${isLost} as is_lost,
      l.phase = '${sleeping}' as moves, case l.phase when '${sleeping}' then '${awake}' else l.phase end as to_phase,
      false as recovers, 'input' as reason, '{}'::text[] as updates,
      ${changeTime("l")} as now,
      ${columnsBefore("l")}
    from jsonb_to_recordset($3::text::jsonb) as i (
      id uuid, event_id uuid, metadata jsonb, lease_token bigint, events jsonb)
    join (
      select id, lease_token, updated_at, last_activity_at, ${comparedColumns.join(", ")} from sessions
      where namespace = $1 and id = any($2::text::uuid[]) and deleted_at is null
      order by id
      for no key update
    ) l using (id)
  ), reported as (
    update sessions s set
      ${setList(assignments)}
    from input i
    where not i.is_lost and s.namespace = $1 and s.id = i.id
      and s.id = any($2::text::uuid[]) -- else the planner, which expects 100 inputs, may read the whole table
    returning s.namespace, s.id, s.version - i.moves::int as version, s.last_activity_at as changed_at,
      s.last_sequence - jsonb_array_length(i.events) - i.moves::int as sequence_before,
      i.events, i.moves, i.event_id, i.metadata, case when i.moves then ${changePayload("state")} end as payload,
      ${told.map((column) => `s.${column}`).join(", ")},
      ${toldTimes.map((column) => `${utcText(`s.${column}`)} as ${column}`).join(", ")}
  ), event as (${appendEvents(
    `reported r
     cross join lateral (
       select e.*, r.version from rows from (jsonb_to_recordset(r.events) as (${event}))
         with ordinality as e (event_id, event_type, payload, metadata, number)
       union all
       select r.event_id, 'session.updated', r.payload, r.metadata, jsonb_array_length(r.events) + 1, r.version + 1
       where r.moves
     ) i
     cross join lateral (
       select r.namespace, r.id, i.version, r.changed_at, r.sequence_before + i.number as last_sequence
     ) s`,
    "i.event_type",
    "i.payload",
  )}
    order by s.id, s.last_sequence
    returning ${eventColumns("events")}
  )
  select i.id as asked_id, i.is_lost, i.moves as wakes, r.${[...told, ...toldTimes].join(", r.")}, e.*
  from input i left join reported r using (id) left join event e on e.session_id = i.id`;

type WakingRow = EventRow &
  TransitionedSession & { readonly asked_id: string; readonly is_lost: boolean; readonly wakes: boolean };

/**
 * Appends events to sessions: for each session all of its report, or, where there is no such session, nothing. A session
 * that was idle is then ready.
 *
 * @param asked of one namespace, at most one report a session
 * @param wait whether to wait for a session that somebody else is changing
 * @returns a result for each report, in their order, its events in theirs; undefined, where it was not to wait, for a
 * session that somebody else is changing, that is idle, that the token does not hold, or that does not exist
 */
export async function reportEvents(
  database: Queries,
  asked: readonly { readonly context: RequestContext; readonly input: Report }[],
  { wait = true }: { readonly wait?: boolean } = {},
): Promise<(ReportResult | undefined)[]> {
  const [first] = asked;
  if (first === undefined) return [];
  const parameters = [
    first.context.namespace,
    `{${asked.map(({ input }) => input.id).join(",")}}`,
    `[${asked.map(({ context, input }) => reportText(input, eventMetadata(context), wait)).join(",")}]`,
  ];
  if (wait) {
    const rows = await database.query<WakingRow>(wakingStatement, parameters);
    return asked.map(({ input }) => resultOf(rows.filter((row) => row.asked_id === input.id.toLowerCase())));
  }
  const rows = await database.query<EventRow>(leanStatement, parameters);
  const bySession = new Map<string, EventRow[]>(asked.map(({ input }) => [input.id.toLowerCase(), []]));
  for (const row of rows) bySession.get(row.session_id)?.push(row);
  return asked.map(({ input }): ReportResult | undefined => {
    const events = bySession.get(input.id.toLowerCase()) ?? [];
    return events.length === 0 ? undefined : { outcome: "ok", events: inOrder(events) };
  });
}

function resultOf(rows: readonly WakingRow[]): ReportResult {
  const [first] = rows;
  if (first === undefined) return { outcome: "not_found" };
  if (first.is_lost) return { outcome: "lease_lost" };
  const events = inOrder(rows);
  if (!first.wakes) return { outcome: "ok", events };
  const { asked_id: id, phase, status_reason, attempt, started_at, ended_at } = first;
  // The last one is its own, and was not reported.
  return {
    outcome: "ok",
    events: events.slice(0, -1),
    woke: { id, phase, status_reason, attempt, started_at, ended_at },
  };
}

function inOrder<Row extends EventRow>(events: readonly Row[]): Row[] {
  return events.toSorted((a, b) => a.sequence - b.sequence);
}

/** @param mayWake with what the event of a session that wakes needs */
function reportText({ id, leaseToken, events }: Report, metadata: string, mayWake: boolean): string {
  const texts = events.map(
    ({ word, payload }) =>
      `{"event_id":"${newId()}","event_type":"session.${word}","payload":${payload},"metadata":${metadata}}`,
  );
  const token = leaseToken === undefined ? "" : `,"lease_token":${leaseToken}`;
  const own = mayWake ? `,"event_id":"${newId()}","metadata":${metadata}` : "";
  return `{"id":"${id}"${token}${own},"events":[${texts.join(",")}]}`;
}
