/** /sessions: create, read, change. */

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { errors } from "../../errors.ts";
import type { SessionChange } from "../../sessions/change-input.ts";
import type { Settings } from "../../sessions/fields.ts";
import { etag, expectedVersions, hasVersion } from "../etag.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import { leaseTokenOf } from "../lease-token.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { mergePatchType } from "../schemas/context.ts";
import { readQuerySchema } from "../schemas/delete-session.ts";
import { mergeSessionSchema } from "../schemas/merge-session.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import {
  createSessionSchema,
  sessionIdSchema,
  setStateSchema,
  updateSessionSchema,
  updateStatusSchema,
} from "../schemas/session.ts";
import { askedState, vocabularyQuerySchema } from "../schemas/state-words.ts";
import { aSession, changeMade, creationMade, sendSession } from "../session-answer.ts";
import {
  clearableText,
  detailsOf,
  documentText,
  newSessionOf,
  outcomeOf,
  settingsOf,
  type Texts,
  type UpdateBody,
} from "../session-body.ts";
import { isMerge, leaveOutRemovedLabels, type MergeLimits, mergeOf } from "../session-merge.ts";
import { sessionText } from "../session-text.ts";

export interface SessionRoutesDeps extends RepeatableDeps {
  /** The timers of sessions that don't say. */
  readonly defaultTimers: Settings;
  readonly config: RepeatableDeps["config"] & MergeLimits;
}

const tags = ["sessions"];

const createSchema = {
  operationId: "createSession",
  summary: "Create a session",
  description: "Publishes `session.created` to the Redis channel `events:session`.",
  tags,
  querystring: vocabularyQuerySchema,
  body: createSessionSchema,
  requestHeaders: ["Idempotency-Key"],
  response: {
    201: aSession("The session as it was created.", "Location", "ETag", "Idempotent-Replayed"),
    ...problems("external_id_taken", "idempotency_key_in_use", "idempotency_key_reused", ...bodyProblems),
  },
} satisfies OperationSchema;

const readSchema = {
  operationId: "getSession",
  summary: "Read a session",
  description: "With `If-None-Match`, answers 304 while the session has that version.",
  tags,
  params: sessionIdSchema,
  querystring: readQuerySchema,
  requestHeaders: ["If-None-Match"],
  response: {
    200: aSession("The session.", "ETag"),
    304: z.null().meta({ description: "The session has a version that If-None-Match names.", headers: ["ETag"] }),
    ...problems("session_not_found", "uri_too_long", "validation_failed"),
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
  querystring: vocabularyQuerySchema,
  body: updateSessionSchema,
  requestHeaders: ["If-Match", "Lease-Token"],
  response: {
    200: aSession("The session after the change.", "ETag"),
    ...problems(
      "session_not_found",
      "uri_too_long",
      "invalid_transition",
      "lease_lost",
      "external_id_taken",
      "precondition_failed",
      ...bodyProblems,
    ),
  },
} satisfies OperationSchema;

const patchSchema = {
  ...updateSchema,
  description:
    `${updateSchema.description} As \`application/merge-patch+json\` (RFC 7396) it is merged into the session, each object ` +
    "into the one that there is: what it does not name stays, and null removes.",
  bodies: { "application/json": updateSessionSchema, [mergePatchType]: mergeSessionSchema },
} satisfies OperationSchema;

const putSchema = {
  ...updateSchema,
  operationId: "putSession",
  summary: "Change a session (the same as PATCH)",
} satisfies OperationSchema;

const statusSchema = {
  ...updateSchema,
  operationId: "updateSessionStatus",
  summary: "Change what only a runtime writes",
  description:
    "As `PATCH /sessions/{id}`, for runtimes that may write nothing else: access can be granted to each alone.",
  body: updateStatusSchema,
} satisfies OperationSchema;

const setStateRouteSchema = {
  ...updateSchema,
  operationId: "setSessionState",
  summary: "Say where the session is, in a container platform's words",
  description: "INIT, READY, IDLE, BUSY or ERROR; the words of the other vocabularies are taken too.",
  body: setStateSchema,
} satisfies OperationSchema;

/** Adds the routes; each answers with and without a trailing slash, and GET answers HEAD too. */
export async function sessionRoutes(plainApp: FastifyInstance, deps: SessionRoutesDeps): Promise<void> {
  const { sessions, changed, defaultTimers, config } = deps;
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.post(
    "/sessions/",
    { schema: createSchema },
    repeatable(deps, createSchema, async (request, commands) => {
      const { body, bodyTexts } = request;
      const result = await commands.create(contextOf(request), newSessionOf(body, bodyTexts, defaultTimers));
      const row = creationMade(result);
      const headers = { location: `/sessions/${row.id}`, etag: etag(row.version) };
      return { status: 201, headers, body: sessionText(row, request.query.vocabulary), changed: true };
    }),
  );

  app.get("/sessions/:id", { schema: readSchema }, async (request, reply) => {
    const { include_deleted: evenDeleted = false } = request.query;
    const read = evenDeleted ? sessions.readEvenDeleted : sessions.read;
    const row = await read(contextOf(request), request.params.id);
    if (row === undefined) throw errors.sessionNotFound();
    if (hasVersion(request.headers["if-none-match"], row.version)) {
      return reply.code(304).header("etag", etag(row.version)).send(null);
    }
    return sendSession(reply, row, request.query.vocabulary);
  });

  const update = async (request: UpdateRequest, reply: FastifyReply) => {
    const { body } = request;
    const state = askedState(body);
    const result = await sessions.update(contextOf(request), {
      ...changeOf(request, config),
      state,
    });
    const { session, changed: hasChanged } = changeMade(result, state);
    if (hasChanged) changed();
    return sendSession(reply, session, request.query.vocabulary);
  };
  app.patch("/sessions/:id", { schema: patchSchema, preValidation: leaveOutRemovedLabels }, update);
  app.put("/sessions/:id", { schema: putSchema }, update);
  app.patch("/sessions/:id/status", { schema: statusSchema }, update);
  app.put("/sessions/:id/state", { schema: setStateRouteSchema }, update);
}

type UpdateRequest = FastifyRequest & {
  readonly params: z.output<typeof sessionIdSchema>;
  readonly query: z.output<typeof vocabularyQuerySchema>;
  readonly body: UpdateBody;
};

/** What a request says is read from the fields that its schema has let through, and from nothing else. */
function changeOf(request: UpdateRequest, limits: MergeLimits): SessionChange {
  const { params, headers, body, bodyTexts } = request;
  const texts = knownTexts(bodyTexts, body);
  const merges = isMerge(request);
  const change = {
    id: params.id,
    expectedVersions: expectedVersions(headers["if-match"]),
    leaseToken: leaseTokenOf(request, body.lease_token),
    reason: body.reason ?? undefined,
    autoResume: body.auto_resume ?? undefined,
    context: documentText(texts, "context"),
    checkpoint: clearableText(texts, "checkpoint"),
    runtimeBackend: body.runtime_backend ?? undefined,
    runtimeMetadata: documentText(texts, "runtime_metadata"),
    settings: settingsOf(body),
    details: detailsOf(body, texts, merges),
    ...outcomeOf(body, texts, merges),
  };
  return merges ? mergeOf(change, limits) : change;
}

function knownTexts(texts: Texts, body: object): Texts {
  for (const key of texts.keys()) {
    if (!Object.hasOwn(body, key)) return new Map([...texts].filter(([name]) => Object.hasOwn(body, name)));
  }
  return texts;
}
