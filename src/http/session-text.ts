/** Sessions as answers spell them. Documents are spliced in as the database's text: no digit passes through a double. */

import type { SessionRow } from "../sessions/row.ts";

function quotedOrNull(text: string | null): string {
  return text === null ? "null" : `"${text}"`;
}

/** A session as JSON text, its fields in the order of the Session schema. */
export function sessionText(row: SessionRow): string {
  return (
    `{"id":"${row.id}","agent_id":"${row.agent_id}","session_type":${JSON.stringify(row.session_type)},` +
    `"status":"${row.status}","phase":"${row.phase}","context":${row.context},"checkpoint":${row.checkpoint},` +
    `"runtime_backend":"${row.runtime_backend}","runtime_metadata":${row.runtime_metadata},` +
    `"created_at":"${row.created_at}","updated_at":"${row.updated_at}","version":${row.version},` +
    `"attempt":${row.attempt},"started_at":${quotedOrNull(row.started_at)},"ended_at":${quotedOrNull(row.ended_at)},` +
    `"last_activity_at":"${row.last_activity_at}"}`
  );
}

/** A page of sessions: a bare JSON array. */
export function sessionsText(rows: readonly SessionRow[]): string {
  return `[${rows.map(sessionText).join(",")}]`;
}
