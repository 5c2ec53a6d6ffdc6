/** /sessions/{id}/context: the context for itself: read, or a part of it; replaced, merged into, patched, added to. */

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import type { Config } from "../../config.ts";
import { errors } from "../../errors.ts";
import { pointerParts } from "../../json.ts";
import type { SessionChange } from "../../sessions/change-input.ts";
import { mediaTypeOf } from "../body.ts";
import { amountsText, mergePatchText } from "../context-body.ts";
import { etag, expectedVersions, hasVersion, namedVersions } from "../etag.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import { jsonPatchText } from "../json-patch.ts";
import { leaseTokenOf } from "../lease-token.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import {
  contextPartSchema,
  contextQuerySchema,
  incrementContextSchema,
  jsonPatchSchema,
  jsonPatchType,
  mergePatchSchema,
  mergePatchType,
  patchContextSchema,
  replaceContextSchema,
} from "../schemas/context.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import { sessionIdSchema } from "../schemas/session.ts";
import { vocabularyQuerySchema } from "../schemas/state-words.ts";
import { aSession, changeMade, sendSession, sendText, sessionAnswer } from "../session-answer.ts";
import { documentText } from "../session-body.ts";

export interface ContextRoutesDeps extends RepeatableDeps {
  readonly config: RepeatableDeps["config"] & Pick<Config, "CONTEXT_LIMIT_BYTES">;
}

const tags = ["sessions"];

const readSchema = {
  operationId: "getSessionContext",
  summary: "Read a session's context, or a part of it",
  description:
    "With `pointer`, the value that it names, and nothing else leaves the database. With `If-None-Match`, answers 304 " +
    "while the session has that version.",
  tags,
  params: sessionIdSchema,
  querystring: contextQuerySchema,
  requestHeaders: ["If-None-Match"],
  response: {
    200: {
      description: "The context, or the part of it.",
      headers: ["ETag"],
      content: { "application/json": { schema: contextPartSchema } },
    },
    304: z.null().meta({ description: "The session has a version that If-None-Match names.", headers: ["ETag"] }),
    ...problems("session_not_found", "context_pointer_not_found", "uri_too_long", "validation_failed"),
  },
} satisfies OperationSchema;

const changeProblems = [
  "session_not_found",
  "uri_too_long",
  "lease_lost",
  "precondition_failed",
  ...bodyProblems,
] as const;

const patchSchema = {
  operationId: "patchSessionContext",
  summary: "Change parts of a session's context",
  description:
    "As `application/merge-patch+json` (RFC 7396) the body is merged into the context; as `application/json-patch+json` " +
    "(RFC 6902) its operations are applied to it, all or none. Either way to what the context is by then, so that nobody's " +
    "changes are undone. It stays an object. What it does not name keeps every digit.",
  tags,
  params: sessionIdSchema,
  querystring: vocabularyQuerySchema,
  body: patchContextSchema,
  bodies: { [mergePatchType]: mergePatchSchema, [jsonPatchType]: jsonPatchSchema },
  requestHeaders: ["If-Match", "Lease-Token"],
  response: {
    200: aSession("The session after the change.", "ETag"),
    ...problems("json_patch_failed", "json_patch_test_failed", ...changeProblems),
  },
} satisfies OperationSchema;

const putSchema = {
  operationId: "putSessionContext",
  summary: "Replace a session's context",
  description: "`change_summary` stands in the payload of the change's event. The same as POST.",
  tags,
  params: sessionIdSchema,
  querystring: vocabularyQuerySchema,
  body: replaceContextSchema,
  requestHeaders: ["If-Match", "Lease-Token"],
  response: { 200: aSession("The session after the change.", "ETag"), ...problems(...changeProblems) },
} satisfies OperationSchema;

const postProblems = ["idempotency_key_in_use", "idempotency_key_reused", ...changeProblems] as const;

const postSchema = {
  ...putSchema,
  operationId: "replaceSessionContext",
  description: "`change_summary` stands in the payload of the change's event.",
  requestHeaders: ["Idempotency-Key", "If-Match", "Lease-Token"],
  response: {
    200: aSession("The session after the change.", "ETag", "Idempotent-Replayed"),
    ...problems(...postProblems),
  },
} satisfies OperationSchema;

const incrementSchema = {
  operationId: "incrementSessionContext",
  summary: "Add to numbers of a session's context",
  description:
    "All of them or none, to what they are by then. A member that is not there, of an object that is, counts as 0.",
  tags,
  params: sessionIdSchema,
  querystring: vocabularyQuerySchema,
  body: incrementContextSchema,
  requestHeaders: ["Idempotency-Key", "If-Match", "Lease-Token"],
  response: {
    200: aSession("The session after the change.", "ETag", "Idempotent-Replayed"),
    ...problems("not_a_number", ...postProblems),
  },
} satisfies OperationSchema;

/** Adds the routes; each answers with and without a trailing slash, and GET answers HEAD too. */
export async function contextRoutes(plainApp: FastifyInstance, deps: ContextRoutesDeps): Promise<void> {
  const { sessions, changed, config } = deps;
  const contextLimit = config.CONTEXT_LIMIT_BYTES;
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get("/sessions/:id/context", { schema: readSchema }, async (request, reply) => {
    const { params, headers, query } = request;
    const known = headers["if-none-match"];
    const path = pointerParts(query.pointer ?? "") ?? [];
    const part = await sessions.readContext(contextOf(request), { id: params.id, path, known: namedVersions(known) });
    if (part === undefined) throw errors.sessionNotFound();
    reply.header("etag", etag(part.version));
    if (hasVersion(known, part.version)) return reply.code(304).send(null);
    if (part.text === null) throw errors.contextPointerNotFound(query.pointer ?? "");
    return sendText(reply, part.text);
  });

  const answer = async (request: ChangeRequest, reply: FastifyReply, change: Partial<SessionChange>) => {
    const result = await sessions.update(contextOf(request), { ...guardsOf(request), ...change });
    const made = changeMade(result, undefined);
    if (made.changed) changed();
    return sendSession(reply, made.session, request.query.vocabulary);
  };

  app.patch("/sessions/:id/context", { schema: patchSchema }, (request, reply) => {
    const { body, bodyTexts } = request;
    const contextEdit =
      mediaTypeOf(request) === jsonPatchType
        ? { context_operations: jsonPatchText(body, bodyTexts) }
        : { context_merge: mergePatchText(body, bodyTexts) };
    return answer(request, reply, { contextEdit, contextLimit });
  });

  app.put("/sessions/:id/context", { schema: putSchema }, (request, reply) =>
    answer(request, reply, replacementOf(request)),
  );

  app.post(
    "/sessions/:id/context",
    { schema: postSchema },
    repeatable(deps, postSchema, async (request, commands) => {
      const result = await commands.update(contextOf(request), { ...guardsOf(request), ...replacementOf(request) });
      return sessionAnswer(changeMade(result, undefined), request.query.vocabulary);
    }),
  );

  app.post(
    "/sessions/:id/context/increment",
    { schema: incrementSchema },
    repeatable(deps, incrementSchema, async (request, commands) => {
      const contextEdit = { context_amounts: amountsText(request.bodyTexts) };
      const change = { ...guardsOf(request), contextEdit, contextLimit };
      const result = await commands.update(contextOf(request), change);
      return sessionAnswer(changeMade(result, undefined), request.query.vocabulary);
    }),
  );
}

type ChangeRequest = FastifyRequest & {
  readonly params: z.output<typeof sessionIdSchema>;
  readonly query: z.output<typeof vocabularyQuerySchema>;
};

type ReplaceRequest = ChangeRequest & { readonly body: z.output<typeof replaceContextSchema> };

function guardsOf(request: ChangeRequest): SessionChange {
  return {
    id: request.params.id,
    expectedVersions: expectedVersions(request.headers["if-match"]),
    leaseToken: leaseTokenOf(request),
  };
}

function replacementOf(request: ReplaceRequest): Partial<SessionChange> {
  const { body, bodyTexts } = request;
  return {
    leaseToken: leaseTokenOf(request, body.lease_token),
    context: documentText(bodyTexts, "context"),
    changeSummary: body.change_summary ?? undefined,
  };
}
