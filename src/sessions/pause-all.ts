/** A worker's own end: what it works on is set aside, for others to go on with. */

import type { Queries } from "../db/client.ts";
import { utcText } from "../db/time.ts";
import { columnsBefore } from "./change-statement.ts";
import { eventMetadata, type RequestContext } from "./context.ts";
import { livePhases, type Phase, phasesThatMayEnter } from "./lifecycle.ts";
import { mostMoved, moveSessions } from "./move-statement.ts";
import { phaseList } from "./transition.ts";
import type { TransitionedSession } from "./transition-log.ts";

export interface PauseAll {
  readonly workerId: string;
  /** The `status_reason` of the sessions. */
  readonly reason: string;
  /** Whether they may be claimed again at once. */
  readonly autoResume: boolean;
}

export interface PausedSession {
  readonly session: TransitionedSession;
  /** The phase that it had before. */
  readonly from: Phase;
}

const mayPause = livePhases.filter((phase) => phasesThatMayEnter("paused").includes(phase));

/*
 * What is not at work yet, or not any more, is stopped: it can't be paused. What was asked to stop stays stopped.
 */
const resumes = "($4::text::boolean and i.from_phase <> 'stopping')";

const statement = `
  with found as materialized (
    select id, greatest(updated_at + interval '1 microsecond', last_activity_at) as earliest, ${columnsBefore("sessions")}
    from sessions
    where namespace = $1 and lease_owner = $2 and phase in (${phaseList(livePhases)}) and deleted_at is null
    order by id
    limit ${mostMoved}
    for no key update
  ), decided as materialized (
    select *, gen_random_uuid() as event_id, $5::text::jsonb as metadata,
      case when from_phase in (${phaseList(mayPause)}) then 'paused' else 'stopped' end as to_phase,
      false as recovers, $3::text as reason, greatest(clock_timestamp(), earliest) as now
    from found
  ), ${moveSessions(
    {
      auto_resume: `case when ${resumes} then true end`,
      claimable_at: `case when ${resumes} then i.now end`,
    },
    `s.id, s.version, s.phase, s.status_reason, s.attempt, ${utcText("s.started_at")} as started_at`,
  )}
  select i.from_phase, m.id, m.phase, m.status_reason, m.attempt, m.started_at, null as ended_at
  from moved m join decided i using (id)`;

/**
 * Pauses every live session that a worker holds, or stops it where it can't be paused, with a `session.updated` event each,
 * and frees their leases. Waits for those that somebody else is changing.
 *
 * @returns all of them, in no order
 */
export async function pauseAll(
  database: Queries,
  context: RequestContext,
  { workerId, reason, autoResume }: PauseAll,
): Promise<PausedSession[]> {
  const paused: PausedSession[] = [];
  for (;;) {
    const rows = await database.query<TransitionedSession & { readonly from_phase: Phase }>(statement, [
      context.namespace,
      workerId,
      reason,
      autoResume,
      eventMetadata(context),
    ]);
    for (const session of rows) paused.push({ session, from: session.from_phase });
    // What the worker claims meanwhile is not looked for: it could go on for ever.
    if (rows.length < mostMoved) return paused;
  }
}
