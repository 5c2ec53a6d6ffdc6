/** GET /events/stream, /sessions/{id}/events/stream and /sessions/{id}/wait: what happens, as it happens. */

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { errors } from "../../errors.ts";
import { changeTypes } from "../../events/envelope.ts";
import type { Feed } from "../../events/feed.ts";
import type { FeedPage } from "../../events/feed-pages.ts";
import type { History, SessionEventsResult } from "../../events/history.ts";
import type { Metrics } from "../../metrics.ts";
import type { SessionRow } from "../../sessions/row.ts";
import type { Sessions } from "../../sessions/sessions.ts";
import type { Vocabulary, Word } from "../../sessions/vocabulary.ts";
import { etag } from "../etag.ts";
import { isPosition } from "../event-cursor.ts";
import { EventStreams } from "../event-streams.ts";
import { type AskedEvents, eventFilter } from "../event-words.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { endOfWait } from "../patience.ts";
import { contextOf } from "../request-context.ts";
import { eventStreamSchema, sessionStreamQuerySchema, streamQuerySchema, waitQuerySchema } from "../schemas/live.ts";
import { problems } from "../schemas/problem.ts";
import { sessionIdSchema, sessionSchema } from "../schemas/session.ts";
import { sessionText } from "../session-text.ts";

export interface LiveRoutesDeps {
  readonly sessions: Sessions;
  readonly history: History;
  readonly feed: Feed;
  readonly metrics: Metrics;
  /** Given when the service stops: streams end, and those who wait are answered. */
  readonly closing: AbortSignal;
}

const stream = {
  description: "Events, until the client leaves. A client that falls behind is cut off, and resumes where it was.",
  content: { "text/event-stream": { schema: eventStreamSchema } },
} satisfies OperationSchema["response"][string];

const streamsEvents = { config: { offers: ["text/event-stream"] } };

const feedSchema = {
  operationId: "streamEvents",
  summary: "Follow the events of all sessions",
  description:
    "Server-sent events: replays from `Last-Event-ID` or `after`, then goes on live. Nothing is skipped, and nothing " +
    "comes twice within a connection.",
  tags: ["events"],
  querystring: streamQuerySchema,
  requestHeaders: ["Last-Event-ID"],
  response: { 200: stream, ...problems("position_gone", "validation_failed") },
} satisfies OperationSchema;

const sessionStreamSchema = {
  operationId: "streamSessionEvents",
  summary: "Follow the events of a session",
  description: "As `/events/stream`, for one session.",
  tags: ["events"],
  params: sessionIdSchema,
  querystring: sessionStreamQuerySchema,
  requestHeaders: ["Last-Event-ID"],
  response: {
    200: stream,
    ...problems("session_not_found", "position_gone", "uri_too_long", "validation_failed"),
  },
} satisfies OperationSchema;

const waitSchema = {
  operationId: "waitForSession",
  summary: "Wait until a session is in a state",
  description:
    "Answers with the session once it is in one of the states, at once if it is already; after the timeout, or when the " +
    "service stops, with the session as it is then, and `Wait-Timed-Out: true`.",
  tags: ["sessions"],
  params: sessionIdSchema,
  querystring: waitQuerySchema,
  response: {
    200: {
      description: "The session.",
      headers: ["ETag", "Wait-Timed-Out"],
      content: { "application/json": { schema: sessionSchema } },
    },
    ...problems("session_not_found", "uri_too_long", "validation_failed"),
  },
} satisfies OperationSchema;

/** Adds the routes; each answers with and without a trailing slash. */
export async function liveRoutes(plainApp: FastifyInstance, deps: LiveRoutesDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();
  const { history, feed, sessions, closing } = deps;
  const streams = new EventStreams(feed);
  deps.metrics.streamClientsFrom(() => streams.size);
  const waits = new Set<AbortController>();
  closing.addEventListener("abort", () => {
    streams.stop();
    for (const wait of waits) wait.abort();
  });
  const first = { descending: false, limit: 1 };

  app.get("/events/stream", { schema: feedSchema, ...streamsEvents }, async (request, reply) => {
    const after = startOf(request, request.query.after);
    const { namespace } = contextOf(request);
    if (after !== undefined) refuseGone(await history.ofAll({ namespace, after, ...first }), after);
    // Before the client is told that it is open: what it causes then must come.
    streams.open(request, reply, { after: after ?? (await feed.now()), ...wanted(request.query) });
  });

  app.get("/sessions/:id/events/stream", { schema: sessionStreamSchema, ...streamsEvents }, async (request, reply) => {
    const sessionId = request.params.id;
    const after = startOf(request, request.query.after);
    const { namespace } = contextOf(request);
    refuseGone(await history.ofSession({ namespace, sessionId, includeDeleted: false, after, ...first }), after);
    streams.open(request, reply, { after: after ?? (await feed.now()), sessionId, ...wanted(request.query) });
  });

  app.get("/sessions/:id/wait", { schema: waitSchema }, async (request, reply) => {
    const { until, after_version: afterVersion, timeout = 30, vocabulary } = request.query;
    const { id } = request.params;
    const read = async () => {
      const row = await sessions.read(contextOf(request), id);
      if (row === undefined) throw errors.sessionNotFound();
      return row;
    };
    const version = afterVersion ?? (until === undefined ? (await read()).version : undefined);
    const isThere = (session: SessionRow) => isReached(session, until, version);
    const end = endOfWait(reply, timeout * 1_000);
    waits.add(end);
    if (closing.aborted) end.abort();
    const { row, timedOut } = await waitFor(feed, id, end, read, isThere).finally(() => waits.delete(end));
    return sendSession(timedOut ? reply.header("wait-timed-out", "true") : reply, row, vocabulary);
  });
}

function sendSession(reply: FastifyReply, row: SessionRow, vocabulary: Vocabulary | undefined): FastifyReply {
  return reply
    .header("etag", etag(row.version))
    .header("content-type", "application/json; charset=utf-8")
    .header("cache-control", "no-cache")
    .send(sessionText(row, vocabulary));
}

/** What a reader has seen already, if it says so. A position that is none is unknown here like any other. */
function startOf(request: FastifyRequest, parameter: string | undefined): number | undefined {
  const lastEventId = request.headers["last-event-id"];
  const text = typeof lastEventId === "string" && lastEventId !== "" ? lastEventId : parameter;
  if (text === undefined) return undefined;
  if (!isPosition(text)) throw errors.positionGone("No event ever had the position that was asked for.");
  return Number(text);
}

function refuseGone(result: SessionEventsResult, after: number | undefined): void {
  switch (result.outcome) {
    case "ok":
      return;
    case "removed":
      throw errors.positionGone(`The events up to position ${result.horizon} have been removed.`);
    case "unknown":
      throw errors.positionGone(`No event ever had the position ${after}, nor a later one.`);
    default:
      throw errors.sessionNotFound();
  }
}

function wanted(query: AskedEvents) {
  return { matches: eventFilter(query), vocabulary: query.vocabulary };
}

function isReached(row: SessionRow, until: readonly Word[] | undefined, version: number | undefined): boolean {
  const isThere = until === undefined || until.some(({ means }) => means.includes(row.phase));
  return isThere && (version === undefined || row.version > version);
}

/** Reads the session, and again with each change of it, until it is as it shall be or the end has come. */
async function waitFor(
  feed: Feed,
  sessionId: string,
  end: AbortController,
  read: () => Promise<SessionRow>,
  isThere: (row: SessionRow) => boolean,
): Promise<{ readonly row: SessionRow; readonly timedOut: boolean }> {
  // From before the session is read: what changes it afterwards is seen.
  const pages = feed.follow({ after: await feed.now(), sessionId, signal: end.signal });
  try {
    let row = await read();
    while (!isThere(row)) {
      const isOver = await nextChange(pages);
      row = await read();
      if (isOver) return { row, timedOut: !isThere(row) };
    }
    return { row, timedOut: false };
  } finally {
    end.abort();
    await pages.return();
  }
}

/** Waits for an event that is a change; true: there will be none. What runtimes report changes nothing. */
async function nextChange(pages: AsyncGenerator<FeedPage, void, void>): Promise<boolean> {
  for (;;) {
    const { done, value } = await pages.next();
    if (done === true) return true;
    if (value.events.some((event) => changeTypes.includes(event.event_type))) return false;
  }
}
