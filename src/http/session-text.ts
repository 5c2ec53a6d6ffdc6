/** Sessions as answers spell them. Documents are spliced in as the database's text: no digit passes through a double. */

import { rfc3339 } from "../db/time.ts";
import type { SessionRow } from "../sessions/row.ts";

function time(utc: string | null): string {
  return utc === null ? "null" : `"${rfc3339(utc)}"`;
}

/** A session as JSON text, its fields in the order of the Session schema. */
export function sessionText(row: SessionRow): string {
  return (
    `{"id":"${row.id}","agent_id":"${row.agent_id}","session_type":${JSON.stringify(row.session_type)},` +
    `"status":"${row.status}","phase":"${row.phase}","context":${row.context},"checkpoint":${row.checkpoint},` +
    `"runtime_backend":"${row.runtime_backend}","runtime_metadata":${row.runtime_metadata},` +
    `"created_at":${time(row.created_at)},"updated_at":${time(row.updated_at)},"version":${row.version},` +
    `"attempt":${row.attempt},"started_at":${time(row.started_at)},"ended_at":${time(row.ended_at)},` +
    `"last_activity_at":${time(row.last_activity_at)}}`
  );
}

/** A page of sessions: a bare JSON array. */
export function sessionsText(rows: readonly SessionRow[]): string {
  return `[${rows.map(sessionText).join(",")}]`;
}
