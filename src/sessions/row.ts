/** A session as the database gives it: documents and times as text, ready to be spliced into an answer. */

import { utcText } from "../db/time.ts";
import type { Phase, Status } from "./lifecycle.ts";

export interface SessionRow {
  readonly id: string;
  readonly agent_id: string;
  readonly session_type: string;
  readonly status: Status;
  readonly phase: Phase;
  /** JSON text, as are `checkpoint` and `runtime_metadata`. */
  readonly context: string;
  readonly checkpoint: string | null;
  readonly runtime_backend: string;
  readonly runtime_metadata: string;
  readonly version: number;
  readonly attempt: number;
  /** As `utcText` gives it, as are all times: for `rfc3339`. */
  readonly created_at: string;
  readonly updated_at: string;
  readonly last_activity_at: string;
  readonly started_at: string | null;
  readonly ended_at: string | null;
}

const times = ["created_at", "updated_at", "last_activity_at", "started_at", "ended_at"] as const;
const documents = ["context", "checkpoint", "runtime_metadata"] as const;
const plain = [
  "id",
  "agent_id",
  "session_type",
  "status",
  "phase",
  "runtime_backend",
  "version",
  "attempt",
] as const satisfies readonly (keyof SessionRow)[];

/**
 * The select list that gives a `SessionRow` from a relation with the columns of `sessions`.
 *
 * @param unless where this is true the documents are not read, and null
 */
export function sessionColumns(relation: string, unless?: string): string {
  const document = (text: string) => (unless === undefined ? text : `case when ${unless} then null else ${text} end`);
  return [
    ...plain.map((column) => `${relation}.${column}`),
    ...documents.map((column) => `${document(`${relation}.${column}::text`)} as ${column}`),
    ...times.map((column) => `${utcText(`${relation}.${column}`)} as ${column}`),
  ].join(", ");
}

/** The select list that gives a `SessionRow` from a relation that was selected by `sessionColumns`. */
export function sessionColumnNames(relation: string): string {
  return [...plain, ...documents, ...times].map((column) => `${relation}.${column}`).join(", ");
}
