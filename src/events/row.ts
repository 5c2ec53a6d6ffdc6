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

/** The event as readers receive it everywhere: one JSON object, the original contract's keys first. */
export function envelopeText(row: EventRow): string {
  return (
    `{"event_type":"${row.event_type}","aggregate_type":"session","aggregate_id":"${row.session_id}",` +
    `"payload":${row.payload},"event_id":"${row.event_id}","sequence":${row.sequence},` +
    `"session_version":${row.session_version},"position":"${row.position}","created_at":"${rfc3339(row.created_at)}",` +
    `"schema_version":${row.schema_version},"metadata":${row.metadata}}`
  );
}
