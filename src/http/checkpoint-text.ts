/** Checkpoints as answers spell them. Documents are spliced in as the database's text, as those of sessions are. */

import { rfc3339 } from "../db/time.ts";
import type { CheckpointRow } from "../sessions/checkpoint-row.ts";

/** What of the documents is shown; the others are left out, and not shown as null. */
export interface ShownDocuments {
  readonly data: boolean;
  readonly context: boolean;
}

const whole: ShownDocuments = { data: true, context: true };

/** A checkpoint as JSON text, its fields in the order of the Checkpoint schema. */
export function checkpointText(row: CheckpointRow, shown: ShownDocuments = whole): string {
  return (
    `{"id":"${row.id}","checkpoint_id":"${row.id}","session_id":"${row.session_id}","number":${row.number},` +
    `"checkpoint_ns":${JSON.stringify(row.checkpoint_ns)},"type":"${row.type}","label":${JSON.stringify(row.label)},` +
    `"description":${JSON.stringify(row.description)},"created_by":${JSON.stringify(row.created_by)},` +
    `"created_at":"${rfc3339(row.created_at)}","session_version":${row.session_version},"bytes":${row.bytes},` +
    `"context_bytes":${row.context_bytes}` +
    `${shown.data ? `,"data":${row.data}` : ""}${shown.context ? `,"context":${row.context}` : ""}}`
  );
}

/** A page of checkpoints: a bare JSON array. */
export function checkpointsText(rows: readonly CheckpointRow[], shown: ShownDocuments): string {
  return `[${rows.map((row) => checkpointText(row, shown)).join(",")}]`;
}
