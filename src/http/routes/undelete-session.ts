/** POST /sessions/{id}/undelete: a deletion is taken back. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { errors } from "../../errors.ts";
import type { UndeletionResult } from "../../sessions/undelete.ts";
import { expectedVersions } from "../etag.ts";
import { NotYet, type RepeatableDeps, repeatable } from "../idempotency.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { undeleteSchema } from "../schemas/delete-session.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import { sessionIdSchema } from "../schemas/session.ts";
import { vocabularyQuerySchema } from "../schemas/state-words.ts";
import { aSession, sessionAnswer } from "../session-answer.ts";

const schema = {
  operationId: "undeleteSession",
  summary: "Take a deletion back",
  description:
    "The session is found again, as it was; publishes `session.restored`. One that was live is `stopped`, for its worker is " +
    "gone; one that waited to be claimed waits again. Its timers run again, but for an `expires_at` that has passed, which " +
    "is cleared. A session that is not deleted stays as it is. What is being removed for good can't be taken back.",
  tags: ["sessions"],
  params: sessionIdSchema,
  querystring: vocabularyQuerySchema,
  body: undeleteSchema,
  requestHeaders: ["Idempotency-Key", "If-Match"],
  response: {
    200: aSession("The session, found again.", "ETag", "Idempotent-Replayed"),
    ...problems(
      "session_not_found",
      "external_id_taken",
      "purge_requested",
      "idempotency_key_in_use",
      "precondition_failed",
      "uri_too_long",
      "idempotency_key_reused",
      ...bodyProblems,
    ),
  },
} satisfies OperationSchema;

type Undeleted = Extract<UndeletionResult, { outcome: "ok" }>;

/** @throws {ServiceError} why it was not taken back; NotYet when another look must tell */
function undeleted(result: UndeletionResult): Undeleted {
  switch (result.outcome) {
    case "ok":
      return result;
    case "not_found":
      throw errors.sessionNotFound();
    case "stale":
      throw errors.preconditionFailed();
    case "purge_requested":
      throw errors.purgeRequested();
    case "external_id_taken":
      throw errors.externalIdTaken(result.externalId, result.ownerId);
    case "raced":
      throw new NotYet(() => Promise.resolve());
  }
}

/** Adds the route. */
export async function undeleteRoutes(plainApp: FastifyInstance, deps: RepeatableDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.post(
    "/sessions/:id/undelete",
    { schema, config: { bodyIsOptional: true } },
    repeatable(deps, schema, async (request, commands) => {
      const { body, params, headers } = request;
      const result = await commands.undelete(contextOf(request), {
        id: params.id,
        expectedVersions: expectedVersions(headers["if-match"]),
        reason: body.reason ?? undefined,
      });
      return sessionAnswer(undeleted(result), request.query.vocabulary);
    }),
  );
}
