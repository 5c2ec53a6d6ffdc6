/** How a checkpoint is kept: in the statement that saves it, from the row that shows it. */

import { endedPhases, type Phase, statusOf } from "./lifecycle.ts";
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

/** Of which sessions that come to their end a checkpoint is saved, where the context has changed since the last one. */
export const finalCheckpoints = ["off", "crashes", "all"] as const;
export type FinalCheckpoints = (typeof finalCheckpoints)[number];

/** The phases in which that is done. */
export const finalPhases: Readonly<Record<FinalCheckpoints, readonly Phase[]>> = {
  off: [],
  crashes: endedPhases.filter((phase) => statusOf[phase] === "crashed"),
  all: endedPhases,
};

/** What leaving one does to the session. */
export function countFinalCheckpoint(leaves: string): Assignments {
  return { ...countCheckpoint(leaves), is_context_unsaved: `s.is_context_unsaved and not (${leaves})` };
}

/**
 * What `keepFinalCheckpoints` needs of the row after the change, beside what an event needs; a select list over `s`.
 *
 * @param leaves SQL, true when one is left: other documents are not read
 */
export function finalColumns(leaves: string): string {
  const document = (name: string) => `case when ${leaves} then s.${name} end as ${name}`;
  return `${leaves} as leaves_final, s.last_checkpoint, s.checkpoint_bytes, s.context_bytes,
      ${document("checkpoint")}, ${document("context")}`;
}

/**
 * The body of a CTE that keeps the context of sessions which came to their end, beside the checkpoint that they had.
 *
 * @param from a FROM clause, with its conditions, that gives `s` (the session after the change, with `phase` and
 * `finalColumns`) and of its event `i` (`event_id` and `metadata`)
 * @param input where `i` has another name
 */
export function keepFinalCheckpoints(from: string, input = "i"): string {
  return `
    insert into checkpoints (namespace, session_id, number, id, type, created_by, data, bytes, context, context_bytes,
                             session_version, created_at)
    select s.namespace, s.id, s.last_checkpoint, ${input}.event_id,
      case when s.phase = 'completed' then 'auto' else 'recovery_point' end, ${input}.metadata ->> 'actor',
      coalesce(s.checkpoint, '{}'), case when s.checkpoint is null then 2 else s.checkpoint_bytes end,
      s.context, s.context_bytes, s.version, s.changed_at
    from ${from}`;
}
