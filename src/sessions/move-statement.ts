/** The part of a statement that takes sessions to another phase, whoever decides it: for claims, and for a worker's end. */

import { appendEvents } from "../events/outbox.ts";
import { changePayload } from "./change-statement.ts";
import { earliestCheck } from "./timers.ts";
import { type Assignments, setList, transitionAssignments } from "./transition.ts";

/** So many sessions one statement moves at most. */
export const mostMoved = 200;

/**
 * Two CTEs to follow one named `decided`: `moved` changes its sessions, each to another phase than it had, and `event` tells
 * of it. The namespace is $1.
 *
 *   decided   id, event_id, metadata, `columnsBefore`, and of what `transitionAssignments` reads to_phase, recovers,
 *             reason and now; `mostMoved` rows at most
 *
 * @param instead assignments in place of the usual ones
 * @param returning the select list of `moved`, over `s`, the session after it; it must give `id` and `version`
 */
export function moveSessions(instead: Assignments, returning: string): string {
  const moving = transitionAssignments(true, instead);
  const after = (column: string) => (column in moving ? `(${moving[column]})` : `s.${column}`);
  const assignments: Assignments = {
    ...moving,
    next_check_at: earliestCheck("i.now", after),
    version: "s.version + 1",
    last_sequence: "s.last_sequence + 1",
    updated_at: "i.now",
    last_activity_at: "i.now",
    last_activity_kind: "'change'",
  };
  return `moved as (
    update sessions s set
      ${setList(assignments)}
    -- the limit is for the planner: without it, it may expect very many, and read the whole table
    from (select *, true as moves, '{}'::text[] as updates from decided limit ${mostMoved}) i
    where s.namespace = $1 and s.id = i.id
    returning s.namespace, s.last_sequence, s.updated_at as changed_at, ${changePayload("state")} as payload, ${returning}
  ), event as (${appendEvents("moved s join decided i using (id)", "'session.updated'", "s.payload")})`;
}
