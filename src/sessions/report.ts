/**
 * What runtimes report of sessions: events that change nothing but the session's last activity. Their sequences are
 * drawn under the row's lock, as those of changes are.
 */

import type { Queries } from "../db/client.ts";
import { appendEvents } from "../events/outbox.ts";
import { type EventRow, eventColumns } from "../events/row.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";

/** What happened in a session, in the order in which it happened. */
export interface Report {
  readonly id: string;
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
  | { readonly outcome: "ok"; readonly events: readonly EventRow[] }
  | { readonly outcome: "not_found" };

/*
 * The time is read after the lock was waited for, and never lies before anything that the session has seen. No column
 * that it writes is in an index, so the update is a HOT one.
 *
 * The events are sorted before they are inserted: PostgreSQL then draws their positions in the order of their sequences.
 */
/** @param skipLocked leaves out sessions that somebody else is changing, instead of waiting for them */
const reportStatement = (skipLocked: boolean) => `
  with input as materialized (
    select i.id, i.events
    from jsonb_to_recordset($3::text::jsonb) as i (id uuid, events jsonb)
    join (
      select id from sessions
      where namespace = $1 and id = any($2::text::uuid[]) and deleted_at is null
      order by id
      for no key update ${skipLocked ? "skip locked" : ""}
    ) l using (id)
  ), reported as (
    update sessions s set
      last_sequence = s.last_sequence + jsonb_array_length(i.events),
      last_activity_at = greatest(clock_timestamp(), s.last_activity_at, s.updated_at)
    from input i
    where s.namespace = $1 and s.id = i.id
      and s.id = any($2::text::uuid[]) -- else the planner, which expects 100 inputs, may read the whole table
    returning s.namespace, s.id, s.version, i.events, s.last_activity_at as changed_at,
      s.last_sequence - jsonb_array_length(i.events) as sequence_before
  )
  ${appendEvents(
    `reported r
     cross join lateral rows from (
       jsonb_to_recordset(r.events) as (event_id uuid, event_type text, payload jsonb, metadata jsonb)
     ) with ordinality as i (event_id, event_type, payload, metadata, number)
     cross join lateral (
       select r.namespace, r.id, r.version, r.changed_at, r.sequence_before + i.number as last_sequence
     ) s`,
    "i.event_type",
    "i.payload",
  )}
  order by s.id, s.last_sequence
  returning ${eventColumns("events")}`;

const statements = { waiting: reportStatement(false), skipping: reportStatement(true) };

/**
 * Appends events to sessions: for each session all of its report, or, where there is no such session, nothing.
 *
 * @param asked of one namespace, at most one report a session
 * @param wait whether to wait for a session that somebody else is changing
 * @returns a result for each report, in their order, its events in theirs; undefined, where it was not to wait, for a
 * session that somebody else is changing, or that does not exist
 */
export async function reportEvents(
  database: Queries,
  asked: readonly { readonly context: RequestContext; readonly input: Report }[],
  { wait = true }: { readonly wait?: boolean } = {},
): Promise<(ReportResult | undefined)[]> {
  const [first] = asked;
  if (first === undefined) return [];
  const rows = await database.query<EventRow>(wait ? statements.waiting : statements.skipping, [
    first.context.namespace,
    `{${asked.map(({ input }) => input.id).join(",")}}`,
    `[${asked.map(({ context, input }) => reportText(input, eventMetadata(context))).join(",")}]`,
  ]);
  const bySession = new Map<string, EventRow[]>(asked.map(({ input }) => [input.id.toLowerCase(), []]));
  for (const row of rows) bySession.get(row.session_id)?.push(row);
  return asked.map(({ input }): ReportResult | undefined => {
    const events = bySession.get(input.id.toLowerCase()) ?? [];
    if (events.length === 0) return wait ? { outcome: "not_found" } : undefined;
    return { outcome: "ok", events: events.toSorted((a, b) => a.sequence - b.sequence) };
  });
}

function reportText({ id, events }: Report, metadata: string): string {
  const texts = events.map(
    ({ word, payload }) =>
      `{"event_id":"${newId()}","event_type":"session.${word}","payload":${payload},"metadata":${metadata}}`,
  );
  return `{"id":"${id}","events":[${texts.join(",")}]}`;
}
