/** Reading the history in pages: the whole feed, or the events of one session. */

import type { Database } from "../db/client.ts";
import { rfc3339 } from "../db/time.ts";
import { type EventPlace, feedStatement, isByTime, sessionStatement } from "./history-statements.ts";
import type { EventRow } from "./row.ts";

/** Which events; what is undefined does not matter. */
export interface EventFilter {
  /** As they are stored, with the prefix. */
  readonly types?: readonly string[] | undefined;
  /** UUIDs; of one session's events all are of that session. */
  readonly sessionIds?: readonly string[] | undefined;
  /** This time or later; RFC 3339, as is `createdBefore`. */
  readonly createdAfter?: string | undefined;
  /** Before this time. */
  readonly createdBefore?: string | undefined;
  /** Of the updates, only those that change the reader's word for the phase, or only those that don't. */
  readonly updates?: { readonly words: Readonly<Record<string, string>>; readonly change: boolean } | undefined;
}

export interface EventQuery extends EventFilter {
  readonly namespace: string;
  /** Only events after this position. */
  readonly after?: number | undefined;
  readonly descending: boolean;
  /** How many at most; the page may end earlier when they are heavy. */
  readonly limit: number;
  /** From the page before; undefined: the first page. */
  readonly place?: EventPlace | undefined;
}

export interface SessionEventQuery extends EventQuery {
  /** A UUID. */
  readonly sessionId: string;
  readonly includeDeleted: boolean;
}

export interface EventPage {
  readonly outcome: "ok";
  readonly events: readonly EventRow[];
  /** Where the next page starts; undefined on the last. In ascending order a full page is never taken to be the last. */
  readonly next: EventPlace | undefined;
}

/** Events after the position, or the place, have been removed because of their age. */
export interface EventsRemoved {
  readonly outcome: "removed";
  /** Removed up to here. */
  readonly horizon: number;
}

/** No event ever had the position. */
export interface PositionUnknown {
  readonly outcome: "unknown";
}

export type FeedResult = EventPage | EventsRemoved | PositionUnknown;
export type SessionEventsResult = FeedResult | { readonly outcome: "not_found" };

export interface History {
  /** The feed, in the order of positions, or of time when it is a range of time that is asked for. */
  ofAll(query: EventQuery): Promise<FeedResult>;
  /** The events of one session, in the order of `sequence`: all that are committed. */
  ofSession(query: SessionEventQuery): Promise<SessionEventsResult>;
}

export function openHistory(database: Database): History {
  return {
    async ofAll(query) {
      const { statement, parameters } = feedStatement(query);
      const rows = await database.query<Partial<FoundRow> & FeedRow>(statement, parameters, { neverWaits: true });
      const { horizon = 0, drawn = 0 } = rows[0] ?? {};
      const { after, place, descending } = query;
      if (after !== undefined && after > drawn) return { outcome: "unknown" };
      // Upwards, what was removed since the page before would be passed over. Downwards it would come last.
      const onPlace = descending || place?.createdAt !== undefined ? undefined : place?.at;
      if ((onPlace ?? after ?? horizon) < horizon) return { outcome: "removed", horizon };
      return pageOf(rows, query);
    },

    async ofSession(query) {
      const { statement, parameters } = sessionStatement(query);
      const rows = await database.query<Partial<FoundRow> & SessionFeedRow>(statement, parameters, {
        neverWaits: true,
      });
      const [first] = rows;
      if (first === undefined || !first.session_found) return { outcome: "not_found" };
      if (query.after !== undefined && query.after > first.drawn) return { outcome: "unknown" };
      if (misses(query, first)) return { outcome: "removed", horizon: first.horizon };
      return pageOf(rows, query);
    },
  };
}

/** Comes with each row, and alone when no event is found. */
interface FeedRow {
  readonly horizon: number;
  /** The last position that was drawn by anyone. */
  readonly drawn: number;
}

interface SessionFeedRow extends FeedRow {
  readonly session_found: boolean;
  /** Of the first event of the session that is kept. */
  readonly first_sequence: number | null;
  readonly first_position: number | null;
}

interface FoundRow extends EventRow {
  /** Another event follows, on this page or the next. */
  readonly goes_on: boolean;
}

/** Whether events of the session have been removed that the reader would have to be given, as far as can be known. */
function misses({ after, place, descending }: EventQuery, first: SessionFeedRow): boolean {
  const { horizon, first_sequence: sequence, first_position: position } = first;
  if (sequence === 1) return false;
  if (place !== undefined && !descending) return sequence === null || sequence > place.at + 1;
  return after !== undefined && after < horizon && (position === null || position > after);
}

function pageOf(rows: readonly Partial<FoundRow>[], { limit, descending, ...query }: EventQuery): EventPage {
  const events = rows.filter(isFound).slice(0, limit);
  const last = events.at(-1);
  const mayGoOn = last?.goes_on === true || (!descending && events.length === limit);
  return { outcome: "ok", events, next: last && mayGoOn ? placeOf(last, query) : undefined };
}

/** Without an event, the row carries nulls. */
function isFound(row: Partial<FoundRow>): row is FoundRow {
  return typeof row.position === "number";
}

function placeOf(event: EventRow, query: Partial<SessionEventQuery>): EventPlace {
  if (query.sessionId !== undefined) return { at: event.sequence };
  return isByTime(query) ? { at: event.position, createdAt: rfc3339(event.created_at) } : { at: event.position };
}
