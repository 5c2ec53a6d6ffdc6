/** The lease in the table `relays`: who works on the feed, and how far that has come. */

import type { Database } from "../db/client.ts";
import { type EventRow, eventColumns, isFullPage, pageOfEvents } from "./row.ts";

export interface Lease {
  readonly holder: string;
  /** Of this holding: a later one has a greater. */
  readonly token: string;
}

export interface Progress {
  /** Every event up to here has been published. */
  readonly published: number;
  readonly settled: number;
  /** What was passed by, as PostgreSQL writes an int8multirange. */
  readonly pending: string;
}

/** Another process takes over this long after the holder died, at the latest after one more look. */
export const leaseMs = 3_000;

const leaseTime = `interval '${leaseMs} milliseconds'`;

/* A lease that ends later than any can was given by a clock that was wrong. */
const takeStatement = `
  update relays set
    holder = $1::text::uuid, expires_at = clock_timestamp() + ${leaseTime},
    token = token + (holder <> $1::text::uuid)::int
  where name = 'redis' and (
    expires_at not between clock_timestamp() and clock_timestamp() + ${leaseTime} or holder = $1::text::uuid)
  returning token::text, position::float8 as published, settled::float8, pending::text`;

/** Takes the lease, if it is free; undefined when it is another's. */
export async function takeLease(database: Database, holder: string): Promise<(Lease & Progress) | undefined> {
  const [taken] = await database.query<{ readonly token: string } & Progress>(takeStatement, [holder]);
  return taken && { ...taken, holder };
}

/*
 * A lost tick only means that a batch is settled and published again, so the commit need not wait for the disk. What took
 * long to arrive must not take back what was written since.
 */
const tickStatement = (expiresAt: string) => `
  with quick as (select set_config('synchronous_commit', 'off', true))
  update relays set position = $3::text::bigint, settled = $4::text::bigint, pending = $5::text::int8multirange,
    expires_at = ${expiresAt}
  from quick
  where name = 'redis' and holder = $1::text::uuid and token = $2::text::bigint and settled <= $4::text::bigint
  returning 1`;

const tickStatements = {
  renew: tickStatement(`clock_timestamp() + ${leaseTime}`),
  end: tickStatement("clock_timestamp()"),
};

/**
 * Writes down how far the feed has come, and renews the lease or ends it, so that another process takes over at once.
 *
 * @returns whether the lease was held still
 */
export async function tick(
  database: Database,
  { holder, token }: Lease,
  { published, settled, pending }: Progress,
  end: "renew" | "end",
): Promise<boolean> {
  const rows = await database.query(tickStatements[end], [holder, token, published, settled, pending]);
  return rows.length > 0;
}

/** Events read at once: enough that most of the time goes to them and not to asking. */
const largestPage = 500;

const lookStatement = `
  select ${eventColumns("e")}
  from (${pageOfEvents("position > $1::text::bigint and not position <@ $2::text::int8multirange", "position", "$3")}) e
  order by e.position`;

/**
 * Reads what follows what is settled, in the order of positions, and leaves out nothing but what is pending.
 *
 * @param most how many at most; they are fewer where they are heavy
 * @returns how many to ask for next, when there may be more: of heavy ones only so many are weighed
 */
export async function look(
  database: Database,
  { settled, pending }: Pick<Progress, "settled" | "pending">,
  most = largestPage,
): Promise<{ readonly events: readonly EventRow[]; readonly next: number | undefined }> {
  const events = await database.query<EventRow>(lookStatement, [settled, pending, most], { neverWaits: true });
  if (!isFullPage(events, most)) return { events, next: undefined };
  return { events, next: events.length < most ? Math.max(8, 2 * events.length) : largestPage };
}

/** Whoever has written an event and not committed yet holds this lock until its transaction ends. */
const writersStatement = `select virtualtransaction as id from pg_locks
  where locktype = 'relation' and relation = 'events'::regclass and mode = 'RowExclusiveLock'
    and database = (select oid from pg_database where datname = current_database())`;

/** The transactions that have written an event and not ended yet. */
export async function writersAtWork(database: Database): Promise<ReadonlySet<string>> {
  const rows = await database.query<{ id: string }>(writersStatement, [], { neverWaits: true });
  return new Set(rows.map(({ id }) => id));
}
