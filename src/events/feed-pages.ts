/** The feed as the database has it, page by page. */

import type { Database } from "../db/client.ts";
import { type EventRow, eventColumns, pageOfEvents } from "./row.ts";

/** Events that follow each other in the feed. */
export interface FeedPage {
  readonly events: readonly EventRow[];
  /** Everything up to this position that the reader asked for has been given. */
  readonly upTo: number;
  /** Events that should be on it have been removed because of their age. */
  readonly isIncomplete?: boolean;
}

/** How far a reader is. */
export interface Place {
  /** Of the session whose events it reads; undefined: it reads all. */
  readonly sessionId?: string | undefined;
  position: number;
  /** Of the last event of the session; 0: not known. */
  sequence: number;
  /** How many events to weigh for the next page. */
  limit?: number;
}

/** Events that a reader has yet to get have been removed because of their age. */
export class EventsRemovedError extends Error {
  override readonly name = "EventsRemovedError";
  override readonly message = "the next events have been removed";
}

/** How many events a reader is given at once; fewer where they are heavy. */
export const pageSize = 500;

const pageBytes = 1024 * 1024;

const feed = "f.settled::float8 as settled, f.horizon::float8 as horizon";

const readAll = `
  select ${feed}, ${eventColumns("e")}
  from relays f left join lateral (${pageOfEvents(
    "position > $1::text::bigint and position <= f.settled and not position <@ f.pending",
    "position",
    "$2::int",
    pageBytes,
  )}) e on true
  where f.name = 'redis'`;

/* The sequence is that of the last event read: the pages of a long session must not count from its start. */
const readOfSession = `
  select ${feed}, ${eventColumns("e")}
  from relays f left join lateral (${pageOfEvents(
    `namespace = $2 and session_id = $3::text::uuid and sequence > $4 and position > $1::text::bigint
     and position <= f.settled and not position <@ f.pending`,
    "sequence",
    "$5::int",
    pageBytes,
  )}) e on true
  where f.name = 'redis'`;

interface FeedRow {
  readonly settled: number;
  /** Removed up to here. */
  readonly horizon: number;
}

/** Up to where the feed is settled. */
export async function readSettled(database: Database): Promise<number> {
  const statement = "select settled::float8 as settled from relays where name = 'redis'";
  const [row] = await database.query<{ readonly settled: number }>(statement, [], { neverWaits: true });
  return row?.settled ?? 0;
}

/** Reads what follows a place; an empty page is the last. */
export async function readPage(database: Database, place: Place): Promise<FeedPage> {
  const { sessionId, position, sequence, limit = pageSize } = place;
  const parameters = sessionId === undefined ? [position, limit] : [position, "default", sessionId, sequence, limit];
  const statement = sessionId === undefined ? readAll : readOfSession;
  const rows = await database.query<(EventRow | { readonly position: null }) & FeedRow>(statement, parameters, {
    neverWaits: true,
  });
  const events = rows.filter((row) => row.position !== null);
  const { settled = 0, horizon = 0 } = rows[0] ?? {};
  const next = events[0]?.sequence ?? sequence + 1;
  // Where a page is cut for its weight, far fewer events need to be weighed for the next.
  place.limit = Math.min(pageSize, Math.max(8, 2 * events.length));
  return {
    events,
    upTo: events.at(-1)?.position ?? Math.max(position, settled),
    isIncomplete: sessionId === undefined ? position < horizon : sequence > 0 && next > sequence + 1,
  };
}
