/** How a checkpoint is kept: in the statement that saves it, from the row that shows it. */

import type { Assignments } from "./transition.ts";

/**
 * What saving a checkpoint does to its session.
 *
 * @param saves SQL, true when one is saved
 */
export function countCheckpoint(saves: string): Assignments {
  return {
    last_checkpoint: `s.last_checkpoint + (${saves})::int`,
    checkpoint_count: `s.checkpoint_count + (${saves})::int`,
  };
}

/** What `keepCheckpoints` needs of the row after the change, beside what an event needs; a select list over `s`. */
export const keptColumns = "s.last_checkpoint, s.checkpoint_bytes";

/**
 * The body of a CTE that appends the checkpoint which a session shows to its history. It has the id of the event that
 * tells of it.
 *
 * @param from a FROM clause, with its conditions, that gives `s` (the session after the change) and of its event `i`
 * (`event_id` and `metadata`)
 * @param input where `i` has another name
 */
export function keepCheckpoints(from: string, input = "i"): string {
  return `
    insert into checkpoints (namespace, session_id, number, id, created_by, data, bytes, session_version, created_at)
    select s.namespace, s.id, s.last_checkpoint, ${input}.event_id, ${input}.metadata ->> 'actor', s.checkpoint, s.checkpoint_bytes,
      s.version, s.changed_at
    from ${from}`;
}
