/** For how long deleted sessions are kept: after that their removal is asked for, as a hard deletion does (see purge.ts). */

import type { Queries } from "../db/client.ts";

/** What a step has come to. */
export interface DeletedStep {
  /** Of how many sessions it has asked for the removal. */
  readonly asked: number;
  /** Up to which deletion it has looked, as the database writes a time: for the next step. */
  readonly place: string;
  /** Whether there may be more. */
  readonly more: boolean;
}

/** As many take 5 to 20 ms: whoever wants one of the rows meanwhile waits no longer. */
const batchSize = 500;

/*
 * FOR NO KEY UPDATE looks at the row again once it has the lock: what was undeleted meanwhile is left alone. What somebody
 * else has locked is passed by, and met by the next walk.
 *
 * now(), not clock_timestamp(): an index is searched by what stays the same. Each row is found by its place; the planner,
 * which knows nothing of how many there are, might else read the whole table.
 */
const statement = `
  with page as materialized (
    select ctid as place, deleted_at from sessions
    where deleted_at >= $2::text::timestamptz and deleted_at < now() - make_interval(days => $1::text::int)
      and purge_requested_at is null and not legal_hold
    order by deleted_at
    limit ${batchSize}
    for no key update skip locked
  ), asked as (
    update sessions s set purge_requested_at = clock_timestamp()
    where s.ctid = any(array(select place from page))
    returning 1
  )
  select (select count(*)::int from asked) as asked, coalesce(max(deleted_at), $2::text::timestamptz)::text as place,
    count(*) = ${batchSize} as more
  from page`;

const start = "-infinity";

/**
 * Asks for the removal of the next 500 sessions that were deleted longer ago than so many days, those first that were
 * deleted first. Any number of processes may do this at once.
 *
 * @param after from the step before; undefined: from the first deletion on
 */
export async function purgeOldDeleted(
  database: Queries,
  { days, after = start }: { readonly days: number; readonly after?: string | undefined },
): Promise<DeletedStep> {
  const [row] = await database.query<DeletedStep>(statement, [String(days), after]);
  return row ?? { asked: 0, place: after, more: false };
}
