/** POST /sessions/{id}/heartbeat: the session is at work still. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { errors } from "../../errors.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import { leaseRefusal, leaseText } from "../lease-answer.ts";
import { leaseTokenOf } from "../lease-token.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { heartbeatSchema, leaseSchema } from "../schemas/lease.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import { sessionIdSchema } from "../schemas/session.ts";

const schema = {
  operationId: "sendHeartbeat",
  summary: "Say that a session is at work still",
  description:
    "Moves `last_activity_at`, and with the token of the lease its end: no new version, no event. The answer says whether " +
    "the worker is asked to come to an end (`exit_requested`).",
  tags: ["workers"],
  params: sessionIdSchema,
  body: heartbeatSchema,
  requestHeaders: ["Idempotency-Key", "Lease-Token"],
  response: {
    200: {
      description: "The session, in short.",
      headers: ["Idempotent-Replayed"],
      content: { "application/json": { schema: leaseSchema } },
    },
    ...problems(
      "session_not_found",
      "uri_too_long",
      "lease_lost",
      "session_not_live",
      "idempotency_key_in_use",
      "idempotency_key_reused",
      ...bodyProblems,
    ),
  },
} satisfies OperationSchema;

/** Adds the route. */
export async function heartbeatRoutes(plainApp: FastifyInstance, deps: RepeatableDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.post(
    "/sessions/:id/heartbeat",
    { schema, config: { bodyIsOptional: true } },
    repeatable(deps, schema, async (request, commands) => {
      const { body, params } = request;
      const leaseToken = leaseTokenOf(request, body.lease_token);
      if (leaseToken === undefined && body.lease_seconds != null) {
        const detail = "says for how long a lease is renewed: needs the lease_token";
        throw errors.validationFailed([{ pointer: "/lease_seconds", detail }]);
      }
      const leaseSeconds = body.lease_seconds ?? undefined;
      const result = await commands.heartbeat(contextOf(request), { id: params.id, leaseToken, leaseSeconds });
      if (result.outcome !== "ok") throw leaseRefusal(result);
      return { status: 200, headers: {}, body: leaseText(result.lease), changed: false };
    }),
  );
}
