/**
 * Events in a reader's own words. In a vocabulary, a change of the phase that is a change of the word too is
 * `state_changed`, with the words before and after; what a runtime reported has the name it was reported under; all else
 * is as it is stored. Pure: the history and the streams say, and filter, the same.
 */

import { rfc3339 } from "../db/time.ts";
import { changeTypes } from "../events/envelope.ts";
import type { EventFilter } from "../events/history-query.ts";
import { type EventRow, envelopeText } from "../events/row.ts";
import { type Vocabulary, vocabularies } from "../sessions/vocabulary.ts";

const prefix = "session.";
const updated = "session.updated";
const stateChanged = "state_changed";

/** What a reader asked for, as `eventFilterShape` of schemas/event.ts reads it. */
export interface AskedEvents {
  /** Without the prefix `session.`. */
  readonly event_type?: readonly string[] | undefined;
  /** In lower case. */
  readonly aggregate_id?: readonly string[] | undefined;
  /** RFC 3339 as `rfc3339` writes it: this time or later. */
  readonly created_after?: string | undefined;
  /** Before this time. */
  readonly created_before?: string | undefined;
  readonly vocabulary?: Vocabulary | undefined;
}

interface StateChange {
  readonly from: string;
  readonly to: string;
  readonly reason: string | null;
}

/** The name under which a reader gets the event: `event_type` of the envelope, and `event:` of a stream. */
export function eventName(row: EventRow, vocabulary: Vocabulary | undefined): string {
  if (vocabulary === undefined) return row.event_type;
  if (stateChange(row, vocabulary) !== undefined) return stateChanged;
  return changeTypes.includes(row.event_type) ? row.event_type : withoutPrefix(row.event_type);
}

/** The event as a reader gets it: its envelope as one JSON text. */
export function eventText(row: EventRow, vocabulary: Vocabulary | undefined): string {
  if (vocabulary === undefined) return envelopeText(row);
  const change = stateChange(row, vocabulary);
  const payload = change === undefined ? row.payload : JSON.stringify(change);
  return envelopeText({ ...row, event_type: eventName(row, vocabulary), payload });
}

/** Whether a reader who asked so gets an event. Types are compared by the name that the reader sees. */
export function eventFilter(asked: AskedEvents): (row: EventRow) => boolean {
  const { created_after: from, created_before: to, vocabulary } = asked;
  const types = asked.event_type && new Set(asked.event_type);
  const sessions = asked.aggregate_id && new Set(asked.aggregate_id);
  return (row) => {
    if (sessions !== undefined && !sessions.has(row.session_id)) return false;
    if (types !== undefined && !types.has(withoutPrefix(eventName(row, vocabulary)))) return false;
    if (from === undefined && to === undefined) return true;
    const at = rfc3339(row.created_at);
    return (from === undefined || at >= from) && (to === undefined || at < to);
  };
}

/** The same for the history, which filters in the database: by the stored types, and by what becomes of an update. */
export function storedFilter(asked: AskedEvents): EventFilter {
  const { event_type: names, aggregate_id, created_after, created_before, vocabulary } = asked;
  const filter = { sessionIds: aggregate_id, createdAfter: created_after, createdBefore: created_before };
  const types = names?.map((name) => prefix + name);
  if (types === undefined || vocabulary === undefined) return { ...filter, types };
  const wantsChanges = types.includes(prefix + stateChanged);
  const wantsUpdates = types.includes(updated);
  return {
    ...filter,
    types: wantsChanges && !wantsUpdates ? [...types, updated] : types,
    updates: wantsChanges === wantsUpdates ? undefined : { words: vocabularies[vocabulary], change: wantsChanges },
  };
}

/** What a stored event says in the vocabulary's words, if it is a change of them. */
function stateChange(row: EventRow, vocabulary: Vocabulary): StateChange | undefined {
  // Most updates are none, and need not be read to see that.
  if (row.event_type !== updated || !row.payload.includes('"from"')) return undefined;
  const payload: { readonly from?: unknown; readonly to?: unknown; readonly reason?: unknown } = JSON.parse(
    row.payload,
  );
  const from = wordOf(payload.from, vocabulary);
  const to = wordOf(payload.to, vocabulary);
  if (from === undefined || to === undefined || from === to) return undefined;
  return { from, to, reason: typeof payload.reason === "string" ? payload.reason : null };
}

function wordOf(phase: unknown, vocabulary: Vocabulary): string | undefined {
  const words: Readonly<Record<string, string>> = vocabularies[vocabulary];
  return typeof phase === "string" && Object.hasOwn(words, phase) ? words[phase] : undefined;
}

function withoutPrefix(type: string): string {
  return type.startsWith(prefix) ? type.slice(prefix.length) : type;
}
