/** Events whose positions were passed by, and which were committed after all: they are given new places at the end. */

import type { Database } from "../db/client.ts";

/*
 * The order within a session is kept: what followed in it and is not settled yet moves behind the latecomer, and while
 * its row is locked nobody draws another position for it. What the lock waited for is visible to the next statement
 * only, so these are two.
 */
const lock = `
  select 1 from sessions
  where (namespace, id) in (
    select distinct namespace, session_id from events where position = any($1::text::bigint[]))
  order by namespace, id
  for no key update`;

const move = `
  update events e set position = moved.new_position
  from (
    select event_id, position, nextval('events_position_seq') as new_position
    from (
      select e.event_id, e.position
      from relays f, events e
      where f.name = 'redis' and f.holder = $2::text::uuid and f.token = $3::text::bigint
        and (e.namespace, e.session_id) in (
          select distinct namespace, session_id from events where position = any($1::text::bigint[]))
        and (e.position = any($1::text::bigint[]) or e.position > f.settled)
      order by e.namespace, e.session_id, e.sequence
    ) in_order
  ) moved
  where e.position = moved.position`;

/**
 * Gives events new positions, at the end of the feed, in order for each session. Does nothing when the lease is another's.
 *
 * @param positions those of the latecomers
 */
export async function readmit(
  database: Database,
  lease: { readonly holder: string; readonly token: string },
  positions: readonly number[],
): Promise<void> {
  const late = `{${positions.join(",")}}`;
  await database.transaction(async (transaction) => {
    await transaction.query(lock, [late]);
    await transaction.query(move, [late, lease.holder, lease.token]);
  });
}
