/** GET /sessions/{id}/diagnosis: why is it stuck? */

import type { FastifyInstance, FastifyReply } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { Config } from "../../config.ts";
import { rfc3339 } from "../../db/time.ts";
import { errors } from "../../errors.ts";
import type { Diagnosis, RunningTimer } from "../../sessions/diagnosis.ts";
import type { Sessions } from "../../sessions/sessions.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { type DiagnosisAnswer, diagnosisSchema } from "../schemas/diagnosis.ts";
import { problems } from "../schemas/problem.ts";
import { sessionIdSchema } from "../schemas/session.ts";

const schema = {
  operationId: "diagnoseSession",
  summary: "Find out why a session is where it is",
  description:
    "Its phase and since when, who holds it and until when, what was last heard of it, which timers run and which fires " +
    "next, whether it may be claimed, where it may go from here, and all that in words.",
  tags: ["sessions"],
  params: sessionIdSchema,
  response: {
    200: { description: "The diagnosis.", content: { "application/json": { schema: diagnosisSchema } } },
    ...problems("session_not_found", "uri_too_long"),
  },
} satisfies OperationSchema;

export interface DiagnosisRoutesDeps {
  readonly sessions: Sessions;
  readonly config: Pick<Config, "SWEEP_INTERVAL_MS">;
}

/** So many intervals without a sweep, and at least so many seconds, and the sweeps count as stopped. */
const overdueIntervals = 4;
const leastOverdueSeconds = 10;

/** Adds the route; it answers with and without a trailing slash, and HEAD too. */
export async function diagnosisRoutes(
  plainApp: FastifyInstance,
  { sessions, config }: DiagnosisRoutesDeps,
): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();
  const sweepOverdueSeconds = Math.max(leastOverdueSeconds, (overdueIntervals * config.SWEEP_INTERVAL_MS) / 1_000);

  app.get("/sessions/:id/diagnosis", { schema }, async (request, reply) => {
    const found = await sessions.diagnose(contextOf(request), { id: request.params.id, sweepOverdueSeconds });
    if (found === undefined) throw errors.sessionNotFound();
    return sendJson(reply, answerOf(found));
  });
}

function sendJson(reply: FastifyReply, answer: DiagnosisAnswer): FastifyReply {
  return reply
    .header("content-type", "application/json; charset=utf-8")
    .header("cache-control", "no-store")
    .send(JSON.stringify(answer));
}

function time(utc: string | null): string | null {
  return utc === null ? null : rfc3339(utc);
}

function timerAnswer({ name, outcome, deadline, secondsLeft }: RunningTimer): DiagnosisAnswer["timers"][number] {
  return { name, outcome, due_at: rfc3339(deadline), seconds_left: secondsLeft };
}

function answerOf(found: Diagnosis): DiagnosisAnswer {
  const { lease, lastActivity, secondsUntilClaimable } = found;
  const timers = found.timers.map(timerAnswer);
  return {
    id: found.id,
    summary: found.summary,
    checked_at: rfc3339(found.checkedAt),
    status: found.status,
    phase: found.phase,
    phase_since: rfc3339(found.phaseSince),
    phase_seconds: found.phaseSeconds,
    status_reason: found.statusReason,
    exit_requested: found.exitRequested,
    attempt: found.attempt,
    max_attempts: found.maxAttempts,
    auto_recover: found.autoRecover,
    lease: lease
      ? {
          owner: lease.owner,
          expires_at: rfc3339(lease.expiresAt),
          live: lease.isLive,
          seconds_left: lease.secondsLeft,
        }
      : null,
    last_activity: { at: rfc3339(lastActivity.at), seconds_ago: lastActivity.secondsAgo, kind: lastActivity.kind },
    timers,
    next_timer: timers[0] ?? null,
    claim: {
      claimable: secondsUntilClaimable !== null && secondsUntilClaimable <= 0,
      claimable_at: time(found.claimableAt),
      scheduled_at: time(found.scheduledAt),
      next_attempt_at: time(found.nextAttemptAt),
    },
    transitions: found.openTransitions.map(({ to, verbs }) => ({ to, verbs: [...verbs] })),
    last_sweep: { at: time(found.sweptAt), seconds_ago: found.sweepSeconds, overdue: found.isSweepOverdue },
  };
}
