/** GET /sessions/{id}/metrics and GET /metrics/sessions: figures of one session, and of many. */

import type { FastifyInstance, FastifyReply } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { rfc3339 } from "../../db/time.ts";
import { errors } from "../../errors.ts";
import { phases } from "../../sessions/lifecycle.ts";
import {
  countedEvents,
  countedEventsOfSession,
  countedSessions,
  type Figures,
  type GroupName,
  type SessionMetrics,
} from "../../sessions/metrics.ts";
import type { Sessions } from "../../sessions/sessions.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { problems } from "../schemas/problem.ts";
import { sessionIdSchema } from "../schemas/session.ts";
import {
  type FiguresAnswer,
  figuresQuerySchema,
  figuresSchema,
  sessionMetricsSchema,
  sinceError,
} from "../schemas/session-metrics.ts";

const metricsSchema = {
  operationId: "getSessionMetrics",
  summary: "Figures of a session",
  description:
    "How long it lasted and how long it was live, the time in each phase, its transitions and events, what its runtime " +
    `counted, and the size of its documents. Of its events the newest ${countedEventsOfSession} are counted.`,
  tags: ["sessions"],
  params: sessionIdSchema,
  response: {
    200: { description: "The figures.", content: { "application/json": { schema: sessionMetricsSchema } } },
    ...problems("session_not_found", "uri_too_long"),
  },
} satisfies OperationSchema;

const figuresRouteSchema = {
  operationId: "getSessionFigures",
  summary: "Figures of the sessions of a stretch of time",
  description:
    "Counts the sessions that were created since then, in groups, how long those lasted that have ended, how many of " +
    "these ran out of time, and the events. Each session and event is read, which takes about 1 s for each 500,000, so " +
    `only the newest ${countedSessions} sessions and ${countedEvents} events are; where there are more, \`complete\` is ` +
    "false and `counted_since` says since when they have been counted.",
  tags: ["sessions"],
  querystring: figuresQuerySchema,
  response: {
    200: { description: "The figures.", content: { "application/json": { schema: figuresSchema } } },
    ...problems("validation_failed"),
  },
} satisfies OperationSchema;

const day = { secondsAgo: 86_400 };

/** Adds the routes; each answers with and without a trailing slash, and HEAD too. */
export async function sessionMetricsRoutes(
  plainApp: FastifyInstance,
  { sessions }: { sessions: Sessions },
): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get("/sessions/:id/metrics", { schema: metricsSchema }, async (request, reply) => {
    const found = await sessions.metrics(contextOf(request), request.params.id);
    if (found === undefined) throw errors.sessionNotFound();
    return sendJson(reply, metricsText(found));
  });

  app.get("/metrics/sessions", { schema: figuresRouteSchema }, async (request, reply) => {
    const { since = day, group_by: groupBy = "status", agent_id: agentId } = request.query;
    const figures = await sessions.figures(contextOf(request), { since, groupBy, agentId });
    if (figures.is_too_long) throw errors.validationFailed([{ parameter: "since", detail: sinceError }]);
    return sendJson(reply, JSON.stringify(figuresAnswer(figures, groupBy)));
  });
}

function sendJson(reply: FastifyReply, text: string): FastifyReply {
  return reply.header("content-type", "application/json; charset=utf-8").header("cache-control", "no-store").send(text);
}

function time(utc: string | null): string {
  return utc === null ? "null" : `"${rfc3339(utc)}"`;
}

/** As JSON text: what a runtime counted is spliced in as the database spells it. */
function metricsText(found: SessionMetrics): string {
  return (
    `{"id":"${found.id}","checked_at":${time(found.checked_at)},"phase":"${found.phase}","attempt":${found.attempt},` +
    `"transitions":${found.transitions},"started_at":${time(found.started_at)},"ended_at":${time(found.ended_at)},` +
    `"duration_ms":${found.duration_ms},"active_duration_ms":${found.active_duration_ms},` +
    `"phase_ms":${phaseText(found)},"events":{"total":${found.events},"by_type":${found.events_by_type},` +
    `"complete":${found.events < countedEventsOfSession}},` +
    `"stats":${found.stats ?? "{}"},"stats_max":${found.stats_max ?? "{}"},"context_bytes":${found.context_bytes},` +
    `"checkpoint_bytes":${found.checkpoint_bytes},"runtime_metadata_bytes":${found.runtime_metadata_bytes},` +
    `"details_bytes":${found.details_bytes}}`
  );
}

/** The phases that it has been in, in the order of the table. */
function phaseText({ phase, phase_ms, current_phase_ms }: SessionMetrics): string {
  const before = JSON.parse(phase_ms ?? "{}") as Partial<Record<string, number>>;
  const spent = { ...before, [phase]: (before[phase] ?? 0) + current_phase_ms };
  const members = phases.flatMap((one) => (spent[one] === undefined ? [] : [`"${one}":${spent[one]}`]));
  return `{${members.join(",")}}`;
}

function figuresAnswer(found: Figures, groupBy: GroupName): FiguresAnswer {
  const { ended, expired, events, sessions_since, events_since } = found;
  const since = rfc3339(found.since);
  const complete = found.sessions_read < countedSessions;
  const allEvents = events < countedEvents;
  return {
    since,
    checked_at: rfc3339(found.checked_at),
    complete,
    counted_since: complete || sessions_since === null ? since : rfc3339(sessions_since),
    group_by: groupBy,
    total: found.total,
    groups: JSON.parse(found.groups) as FiguresAnswer["groups"],
    more_groups: found.more_groups,
    ended,
    expired,
    expiry_rate: ended === 0 ? 0 : Number((expired / ended).toFixed(6)),
    duration_ms: { mean: found.mean_ms, p50: found.p50_ms, p95: found.p95_ms },
    events: {
      total: events,
      by_type: JSON.parse(found.events_by_type) as Record<string, number>,
      complete: allEvents,
      counted_since: allEvents || events_since === null ? since : rfc3339(events_since),
    },
  };
}
