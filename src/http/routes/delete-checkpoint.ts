/** DELETE /sessions/{id}/checkpoints/{number} and /checkpoints/{id}. */

import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { errors } from "../../errors.ts";
import type { ServiceError } from "../../service-error.ts";
import type { CheckpointDeletionResult, CheckpointKey } from "../../sessions/checkpoint-delete.ts";
import type { Sessions } from "../../sessions/sessions.ts";
import { expectedVersions } from "../etag.ts";
import { leaseTokenOf } from "../lease-token.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { checkpointIdSchema, checkpointPathSchema } from "../schemas/checkpoint.ts";
import { problems } from "../schemas/problem.ts";

const description =
  "It is removed for good. The session makes no new version and publishes nothing by it: what it is has not changed, " +
  "though its `checkpoint_count` has. The one that it shows can't be removed: save another one, or clear it, first.";

const deleteProblems = [
  "checkpoint_not_found",
  "uri_too_long",
  "lease_lost",
  "checkpoint_in_use",
  "precondition_failed",
  "legal_hold",
  "origin_forbidden",
  "validation_failed",
] as const;

const deleteSchema = {
  operationId: "deleteSessionCheckpoint",
  summary: "Delete a checkpoint of a session",
  description,
  tags: ["checkpoints"],
  params: checkpointPathSchema,
  requestHeaders: ["If-Match", "Lease-Token"],
  response: {
    204: z.null().meta({ description: "The checkpoint is removed." }),
    ...problems("session_not_found", ...deleteProblems),
  },
} satisfies OperationSchema;

const deleteByIdSchema = {
  ...deleteSchema,
  operationId: "deleteCheckpoint",
  summary: "Delete a checkpoint by its id",
  params: checkpointIdSchema,
  response: { 204: deleteSchema.response[204], ...problems(...deleteProblems) },
} satisfies OperationSchema;

const refusals: Readonly<Record<Exclude<CheckpointDeletionResult["outcome"], "ok">, () => ServiceError>> = {
  not_found: errors.sessionNotFound,
  no_checkpoint: errors.checkpointNotFound,
  legal_hold: errors.legalHold,
  lease_lost: errors.leaseLost,
  stale: errors.preconditionFailed,
  in_use: errors.checkpointInUse,
};

/** Adds the routes. A body means nothing to them, so none is read: many clients name a type and send nothing. */
export async function deleteCheckpointRoutes(
  plainApp: FastifyInstance,
  { sessions }: { readonly sessions: Sessions },
): Promise<void> {
  const remove = async (request: FastifyRequest, key: CheckpointKey) => {
    const { outcome } = await sessions.deleteCheckpoint(contextOf(request), {
      key,
      expectedVersions: expectedVersions(request.headers["if-match"]),
      leaseToken: leaseTokenOf(request),
    });
    // Of an id that none has, the session is not known either.
    if (outcome === "not_found" && "id" in key) throw errors.checkpointNotFound();
    if (outcome !== "ok") throw refusals[outcome]();
  };
  const routes: FastifyPluginAsync = async (ownApp) => {
    ownApp.removeAllContentTypeParsers();
    ownApp.addContentTypeParser("*", (_request, _body, done) => done(null));
    const app = ownApp.withTypeProvider<ZodTypeProvider>();

    app.delete("/sessions/:id/checkpoints/:number", { schema: deleteSchema }, async (request, reply) => {
      const { id: sessionId, number = 0 } = request.params;
      await remove(request, { sessionId, number });
      return reply.code(204).send(null);
    });

    app.delete("/checkpoints/:id", { schema: deleteByIdSchema }, async (request, reply) => {
      const { id } = request.params;
      if (id === undefined) throw errors.checkpointNotFound();
      await remove(request, { id });
      return reply.code(204).send(null);
    });
  };
  await plainApp.register(routes);
}
