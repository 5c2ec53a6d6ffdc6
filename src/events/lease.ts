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

/** Events read at once: enough that most of the time goes to them and not to asking. */
const largestPage = 500;

const untilThen = `clock_timestamp() + interval '${leaseMs} milliseconds'`;

const takeStatement = `
  update relays set
    holder = $1::text::uuid, expires_at = ${untilThen}, token = token + (holder <> $1::text::uuid)::int
  where name = 'redis' and (expires_at < clock_timestamp() or holder = $1::text::uuid)
  returning token::text, position::float8 as published, settled::float8, pending::text`;

/** Takes the lease, if it is free; undefined when it is another's. */
export async function takeLease(
  database: Database,
  holder: string,
): Promise<({ readonly token: string } & Progress) | undefined> {
  const [lease] = await database.query<{ token: string } & Progress>(takeStatement, [holder]);
  return lease;
}

const isHolder = "name = 'redis' and holder = $1::text::uuid and token = $2::text::bigint";

/*
 * Ticks off, renews and reads on in one round trip. No row: the lease is another's. A lost tick only means that a batch
 * is settled and published again, so the commit need not wait for the disk.
 */
const advanceStatement = `
  with quick as (select set_config('synchronous_commit', 'off', true)), turn as (
    update relays set position = $3::text::bigint, settled = $4::text::bigint, pending = $5::text::int8multirange,
      expires_at = ${untilThen}
    from quick
    where ${isHolder}
    returning pending
  )
  select e.* from turn left join lateral (
    (
      select false as late, ${eventColumns("e")}
      from (${pageOfEvents("position > $4::text::bigint and not position <@ turn.pending", "position", "$6")}) e
    ) union all (
      select true, ${eventColumns("e")}
      from unnest(turn.pending) passed join events e on e.position >= lower(passed) and e.position < upper(passed)
    )
  ) e on true`;

export interface Advance {
  /** What follows what is settled, in the order of positions, and nothing left out between them. */
  readonly events: readonly EventRow[];
  /** Positions that were passed by, and have been committed after all. */
  readonly late: readonly number[];
  /** How many to ask for next, when there may be more: of heavy ones only so many are weighed. */
  readonly next: number | undefined;
}

/**
 * Writes down how far the feed has come, renews the lease, and reads on; undefined when the lease is another's.
 *
 * @param most how many events to read at most; they are fewer where they are heavy
 */
export async function advance(
  database: Database,
  lease: Lease,
  progress: Progress,
  most = largestPage,
): Promise<Advance | undefined> {
  const rows = await database.query<EventRow & { late: boolean | null }>(advanceStatement, [
    ...parameters(lease, progress),
    most,
  ]);
  if (rows.length === 0) return undefined;
  const events = rows.filter((row) => row.late === false);
  const late = rows.filter((row) => row.late === true).map((row) => row.position);
  const wasCut = events.length < most;
  const next = isFullPage(events, most) ? (wasCut ? Math.max(8, 2 * events.length) : largestPage) : undefined;
  return { events, late, next };
}

function parameters({ holder, token }: Lease, { published, settled, pending }: Progress): (string | number)[] {
  return [holder, token, published, settled, pending];
}

const handOnStatement = `
  update relays set position = $3::text::bigint, settled = $4::text::bigint, pending = $5::text::int8multirange,
    expires_at = clock_timestamp()
  where ${isHolder}`;

/** Writes down how far the feed has come, and lets another process take over at once. */
export async function handOn(database: Database, lease: Lease, progress: Progress): Promise<void> {
  await database.query(handOnStatement, parameters(lease, progress));
}

/** Whoever has written an event and not committed yet holds this lock until its transaction ends. */
const writersStatement = `select virtualtransaction as id from pg_locks
  where locktype = 'relation' and relation = 'events'::regclass and mode = 'RowExclusiveLock'
    and database = (select oid from pg_database where datname = current_database())`;

/** The transactions that have written an event and not ended yet. */
export async function writersAtWork(database: Database): Promise<ReadonlySet<string>> {
  const rows = await database.query<{ id: string }>(writersStatement);
  return new Set(rows.map(({ id }) => id));
}
