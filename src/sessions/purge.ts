/**
 * Removing for good what a hard deletion asked for: the events and the checkpoints of a session in batches, then the
 * session itself with its labels, which leaves one `session.purged` without content.
 */

import type { Queries } from "../db/client.ts";
import { appendEvents } from "../events/outbox.ts";
import { newId } from "./context.ts";
import { removeLabels } from "./labels.ts";

/** What a step of the purge has come to. */
export type PurgeStep =
  /** Some events or checkpoints of a session were removed; `place` is for the next step. */
  | { readonly outcome: "removed"; readonly place: PurgePlace }
  /** A session is gone, and its `session.purged` waits to be published. */
  | { readonly outcome: "purged" }
  /** What is due has events that are not published yet, or somebody else is at it. */
  | { readonly outcome: "waits" }
  /** Nothing is due. */
  | { readonly outcome: "nothing" };

/** How far a session has been cleared. */
export interface PurgePlace {
  readonly sessionId: string;
  /** All events up to this sequence are removed. */
  readonly sequence: number;
  /** All checkpoints up to this number are removed; undefined when none were. */
  readonly checkpoint?: number;
}

/**
 * A statement that removes as many takes 5 to 15 ms, however many the session has: nobody waits long for the row's lock,
 * and a process that is killed in the middle leaves little to do again.
 */
const batchSize = 1_000;

/** So many checkpoints are removed at a time, and fewer when they are large: what they weigh costs, and not their number. */
const checkpointBatch = 100;
const checkpointBatchBytes = 8 * 1024 * 1024;

/*
 * Subscribers must hear of everything before it goes: a session whose last event is not published is left alone, and so
 * is any event that was committed late and has no place in the feed yet. Nobody appends to a deleted session, so what
 * the statement sees of it is all there is.
 *
 * FOR UPDATE reads the row again once it has the lock: a hold that was set meanwhile is seen. The place keeps the next
 * batch from reading through what the last ones removed, which stays in the index while somebody's old snapshot lives.
 */
const statement = `
  with feed as materialized (
    select position, pending from relays where name = 'redis'
  ), due as materialized (
    select s.namespace, s.id
    from sessions s cross join feed f
    where s.purge_requested_at is not null and not s.legal_hold
      and not exists (
        select 1
        from (
          select e.position from events e
          where e.namespace = s.namespace and e.session_id = s.id
          order by e.sequence desc
          limit 1
        ) last
        where last.position > f.position or last.position <@ f.pending)
    order by s.purge_requested_at
    limit 1
    for update of s skip locked
  ), batch as materialized (
    select e.position, e.sequence, e.position <= f.position and not e.position <@ f.pending as published
    from due d cross join feed f cross join lateral (
      select position, sequence from events
      where namespace = d.namespace and session_id = d.id
        and sequence > case when d.id = $2::text::uuid then $3::int else 0 end
      order by sequence
      limit ${batchSize}
    ) e
  ), removed as (
    delete from events where position = any(array(select position from batch where published))
    returning 1
  ), checkpoint_batch as materialized (
    select c.number, c.number_here = 1 or c.bytes_here <= ${checkpointBatchBytes} as fits
    from due d cross join lateral (
      select number, row_number() over page as number_here, sum(bytes::bigint + context_bytes) over page as bytes_here
      from checkpoints
      where namespace = d.namespace and session_id = d.id
        and number > case when d.id = $2::text::uuid then $4::text::int else 0 end
      window page as (order by number rows between unbounded preceding and current row)
      order by number
      limit ${checkpointBatch}
    ) c
  ), removed_checkpoints as (
    delete from checkpoints c using due d
    where c.namespace = d.namespace and c.session_id = d.id
      and c.number = any(array(select number from checkpoint_batch where fits))
    returning c.number
  ), purged as (
    delete from sessions s using due d
    where s.namespace = d.namespace and s.id = d.id
      and (select count(*) < ${batchSize} and coalesce(bool_and(published), true) from batch)
      and (select count(*) < ${checkpointBatch} and coalesce(bool_and(fits), true) from checkpoint_batch)
    returning s.namespace, s.id, s.last_sequence + 1 as last_sequence, s.version + 1 as version,
      greatest(clock_timestamp(), s.updated_at + interval '1 microsecond') as changed_at
  ), unlabelled as (${removeLabels("purged")}
  ), event as (${appendEvents(
    "purged s cross join (select $1::text::uuid as event_id, '{}'::jsonb as metadata) i",
    "'session.purged'",
    "'{}'::jsonb",
  )})
  select d.id, exists (select 1 from purged) as purged, (select count(*)::int from removed) as removed,
    (
      select coalesce(max(sequence), case when d.id = $2::text::uuid then $3::int else 0 end) from batch
      having coalesce(bool_and(published), true)
    ) as sequence,
    (select max(number) from removed_checkpoints) as checkpoint
  from due d`;

const isAnythingDue = `
  select 1 from sessions where purge_requested_at is not null and not legal_hold limit 1`;

/** Before the first step: no session has this id. */
const nowhere: PurgePlace = { sessionId: "00000000-0000-0000-0000-000000000000", sequence: 0 };

interface StepRow {
  readonly id: string;
  readonly purged: boolean;
  readonly removed: number;
  readonly sequence: number | null;
  /** The highest number of those that were removed. */
  readonly checkpoint: number | null;
}

/**
 * Removes at most 1,000 events and 100 checkpoints of the session whose removal was asked for first, and the session itself once none of
 * these is left. Any number of processes may do this at once: each session is removed once.
 *
 * @param place from the step before
 */
export async function purgeNext(database: Queries, place: PurgePlace = nowhere): Promise<PurgeStep> {
  const [row] = await database.query<StepRow>(statement, [
    newId(),
    place.sessionId,
    place.sequence,
    String(place.checkpoint ?? 0),
  ]);
  if (row?.purged === true) return { outcome: "purged" };
  if (row !== undefined && (row.removed > 0 || row.checkpoint !== null)) {
    const before = row.id === place.sessionId ? place.checkpoint : undefined;
    const checkpoint = row.checkpoint ?? before;
    const removed = { sessionId: row.id, sequence: row.sequence ?? 0 };
    return { outcome: "removed", place: checkpoint === undefined ? removed : { ...removed, checkpoint } };
  }
  const due = await database.query(isAnythingDue);
  return { outcome: due.length > 0 ? "waits" : "nothing" };
}
