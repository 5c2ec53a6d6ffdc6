/** /sessions: create, read, change, list. */

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { errors } from "../../errors.ts";
import { transitions } from "../../sessions/lifecycle.ts";
import type { SessionRow } from "../../sessions/row.ts";
import type { ChangeResult } from "../../sessions/update.ts";
import type { Word } from "../../sessions/vocabulary.ts";
import { decodeCursor, encodeCursor } from "../cursor.ts";
import { etag, expectedVersions, hasVersion } from "../etag.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import type { ResponseHeader } from "../schemas/common.ts";
import { problems } from "../schemas/problem.ts";
import {
  createSessionSchema,
  firstAgent,
  listQuerySchema,
  sessionIdSchema,
  sessionListSchema,
  sessionSchema,
  updateSessionSchema,
} from "../schemas/session.ts";
import { sessionsText, sessionText } from "../session-text.ts";

export type SessionRoutesDeps = RepeatableDeps;

const tags = ["sessions"];
const defaultPage = 100;

const aSession = (description: string, ...headers: ResponseHeader[]) => ({
  description,
  headers,
  content: { "application/json": { schema: sessionSchema } },
});

const bodyProblems = [
  "malformed_json",
  "request_timeout",
  "origin_forbidden",
  "body_too_large",
  "unsupported_media_type",
  "validation_failed",
  "number_out_of_range",
  "unstorable_text",
  "nesting_too_deep",
] as const;

const createSchema = {
  operationId: "createSession",
  summary: "Create a session",
  description: "Publishes `session.created` to the Redis channel `events:session`.",
  tags,
  body: createSessionSchema,
  requestHeaders: ["Idempotency-Key"],
  response: {
    201: aSession("The session as it was created.", "Location", "ETag", "Idempotent-Replayed"),
    ...problems("idempotency_key_in_use", "idempotency_key_reused", ...bodyProblems),
  },
} satisfies OperationSchema;

const readSchema = {
  operationId: "getSession",
  summary: "Read a session",
  description: "With `If-None-Match`, answers 304 while the session has that version.",
  tags,
  params: sessionIdSchema,
  requestHeaders: ["If-None-Match"],
  response: {
    200: aSession("The session.", "ETag"),
    304: z.null().meta({ description: "The session has a version that If-None-Match names.", headers: ["ETag"] }),
    ...problems("session_not_found", "uri_too_long"),
  },
} satisfies OperationSchema;

const updateSchema = {
  operationId: "updateSession",
  summary: "Change a session",
  description:
    "What is absent stays; `context` and `checkpoint` are replaced whole. A change that changes nothing makes no " +
    "new version and no event; any other publishes `session.updated`. With `If-Match`, only the version it names " +
    "is changed.",
  tags,
  params: sessionIdSchema,
  body: updateSessionSchema,
  requestHeaders: ["If-Match"],
  response: {
    200: aSession("The session after the change.", "ETag"),
    ...problems("session_not_found", "uri_too_long", "invalid_transition", "precondition_failed", ...bodyProblems),
  },
} satisfies OperationSchema;

const listSchema = {
  operationId: "listSessions",
  summary: "List sessions, newest first",
  description: "A bare array. The `Link` header leads to the next page, and keeps the filters.",
  tags,
  querystring: listQuerySchema,
  response: {
    200: {
      description: "A page of sessions.",
      headers: ["Link"],
      content: { "application/json": { schema: sessionListSchema } },
    },
    ...problems("invalid_cursor", "validation_failed"),
  },
} satisfies OperationSchema;

/** Adds the routes; each answers with and without a trailing slash, and GET answers HEAD too. */
export async function sessionRoutes(plainApp: FastifyInstance, deps: SessionRoutesDeps): Promise<void> {
  const { sessions, changed } = deps;
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.post(
    "/sessions/",
    { schema: createSchema },
    repeatable(deps, createSchema, async (request, commands) => {
      const { body, bodyTexts } = request;
      const row = await commands.create(contextOf(request), {
        agentId: firstAgent(body) ?? "",
        sessionType: body.session_type ?? "conversation",
        phase: (body.phase ?? body.status)?.entry ?? "running",
        runtimeBackend: body.runtime_backend ?? "unknown",
        context: documentText(bodyTexts, "context"),
        checkpoint: documentText(bodyTexts, "checkpoint"),
        runtimeMetadata: documentText(bodyTexts, "runtime_metadata"),
      });
      const headers = { location: `/sessions/${row.id}`, etag: etag(row.version) };
      return { status: 201, headers, body: sessionText(row), changed: true };
    }),
  );

  app.get("/sessions/:id", { schema: readSchema }, async (request, reply) => {
    const row = await sessions.read(contextOf(request), request.params.id);
    if (row === undefined) throw errors.sessionNotFound();
    if (hasVersion(request.headers["if-none-match"], row.version)) {
      return reply.code(304).header("etag", etag(row.version)).send(null);
    }
    return sendSession(reply, row);
  });

  app.patch("/sessions/:id", { schema: updateSchema }, async (request, reply) => {
    const { body, bodyTexts } = request;
    const state = body.phase ?? body.status ?? undefined;
    const result = await sessions.update(contextOf(request), {
      id: request.params.id,
      expectedVersions: expectedVersions(request.headers["if-match"]),
      state,
      context: documentText(bodyTexts, "context"),
      checkpoint: bodyTexts.get("checkpoint") === "null" ? null : documentText(bodyTexts, "checkpoint"),
      runtimeBackend: body.runtime_backend ?? undefined,
      runtimeMetadata: documentText(bodyTexts, "runtime_metadata"),
    });
    const session = changedSession(result, state);
    if (result.outcome === "ok" && result.changed) changed();
    return sendSession(reply, session);
  });

  app.get("/sessions/", { schema: listSchema }, async (request, reply) => {
    const { agent_id: agentId, limit = defaultPage, cursor } = request.query;
    const filters = agentId?.toLowerCase() ?? "";
    const after = cursor === undefined ? undefined : decodeCursor(cursor, filters);
    const page = await sessions.list(contextOf(request), { agentId, limit, after });
    if (page.next !== undefined) {
      const query = new URLSearchParams(agentId === undefined ? {} : { agent_id: agentId });
      query.set("limit", String(limit));
      query.set("cursor", encodeCursor(page.next, filters));
      reply.header("link", `</sessions/?${query}>; rel="next"`);
    }
    return sendJson(reply, sessionsText(page.sessions));
  });
}

/** The text of a document in a body; undefined when it is absent, or null. */
function documentText(texts: FastifyRequest["bodyTexts"], key: string): string | undefined {
  const text = texts.get(key);
  return text === "null" ? undefined : text;
}

function changedSession(result: ChangeResult, asked: Word | undefined): SessionRow {
  switch (result.outcome) {
    case "ok":
      return result.session;
    case "stale":
      throw errors.preconditionFailed();
    case "conflict":
      throw errors.invalidTransition(result.from, asked?.entry ?? result.from, transitions[result.from], {
        from: result.from,
        to: asked?.word ?? "",
      });
    default:
      throw errors.sessionNotFound();
  }
}

function sendSession(reply: FastifyReply, row: SessionRow): FastifyReply {
  return sendJson(reply.header("etag", etag(row.version)), sessionText(row));
}

function sendJson(reply: FastifyReply, text: string): FastifyReply {
  return reply.header("content-type", "application/json; charset=utf-8").header("cache-control", "no-cache").send(text);
}
