/** GET /events and GET /sessions/{id}/events: the history, in pages. */

import type { FastifyInstance, FastifyReply } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { z } from "zod";
import { errors } from "../../errors.ts";
import type { EventPage, History, SessionEventsResult } from "../../events/history.ts";
import { type EventQuery, isByTime } from "../../events/history-query.ts";
import { decodeEventCursor, encodeEventCursor, readPosition } from "../event-cursor.ts";
import { eventText, storedFilter } from "../event-words.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { eventListSchema, eventsQuerySchema, sessionEventsQuerySchema } from "../schemas/event.ts";
import { problems } from "../schemas/problem.ts";
import { sessionIdSchema } from "../schemas/session.ts";

export interface EventRoutesDeps {
  readonly history: History;
}

const tags = ["events"];
const defaultPage = 100;

const page = {
  description: "A page of events.",
  headers: ["Link"],
  content: { "application/json": { schema: eventListSchema } },
} satisfies OperationSchema["response"][string];

const feedSchema = {
  operationId: "listEvents",
  summary: "Read the events of all sessions",
  description:
    "A bare array, in the one order that all readers see: that of `position`. An event is told once none can come before " +
    "it any more, so whoever reads on from the last `position` that they saw (`after`) misses none. With `created_after` " +
    "or `created_before`, and neither `after` nor `aggregate_id`, the order is that of time, and all pages are of what " +
    "there was when the first was read. The `Link` header leads to the next page, and keeps the filters; in ascending " +
    "order a full page always has one, and a page that ended early, because events are heavy or rare, has one too.",
  tags,
  querystring: eventsQuerySchema,
  response: { 200: page, ...problems("invalid_cursor", "position_gone", "validation_failed") },
} satisfies OperationSchema;

const sessionSchema = {
  operationId: "listSessionEvents",
  summary: "Read the events of a session",
  description:
    "A bare array in the order of `sequence`: every event that is committed, also the one of a change that was answered " +
    "just now. The `Link` header leads to the next page, and keeps the filters; in ascending order a full page always " +
    "has one, and a page that ended early, because events are heavy or rare, has one too.",
  tags,
  params: sessionIdSchema,
  querystring: sessionEventsQuerySchema,
  response: {
    200: page,
    ...problems("invalid_cursor", "session_not_found", "position_gone", "uri_too_long", "validation_failed"),
  },
} satisfies OperationSchema;

/** Adds the routes; each answers with and without a trailing slash, and GET answers HEAD too. */
export async function eventRoutes(plainApp: FastifyInstance, { history }: EventRoutesDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get("/events", { schema: feedSchema }, async (request, reply) => {
    const asked = read("/events", request.query, contextOf(request).namespace);
    return sendPage(reply, asked, pageOf(await history.ofAll(asked.query), asked.query.after));
  });

  app.get("/sessions/:id/events", { schema: sessionSchema }, async (request, reply) => {
    const { id } = request.params;
    const asked = read(`/sessions/${id}/events`, request.query, contextOf(request).namespace);
    const { include_deleted: includeDeleted = false } = request.query;
    const found = await history.ofSession({ ...asked.query, sessionId: id, includeDeleted });
    return sendPage(reply, asked, pageOf(found, asked.query.after));
  });
}

type Parameters = Partial<z.output<typeof eventsQuerySchema> & z.output<typeof sessionEventsQuerySchema>>;

interface Asked {
  readonly path: string;
  readonly query: EventQuery;
  readonly vocabulary: Parameters["vocabulary"];
  /** The parameters that every page repeats. */
  readonly filters: URLSearchParams;
}

function read(path: string, parameters: Parameters, namespace: string): Asked {
  const { limit = defaultPage, cursor, ...kept } = parameters;
  const filters = new URLSearchParams(
    Object.entries(kept)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]): [string, string] => [name, String(value)]),
  );
  const filter = {
    ...storedFilter(kept),
    after: kept.after === undefined ? undefined : readPosition(kept.after),
    descending: kept.order === "desc",
  };
  const byTime = path === "/events" && isByTime(filter);
  const place = cursor === undefined ? undefined : decodeEventCursor(cursor, `${path}?${filters}`, byTime);
  return { path, query: { ...filter, namespace, limit, place }, vocabulary: kept.vocabulary, filters };
}

function pageOf(result: SessionEventsResult, after: number | undefined): EventPage {
  switch (result.outcome) {
    case "ok":
      return result;
    case "removed":
      throw errors.positionGone(`The events up to position ${result.horizon} have been removed.`);
    case "unknown":
      throw errors.positionGone(`No event ever had the position ${after}, nor a later one.`);
    default:
      throw errors.sessionNotFound();
  }
}

function sendPage(reply: FastifyReply, { path, query, vocabulary, filters }: Asked, found: EventPage): FastifyReply {
  if (found.next !== undefined) {
    const next = new URLSearchParams(filters);
    next.set("limit", String(query.limit));
    next.set("cursor", encodeEventCursor(found.next, `${path}?${filters}`));
    reply.header("link", `<${path}?${next}>; rel="next"`);
  }
  return reply
    .header("content-type", "application/json; charset=utf-8")
    .header("cache-control", "no-cache")
    .send(`[${found.events.map((event) => eventText(event, vocabulary)).join(",")}]`);
}
