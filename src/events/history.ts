/** Reading the history in pages: the whole feed, or the events of one session. */

import type { Database } from "../db/client.ts";
import { rfc3339 } from "../db/time.ts";
import type { Feed } from "./feed.ts";
import { type EventPlace, type EventQuery, isByTime, type SessionEventQuery } from "./history-query.ts";
import { type FoundRow, feedStatement, type Statement, sessionStatement } from "./history-statements.ts";
import type { EventRow } from "./row.ts";

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

/** A page ends early when its events reach this weight: an answer is bounded, whatever the limit. */
const pageBytes = 32 * 1024 * 1024;

/** What an event weighs in an answer beside its payload, about. */
const envelopeBytes = 600;

/** So many events are read at once: with the heaviest payloads there are (256 KiB), they weigh as much as a page may. */
const readAtOnce = 128;

/**
 * A page ends early, or stays empty, when so many statements have been run for it. With filters that no index knows each
 * looks at a thousand events; a reader that follows the links gets on, and nobody waits long.
 */
const mostReads = 20;

/** What is committed is settled within milliseconds; while a transaction holds it up, a reader is not kept for long. */
const settledWithinMs = 1_000;

/** @param feed told of by the relay, so that a reader finds what was committed before it asked */
export function openHistory(database: Database, feed: Pick<Feed, "settled" | "reach">): History {
  const read = <Row>({ statement, parameters }: Statement) =>
    database.query<Row & Partial<FoundRow>>(statement, parameters, { neverWaits: true });
  const readFeed = async (query: EventQuery) => {
    let seen: FeedRow | undefined;
    const result = await readPage(query, {
      read: (step) => read<FeedRow>(feedStatement(step, feed.settled)),
      problem: (first) => {
        seen = first;
        return feedProblem(query, first);
      },
      placeOf: ({ position: at, created_at }, { settled }) =>
        isByTime(query)
          ? { at, time: { createdAt: rfc3339(created_at), upTo: query.place?.time?.upTo ?? settled } }
          : { at },
    });
    return { result, unsettled: seen !== undefined && seen.newest > seen.settled ? seen.newest : undefined };
  };
  return {
    async ofAll(query) {
      const { result, unsettled } = await readFeed(query);
      const isAtEnd = result.outcome === "ok" && (query.descending || result.next === undefined);
      if (unsettled === undefined || !isAtEnd) return result;
      await feed.reach(unsettled, settledWithinMs);
      return (await readFeed(query)).result;
    },
    ofSession: (query) =>
      readPage(query, {
        read: (step) => read<SessionFeedRow>(sessionStatement(step)),
        problem: (feed) => sessionProblem(query, feed),
        placeOf: ({ sequence }) => ({ at: sequence }),
      }),
  };
}

/** What is known of the feed: it comes with each row, and alone when no event is found. */
interface Known {
  readonly horizon: number;
  /** The last position that was drawn by anyone. */
  readonly drawn: number;
}

interface FeedRow extends Known {
  readonly settled: number;
  /** The last event that is committed. */
  readonly newest: number;
}

interface SessionFeedRow extends Known {
  readonly session_found: boolean;
  /** Of the first event of the session that is kept. */
  readonly first_sequence: number | null;
  readonly first_position: number | null;
}

type FeedProblem = EventsRemoved | PositionUnknown;

/** How pages of a kind are read. */
interface Reading<Query, Row, Problem> {
  read(step: Query): Promise<readonly (Row & Partial<FoundRow>)[]>;
  /** Why there is no page; the row is the first that was read. */
  problem(first: Row): Problem | undefined;
  placeOf(event: EventRow, first: Row): EventPlace;
}

async function readPage<Query extends EventQuery, Row, Problem>(
  query: Query,
  { read, problem, placeOf }: Reading<Query, Row, Problem>,
): Promise<EventPage | Problem> {
  const events: EventRow[] = [];
  let bytes = 0;
  let { place } = query;
  let first: Row | undefined;
  for (let reads = 1; ; reads++) {
    const limit = Math.min(query.limit + 1 - events.length, readAtOnce);
    const rows = await read({ ...query, place, limit });
    if (first === undefined) {
      [first] = rows;
      if (first === undefined) throw new Error("the feed's row is missing in the table relays");
      const why = problem(first);
      if (why !== undefined) return why;
    }
    const found = eventsOf(rows);
    for (const row of found) {
      if (row.is_asked_for) {
        bytes += Buffer.byteLength(row.payload) + Buffer.byteLength(row.metadata) + envelopeBytes;
        if (events.length === query.limit || (events.length > 0 && bytes > pageBytes)) return page(events, place);
        events.push(row);
      }
      place = placeOf(row, first);
    }
    const isLast = found.length < limit && found.at(-1)?.is_cut !== true;
    const isFull = events.length === query.limit;
    if (isLast) return page(events, isFull && !query.descending ? place : undefined);
    if (reads >= mostReads) return page(events, place);
  }
}

function page(events: readonly EventRow[], next: EventPlace | undefined): EventPage {
  return { outcome: "ok", events, next };
}

function feedProblem({ after, place, descending }: EventQuery, { horizon, drawn }: FeedRow): FeedProblem | undefined {
  if (after !== undefined && after > drawn) return { outcome: "unknown" };
  // Upwards, what was removed since the page before would be passed over. Downwards it would come last.
  const reached = descending || place?.time !== undefined ? undefined : place?.at;
  return (reached ?? after ?? horizon) < horizon ? { outcome: "removed", horizon } : undefined;
}

/** Says that events have been removed when some are missing that the reader is owed, as far as can be known. */
function sessionProblem(
  { after, place, descending }: SessionEventQuery,
  row: SessionFeedRow,
): FeedProblem | { readonly outcome: "not_found" } | undefined {
  const { horizon, drawn, session_found, first_sequence: sequence, first_position: position } = row;
  if (!session_found) return { outcome: "not_found" };
  if (after !== undefined && after > drawn) return { outcome: "unknown" };
  if (sequence === 1) return undefined;
  const isMissing =
    place !== undefined && !descending
      ? sequence === null || sequence > place.at + 1
      : after !== undefined && after < horizon && (position === null || position > after);
  return isMissing ? { outcome: "removed", horizon } : undefined;
}

/** Without an event, the one row that there is carries nulls. */
function eventsOf(rows: readonly Partial<FoundRow>[]): FoundRow[] {
  return rows.filter((row): row is FoundRow => typeof row.position === "number");
}
