/** An event as the database gives it, and the one way to write it down for readers. */

import { rfc3339, utcText } from "../db/time.ts";

export interface EventRow {
  /** A whole number that a double holds exactly. */
  readonly position: number;
  readonly event_id: string;
  readonly session_id: string;
  readonly sequence: number;
  readonly session_version: number;
  readonly event_type: string;
  readonly schema_version: number;
  /** JSON text of an object, as is `metadata`. */
  readonly payload: string;
  readonly metadata: string;
  /** As `utcText` gives it. */
  readonly created_at: string;
}

/** The select list that gives an `EventRow` from a relation with the columns of `events`. */
export function eventColumns(relation: string): string {
  const plain = ["event_id", "session_id", "sequence", "session_version", "event_type", "schema_version"];
  return [
    `${relation}.position::float8 as position`,
    ...plain.map((column) => `${relation}.${column}`),
    `${relation}.payload::text as payload`,
    `${relation}.metadata::text as metadata`,
    `${utcText(`${relation}.created_at`)} as created_at`,
  ].join(", ");
}

/** A page ends early at this weight: 500 events of 256 KiB each would be 128 MB in memory. */
const mostBytes = 4 * 1024 * 1024;

/**
 * A query for the first events that fulfil a condition: so many at most, and fewer where they are heavy, but always one.
 *
 * @param condition SQL over the columns of `events`
 * @param order the column to read by, ascending
 * @param limit a number, or SQL for one; so many are weighed, which costs reading the heavy ones
 */
export function pageOfEvents(condition: string, order: string, limit: number | string, pageBytes = mostBytes): string {
  // What is stored compressed weighs more in an answer: that is read to be weighed, the many light ones are not.
  return `
    select * from (
      select *, sum(
        case when pg_column_size(payload) > 1000 then octet_length(payload::text) else pg_column_size(payload) end
      ) over (order by ${order} rows between unbounded preceding and 1 preceding) as heaviness
      from (select * from events where ${condition} order by ${order} limit ${limit}) first_ones
    ) weighed
    where heaviness is null or heaviness < ${pageBytes}
    order by ${order}`;
}

/** Whether more events may follow those that `pageOfEvents` gave. */
export function isFullPage(events: readonly EventRow[], limit: number): boolean {
  // What is stored is somewhat heavier than its text; that of very large documents can be the lighter one.
  return events.length >= limit || events.reduce((sum, { payload }) => sum + payload.length, 0) > mostBytes / 4;
}

/** The event as readers receive it everywhere: one JSON object, the original contract's keys first. */
export function envelopeText(row: EventRow): string {
  return (
    `{"event_type":"${row.event_type}","aggregate_type":"session","aggregate_id":"${row.session_id}",` +
    `"payload":${row.payload},"event_id":"${row.event_id}","sequence":${row.sequence},` +
    `"session_version":${row.session_version},"position":"${row.position}","created_at":"${rfc3339(row.created_at)}",` +
    `"schema_version":${row.schema_version},"metadata":${row.metadata}}`
  );
}

/** The event as an entry of a Redis stream: names and values by turns, all of them text. */
export function streamFields(row: EventRow): string[] {
  return [
    "event_id",
    row.event_id,
    "event_type",
    row.event_type,
    "aggregate_type",
    "session",
    "aggregate_id",
    row.session_id,
    "sequence",
    String(row.sequence),
    "session_version",
    String(row.session_version),
    "position",
    String(row.position),
    "created_at",
    rfc3339(row.created_at),
    "schema_version",
    String(row.schema_version),
    "payload",
    row.payload,
    "metadata",
    row.metadata,
  ];
}
