/** One line in the log for each transition of a session, and for its end how long it took. */

import type { Logger } from "pino";
import { rfc3339 } from "../db/time.ts";
import type { RequestContext } from "./context.ts";
import { endedPhases, type Phase } from "./lifecycle.ts";
import type { SessionRow } from "./row.ts";

/** What is told of a session that has gone from one phase to another. */
export type TransitionedSession = Pick<
  SessionRow,
  "id" | "phase" | "status_reason" | "attempt" | "started_at" | "ended_at"
>;

/** A session that has gone from one phase to another. */
export interface Transition {
  /** Undefined: nobody asked for it, a timer was due. */
  readonly context: RequestContext | undefined;
  readonly from: Phase;
  /** As it is after the transition. */
  readonly session: TransitionedSession;
}

const ended: readonly Phase[] = endedPhases;

/** Writes the line. */
export function logTransition(log: Logger, { context, from, session }: Transition): void {
  const transition = {
    session_id: session.id,
    from,
    to: session.phase,
    reason: session.status_reason,
    request_id: context?.requestId ?? null,
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
