/** Sessions field by field, for answers that show some of them: what `sessionText` writes at once. */

import { rfc3339 } from "../db/time.ts";
import { textsWithin } from "../json.ts";
import { type DetailName, detailDefaults, detailNames, settingDefaults } from "../sessions/fields.ts";
import type { SessionRow } from "../sessions/row.ts";
import { type Vocabulary, vocabularies } from "../sessions/vocabulary.ts";

const time = (utc: string | null) => (utc === null ? "null" : `"${rfc3339(utc)}"`);
const word = (text: string | null) => (text === null ? "null" : JSON.stringify(text));
const plain = (value: number | boolean | null) => String(value);

/** JSON texts, in the order of the Session schema. */
const beforeDetails: readonly (readonly [name: string, text: (row: SessionRow) => string])[] = [
  ["context", (row) => row.context],
  ["checkpoint", (row) => row.checkpoint ?? "null"],
  ["runtime_backend", (row) => `"${row.runtime_backend}"`],
  ["runtime_metadata", (row) => row.runtime_metadata],
  ["created_at", (row) => time(row.created_at)],
  ["updated_at", (row) => time(row.updated_at)],
  ["version", (row) => plain(row.version)],
  ["attempt", (row) => plain(row.attempt)],
  ["context_bytes", (row) => plain(row.context_bytes)],
  ["checkpoint_count", (row) => plain(row.checkpoint_count)],
  ["started_at", (row) => time(row.started_at)],
  ["ended_at", (row) => time(row.ended_at)],
  ["last_activity_at", (row) => time(row.last_activity_at)],
  ["deleted_at", (row) => time(row.deleted_at)],
  ["stats", (row) => row.stats ?? "{}"],
  ["stats_max", (row) => row.stats_max ?? "{}"],
  ["scheduled_at", (row) => time(row.scheduled_at)],
  ["expires_at", (row) => time(row.expires_at)],
  ["timeout_seconds", (row) => plain(row.timeout_seconds)],
  ["waiting_timeout_seconds", (row) => plain(row.waiting_timeout_seconds)],
  ["idle_timeout_seconds", (row) => plain(row.idle_timeout_seconds)],
  ["pending_timeout_seconds", (row) => plain(row.pending_timeout_seconds)],
  ["auto_recover", (row) => plain(row.auto_recover ?? settingDefaults.auto_recover)],
  ["max_attempts", (row) => plain(row.max_attempts ?? settingDefaults.max_attempts)],
  ["legal_hold", (row) => plain(row.legal_hold)],
  ["external_id", (row) => word(row.external_id)],
];

const afterDetails: typeof beforeDetails = [
  ["status_reason", (row) => word(row.status_reason)],
  ["exit_requested", (row) => plain(row.exit_requested ?? settingDefaults.exit_requested)],
  ["error", (row) => row.error ?? "null"],
  ["result", (row) => row.result ?? "null"],
  ["lease_owner", (row) => word(row.lease_owner)],
  ["lease_expires_at", (row) => time(row.lease_expires_at)],
  ["auto_resume", (row) => plain(row.auto_resume ?? false)],
  ["next_attempt_at", (row) => time(row.next_attempt_at)],
];

const identity: typeof beforeDetails = [
  ["id", (row) => `"${row.id}"`],
  ["agent_id", (row) => `"${row.agent_id}"`],
  ["session_type", (row) => JSON.stringify(row.session_type)],
  ["status", (row) => `"${row.status}"`],
  ["phase", (row) => `"${row.phase}"`],
];

const nothing: ReadonlyMap<string, string> = new Map();

/**
 * Gives the fields of each session that are asked for, with their JSON texts, in the order of the Session schema.
 *
 * @param isShown whether a field is asked for, by its name
 * @param vocabulary adds `state`: its word for the phase
 */
export function sessionMembers(
  isShown: (name: string) => boolean,
  vocabulary?: Vocabulary,
): (row: SessionRow) => [name: string, text: string][] {
  const shown = ([name]: readonly [string, unknown]) => isShown(name);
  const words: typeof beforeDetails =
    vocabulary === undefined ? [] : [["state", (row) => `"${vocabularies[vocabulary][row.phase]}"`]];
  const first = [...identity, ...words, ...beforeDetails].filter(shown);
  const details = detailNames.filter(isShown);
  const last = afterDetails.filter(shown);
  return (row) => {
    const isBare = row.details === null || details.length === 0;
    const given: ReadonlyMap<string, string> = isBare ? nothing : textsWithin(row.details ?? "{}");
    const textOf = ([name, text]: (typeof first)[number]): [string, string] => [name, text(row)];
    const detailOf = (name: DetailName): [string, string] => [name, given.get(name) ?? detailDefaults[name]];
    return [...first.map(textOf), ...details.map(detailOf), ...last.map(textOf)];
  };
}
