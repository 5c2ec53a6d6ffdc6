/** POST /workers/{worker_id}/pause-all: a worker leaves what it works on to others. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { errors } from "../../errors.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { mostIds, pauseAllSchema, pausedAllSchema, workerNameSchema, workerPathSchema } from "../schemas/claim.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";

const schema = {
  operationId: "pauseAllOfWorker",
  summary: "Set aside all sessions of a worker",
  description:
    "For a worker that is about to end: pauses every live session that it holds the lease of, and frees the leases. " +
    "Another worker may claim them at once, and goes on from their last checkpoints, in the same attempt. What is still " +
    "`starting` is stopped, and may be claimed too; what is `stopping` is stopped, and may not.",
  tags: ["workers"],
  params: workerPathSchema,
  body: pauseAllSchema,
  requestHeaders: ["Idempotency-Key"],
  response: {
    200: {
      description: "What was set aside.",
      headers: ["Idempotent-Replayed"],
      content: { "application/json": { schema: pausedAllSchema } },
    },
    ...problems("uri_too_long", "idempotency_key_in_use", "idempotency_key_reused", ...bodyProblems),
  },
} satisfies OperationSchema;

/** Adds the route. */
export async function workerRoutes(plainApp: FastifyInstance, deps: RepeatableDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.post(
    "/workers/:worker_id/pause-all",
    { schema, config: { bodyIsOptional: true } },
    repeatable(deps, schema, async (request, commands) => {
      const { body, params } = request;
      const name = workerNameSchema.safeParse(params.worker_id);
      if (!name.success) {
        const detail = name.error.issues[0]?.message ?? "";
        throw errors.validationFailed([{ parameter: "worker_id", detail }]);
      }
      const sessions = await commands.pauseAll(contextOf(request), {
        workerId: name.data,
        reason: body.reason ?? "worker_shutdown",
        autoResume: body.auto_resume ?? true,
      });
      const answer = { paused: sessions.length, sessions: sessions.slice(0, mostIds) };
      return { status: 200, headers: {}, body: JSON.stringify(answer), changed: sessions.length > 0 };
    }),
  );
}
