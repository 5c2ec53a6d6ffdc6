/** Sessions as answers spell them. Documents are spliced in as the database's text: no digit passes through a double. */

import { rfc3339 } from "../db/time.ts";
import { textsWithin } from "../json.ts";
import { type DetailName, detailDefaults, detailNames, settingDefaults } from "../sessions/fields.ts";
import type { SessionRow } from "../sessions/row.ts";
import { type Vocabulary, vocabularies } from "../sessions/vocabulary.ts";

function time(utc: string | null): string {
  return utc === null ? "null" : `"${rfc3339(utc)}"`;
}

/** The rest of a session that has nothing there, as most have. */
const noDetails = detailNames.map((name) => `"${name}":${detailDefaults[name]}`).join(",");

function detailsText(details: string | null): string {
  if (details === null) return noDetails;
  const given: ReadonlyMap<string, string> = textsWithin(details);
  return detailNames.map((name: DetailName) => `"${name}":${given.get(name) ?? detailDefaults[name]}`).join(",");
}

function word(text: string | null): string {
  return text === null ? "null" : JSON.stringify(text);
}

/** Settings, outcome and ownership: what follows the fields that every session has. */
function restText(row: SessionRow): string {
  return (
    `"stats":${row.stats ?? "{}"},"stats_max":${row.stats_max ?? "{}"},` +
    `"scheduled_at":${time(row.scheduled_at)},"expires_at":${time(row.expires_at)},` +
    `"timeout_seconds":${row.timeout_seconds},"waiting_timeout_seconds":${row.waiting_timeout_seconds},` +
    `"idle_timeout_seconds":${row.idle_timeout_seconds},"pending_timeout_seconds":${row.pending_timeout_seconds},` +
    `"auto_recover":${row.auto_recover ?? settingDefaults.auto_recover},` +
    `"max_attempts":${row.max_attempts ?? settingDefaults.max_attempts},"legal_hold":${row.legal_hold},` +
    `"external_id":${word(row.external_id)},` +
    `${detailsText(row.details)},` +
    `"status_reason":${word(row.status_reason)},"exit_requested":${row.exit_requested ?? settingDefaults.exit_requested},` +
    `"error":${row.error},"result":${row.result},"lease_owner":${word(row.lease_owner)},` +
    `"lease_expires_at":${time(row.lease_expires_at)},"auto_resume":${row.auto_resume ?? false},` +
    `"next_attempt_at":${time(row.next_attempt_at)}`
  );
}

/**
 * A session as JSON text, its fields in the order of the Session schema.
 *
 * @param vocabulary adds `state`: its word for the phase
 */
export function sessionText(row: SessionRow, vocabulary?: Vocabulary): string {
  const state = vocabulary === undefined ? "" : `"state":"${vocabularies[vocabulary][row.phase]}",`;
  return (
    `{"id":"${row.id}","agent_id":"${row.agent_id}","session_type":${JSON.stringify(row.session_type)},` +
    `"status":"${row.status}","phase":"${row.phase}",${state}"context":${row.context},"checkpoint":${row.checkpoint},` +
    `"runtime_backend":"${row.runtime_backend}","runtime_metadata":${row.runtime_metadata},` +
    `"created_at":${time(row.created_at)},"updated_at":${time(row.updated_at)},"version":${row.version},` +
    `"attempt":${row.attempt},"context_bytes":${row.context_bytes},"checkpoint_count":${row.checkpoint_count},` +
    `"started_at":${time(row.started_at)},"ended_at":${time(row.ended_at)},` +
    `"last_activity_at":${time(row.last_activity_at)},"deleted_at":${time(row.deleted_at)},${restText(row)}}`
  );
}

/** A page of sessions: a bare JSON array. */
export function sessionsText(rows: readonly SessionRow[], vocabulary?: Vocabulary): string {
  return arrayText(rows.map((row) => sessionText(row, vocabulary)));
}

/** A JSON array of JSON texts. The brackets are joined with them: put around them, all would be copied once more. */
export function arrayText(texts: readonly string[]): string {
  const last = texts.length - 1;
  const withBrackets = (text: string, at: number) => `${at === 0 ? "[" : ""}${text}${at === last ? "]" : ""}`;
  return last < 0 ? "[]" : texts.map(withBrackets).join(",");
}
