/** What waits to be published to Redis: how much it is, and for how long. */

import type { Database } from "../db/client.ts";

export interface RelayBacklog {
  /** Events that wait, `mostCounted` at the most. */
  readonly events: number;
  /** How old the oldest of them is, in seconds, by the database's clock; 0: nothing waits. */
  readonly oldestSeconds: number;
}

/** Counted exactly up to here: an outage of days must not make the figures as slow as they are large. */
const mostCounted = 100_000;

/** How far the positions reach that are looked at: those of changes that were rolled back are missing among them. */
const reach = 10 * mostCounted;

/*
 * In the order of positions, by the primary key: the first is the oldest, and no more are visited than are counted. With
 * an end to the range the planner takes it for a small one, and does not read the whole table instead. What has just
 * been published is ticked off within 100 ms, and counts until then.
 */
const statement = `
  select waiting.events::float8 as events,
    coalesce(greatest(0, extract(epoch from clock_timestamp() - oldest.created_at)), 0)::float8 as oldest_seconds
  from relays r
    cross join lateral (
      select count(*) as events from (
        select 1 from events e
        where e.position > r.position and e.position <= r.position + ${reach}
        order by e.position limit ${mostCounted}
      ) counted
    ) waiting
    left join lateral (
      select e.created_at from events e where e.position > r.position order by e.position limit 1
    ) oldest on true
  where r.name = 'redis'`;

/**
 * Reads what waits to be published, whichever process publishes.
 *
 * @throws {ServiceError} database_unavailable, schema_outdated
 */
export async function readBacklog(database: Database): Promise<RelayBacklog> {
  const rows = await database.query<{ readonly events: number; readonly oldest_seconds: number }>(statement, [], {
    neverWaits: true,
  });
  const [row] = rows;
  return { events: row?.events ?? 0, oldestSeconds: row?.oldest_seconds ?? 0 };
}
