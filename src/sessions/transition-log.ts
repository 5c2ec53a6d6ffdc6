/** One line in the log for each transition of a session, and for its end how long it took. */

import type { Logger } from "pino";
import { rfc3339 } from "../db/time.ts";
import type { RequestContext } from "./context.ts";
import { endedPhases, type Phase } from "./lifecycle.ts";
import type { SessionRow } from "./row.ts";

/** A session that has gone from one phase to another. */
export interface Transition {
  readonly context: RequestContext;
  readonly from: Phase;
  /** As it is after the transition. */
  readonly session: SessionRow;
}

const ended: readonly Phase[] = endedPhases;

/** Writes the line. */
export function logTransition(log: Logger, { context, from, session }: Transition): void {
  const transition = {
    session_id: session.id,
    from,
    to: session.phase,
    // Nobody can give one yet.
    reason: null,
    request_id: context.requestId,
  };
  if (!ended.includes(session.phase)) {
    log.info(transition, "session changed");
    return;
  }
  const { attempt, started_at: startedAt, ended_at: endedAt } = session;
  const durationMs = startedAt === null || endedAt === null ? null : instant(endedAt) - instant(startedAt);
  log.info({ ...transition, attempt, duration_ms: durationMs }, "session ended");
}

function instant(utc: string): number {
  return Date.parse(rfc3339(utc));
}
