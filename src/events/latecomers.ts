/** Events whose positions were passed by, and which were committed after all: they are given new places at the end. */

import type { Database } from "../db/client.ts";
import type { Lease } from "./lease.ts";

/** A session, as a key of `sessions`. */
export interface SessionKey {
  readonly namespace: string;
  readonly id: string;
}

/** So many at a time: what a transaction of thousands commits late is let in within seconds, and in short statements. */
const most = 1_000;

const findStatement = `
  select e.namespace, e.session_id as id, (count(*) over ())::int as sessions, (sum(count(*)) over ())::int as events
  from unnest($1::text::int8multirange) passed cross join lateral (
    select namespace, session_id, position from events
    where position >= lower(passed) and position < upper(passed)
    order by position limit ${most}
  ) e
  group by e.namespace, e.session_id
  order by min(e.position)
  limit ${most}`;

/**
 * The sessions that have latecomers.
 *
 * @param pending the positions that were passed by, as an int8multirange
 * @returns whether these are all of them, beside them
 */
export async function findLate(
  database: Database,
  pending: string,
): Promise<{ readonly sessions: readonly SessionKey[]; readonly areAll: boolean }> {
  const rows = await database.query<SessionKey & { sessions: number; events: number }>(findStatement, [pending], {
    neverWaits: true,
  });
  const { sessions = 0, events = 0 } = rows[0] ?? {};
  return { sessions: rows.map(({ namespace, id }) => ({ namespace, id })), areAll: Math.max(sessions, events) < most };
}

const asked = `asked as materialized (
    select namespace, id from jsonb_to_recordset($1::text::jsonb) as a (namespace text, id uuid))`;

/* Nobody waits for a row that somebody else has. A session that is gone can't be locked, and need not be. */
const lockStatement = `
  with ${asked}, locked as materialized (
    select s.namespace, s.id from sessions s join asked using (namespace, id)
    order by s.namespace, s.id
    for no key update of s skip locked
  )
  select namespace, id from locked
  union all
  select namespace, id from asked a
  where not exists (select 1 from sessions s where s.namespace = a.namespace and s.id = a.id)`;

/*
 * The order within a session is kept: what followed in it and is not settled yet moves behind the latecomer, and while
 * its row is locked nobody draws another position for it. What was committed just before the lock is visible to the next
 * statement only, so these are two.
 */
const moveStatement = `
  with ${asked}, moved as materialized (
    select position, nextval('events_position_seq') as new_position
    from (
      select e.position
      from asked a join events e on e.namespace = a.namespace and e.session_id = a.id
      where (e.position <@ $2::text::int8multirange or e.position > $3::text::bigint) and exists (
        select 1 from relays where name = 'redis' and holder = $4::text::uuid and token = $5::text::bigint)
      order by e.namespace, e.session_id, e.sequence
    ) in_order
  )
  update events e set position = moved.new_position from moved where e.position = moved.position`;

/**
 * Gives latecomers new positions, at the end of the feed, in order for each session. Does nothing when the lease is
 * another's.
 *
 * @param progress up to where the feed is settled, and what was passed by
 * @param sessions those that have latecomers
 * @returns the sessions that were let in; the others are being changed by somebody
 */
export async function readmit(
  database: Database,
  { holder, token }: Lease,
  { settled, pending }: { readonly settled: number; readonly pending: string },
  sessions: readonly SessionKey[],
): Promise<readonly SessionKey[]> {
  return database.transaction(async (transaction) => {
    const free = await transaction.query<SessionKey>(lockStatement, [JSON.stringify(sessions)]);
    if (free.length > 0) {
      await transaction.query(moveStatement, [JSON.stringify(free), pending, settled, holder, token]);
    }
    return free;
  });
}
