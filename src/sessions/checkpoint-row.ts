/** A checkpoint as the database gives it: documents and times as text, ready to be spliced into an answer. */

import type { CheckpointType } from "./checkpoint-types.ts";

export interface CheckpointRow {
  readonly id: string;
  readonly session_id: string;
  readonly number: number;
  readonly checkpoint_ns: string;
  readonly type: CheckpointType;
  readonly label: string | null;
  readonly description: string | null;
  readonly created_by: string | null;
  /** As the database writes it: for `rfc3339`. */
  readonly created_at: string;
  readonly session_version: number;
  readonly bytes: number;
  readonly context_bytes: number;
  /** JSON text; null where it was not asked for. */
  readonly data: string | null;
  /** JSON text; null where the checkpoint keeps none, or where it was not asked for. */
  readonly context: string | null;
}

const plain = [
  "id",
  "session_id",
  "number",
  "checkpoint_ns",
  "type",
  "label",
  "description",
  "created_by",
  "created_at",
  "session_version",
  "bytes",
  "context_bytes",
] as const satisfies readonly (keyof CheckpointRow)[];

/** The columns of a `CheckpointRow`, in the order of the answer. */
export const checkpointColumnNames = [...plain, "data", "context"] as const;

/** The select list that gives a `CheckpointRow` from a relation with the columns of `checkpoints`. */
export function checkpointColumns(relation: string): string {
  return checkpointColumnNames.map((column) => `${relation}.${column}`).join(", ");
}

/**
 * The same, with its documents only where these are true.
 *
 * @param withData SQL, as is `withContext`
 */
export function listedCheckpointColumns(relation: string, withData: string, withContext: string): string {
  return [
    ...plain.map((column) => `${relation}.${column}`),
    `case when ${withData} then ${relation}.data end as data`,
    `case when ${withContext} then ${relation}.context end as context`,
  ].join(", ");
}
