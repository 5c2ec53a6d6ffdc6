/** DELETE /sessions/{id}, or by its external id: softly, or for good. */

import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { errors } from "../../errors.ts";
import type { ServiceError } from "../../service-error.ts";
import type { DeletionResult, SessionDeletion } from "../../sessions/delete.ts";
import type { Sessions } from "../../sessions/sessions.ts";
import { expectedVersions } from "../etag.ts";
import { becauseItMoved, lookedUpAgain, readableExternalId } from "../external-id.ts";
import { leaseTokenOf } from "../lease-token.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { deleteQuerySchema } from "../schemas/delete-session.ts";
import { problems } from "../schemas/problem.ts";
import { externalIdPathSchema, sessionIdSchema } from "../schemas/session.ts";

export interface DeleteRoutesDeps {
  readonly sessions: Sessions;
  /** Called after a change was committed: its event waits to be published. */
  readonly changed: () => void;
  /** Called after a hard deletion was committed: a session waits to be removed. */
  readonly purgeRequested: () => void;
}

const deleteSchema = {
  operationId: "deleteSession",
  summary: "Delete a session",
  description:
    "The session is not found any more, its history is kept; publishes `session.deleted`. With `hard=true` it is also " +
    "removed for good, soon after the answer: its events go, once they are published, and one `session.purged` without " +
    "content remains. A deletion may be repeated: what has been done is 204 again, whatever `If-Match` says; a session " +
    "that has been removed is 404.",
  tags: ["sessions"],
  params: sessionIdSchema,
  querystring: deleteQuerySchema,
  requestHeaders: ["If-Match", "Lease-Token"],
  response: {
    204: z.null().meta({ description: "The session is deleted." }),
    ...problems(
      "session_not_found",
      "uri_too_long",
      "lease_lost",
      "precondition_failed",
      "legal_hold",
      "origin_forbidden",
      "validation_failed",
    ),
  },
} satisfies OperationSchema;

const deleteByExternalIdSchema = {
  ...deleteSchema,
  operationId: "deleteSessionByExternalId",
  summary: "Delete the session that has an external id",
  description:
    "As `DELETE /sessions/{id}`. The external id is free for another session then, and names this one no more: a deletion " +
    "that is repeated is 404.",
  params: externalIdPathSchema,
} satisfies OperationSchema;

const refusals: Readonly<Record<Exclude<DeletionResult["outcome"], "ok">, () => ServiceError>> = {
  not_found: errors.sessionNotFound,
  stale: errors.preconditionFailed,
  lease_lost: errors.leaseLost,
  legal_hold: errors.legalHold,
};

type DeleteRequest = FastifyRequest & { readonly query: z.output<typeof deleteQuerySchema> };

/** Adds the routes. A body means nothing to it, so none is read: many clients name a type and send nothing. */
export async function deleteRoutes(
  plainApp: FastifyInstance,
  { sessions, changed, purgeRequested }: DeleteRoutesDeps,
): Promise<void> {
  const routes: FastifyPluginAsync = async (ownApp) => {
    ownApp.removeAllContentTypeParsers();
    ownApp.addContentTypeParser("*", (_request, _body, done) => done(null));
    const app = ownApp.withTypeProvider<ZodTypeProvider>();

    const remove = (request: DeleteRequest, which: Pick<SessionDeletion, "id" | "foundBy">) =>
      sessions.delete(contextOf(request), {
        ...which,
        expectedVersions: expectedVersions(request.headers["if-match"]),
        leaseToken: leaseTokenOf(request),
        hard: request.query.hard ?? false,
      });
    const answer = (request: DeleteRequest, reply: FastifyReply, result: DeletionResult) => {
      if (result.outcome !== "ok") throw refusals[result.outcome]();
      if (result.changed) changed();
      if (request.query.hard) purgeRequested();
      return reply.code(204).send(null);
    };

    app.delete("/sessions/:id", { schema: deleteSchema }, async (request, reply) =>
      answer(request, reply, await remove(request, { id: request.params.id })),
    );

    app.delete(
      "/sessions/by-external-id/:external_id",
      { schema: deleteByExternalIdSchema },
      async (request, reply) => {
        const foundBy = readableExternalId(request.params.external_id);
        for (let tries = 0; tries < lookedUpAgain; tries++) {
          const there = await sessions.readByExternalId(contextOf(request), foundBy);
          if (there === undefined) throw errors.sessionNotFound();
          const result = await remove(request, { id: there.id, foundBy });
          if (result.outcome !== "not_found") return answer(request, reply, result);
        }
        throw becauseItMoved();
      },
    );
  };
  await plainApp.register(routes);
}
