/**
 * Removing events because of their age, oldest first, in batches. The database's clock decides. What is not published
 * yet and what is under a legal hold stays; `relays.horizon` says up to where readers must not rely on the feed.
 */

import type { Queries } from "../db/client.ts";

/** Just after this event, from oldest to newest. */
export interface RetentionPlace {
  readonly createdAt: string;
  readonly position: string;
}

export interface RetentionStep {
  readonly removed: number;
  /** Everything up to here has been removed, or may not be. */
  readonly place: RetentionPlace;
  /** Whether there may be more to remove at once. */
  readonly more: boolean;
}

/**
 * A statement that removes as many takes 5 to 15 ms, also among many more. It is also the most that one looks at: what is
 * held is passed by, and a million events under a legal hold must not make a statement long.
 */
const batchSize = 1_000;

const namespaces = `
  with recursive found as (
    (select namespace from events order by namespace limit 1)
    union all
    select (select e.namespace from events e where e.namespace > f.namespace order by e.namespace limit 1)
    from found f where f.namespace is not null
  )
  select namespace from found where namespace is not null`;

/*
 * Stops before what is not published: that goes later, once it is.
 *
 * The relay moves its row on several times a second. So the row is locked last, when all is removed, for no longer than
 * a commit that need not wait for the disk: what a crash brings back is removed again.
 *
 * now(), not clock_timestamp(): an index is searched by what stays the same.
 */
const statement = `
  with quick as (select set_config('synchronous_commit', 'off', true)), feed as materialized (
    select position, pending from relays where name = 'redis'
  ), page as materialized (
    select position, session_id, created_at from events
    where namespace = $1
      and (created_at, position) > ($2::text::timestamptz, $3::text::bigint)
      and created_at < now() - make_interval(days => $4::int)
    order by created_at, position
    limit ${batchSize}
  ), reached as materialized (
    select position, session_id, created_at
    from (
      select p.*, bool_or(p.position > f.position or p.position <@ f.pending)
        over (order by p.created_at, p.position) as is_barred
      from page p cross join feed f
    ) looked
    where not is_barred
  ), removed as (
    delete from events where position = any(array(
      select r.position from reached r
      where not exists (
        select 1 from sessions s where s.namespace = $1 and s.id = r.session_id and s.legal_hold)))
    returning position
  ), horizon as (
    update relays r set horizon = m.position
    from (select max(position) as position from removed) m cross join quick
    where r.name = 'redis' and r.horizon < m.position
  )
  select (select count(*)::int from removed) as removed, (select count(*) = ${batchSize} from reached) as more,
    last.created_at::text as created_at, last.position::text as position
  from (select 1) one
    left join (select * from reached order by created_at desc, position desc limit 1) last on true`;

const start: RetentionPlace = { createdAt: "-infinity", position: "0" };

/** The namespaces that have events. */
export async function namespacesOfEvents(database: Queries): Promise<string[]> {
  const rows = await database.query<{ namespace: string }>(namespaces, [], { neverWaits: true });
  return rows.map((row) => row.namespace);
}

/**
 * Looks at the next 1,000 events of a namespace that are older than so many days, and removes those that may go.
 *
 * @param after from the step before; undefined: from the oldest on
 */
export async function removeOldEvents(
  database: Queries,
  { namespace, days, after = start }: { namespace: string; days: number; after?: RetentionPlace | undefined },
): Promise<RetentionStep> {
  const [row] = await database.query<{
    removed: number;
    more: boolean;
    created_at: string | null;
    position: string | null;
  }>(statement, [namespace, after.createdAt, after.position, days]);
  if (row === undefined || row.created_at === null || row.position === null) {
    return { removed: 0, place: after, more: false };
  }
  return { removed: row.removed, place: { createdAt: row.created_at, position: row.position }, more: row.more };
}
