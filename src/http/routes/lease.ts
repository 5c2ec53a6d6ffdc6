/** POST /sessions/{id}/lease: who works on the session. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { errors } from "../../errors.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import { leaseRefusal, leaseText } from "../lease-answer.ts";
import { leaseTokenOf } from "../lease-token.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { changeLeaseSchema, leaseSchema } from "../schemas/lease.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import { sessionIdSchema } from "../schemas/session.ts";

const schema = {
  operationId: "changeSessionLease",
  summary: "Take, renew, release or hand over the lease of a session",
  description:
    "Who names an old token is refused with `lease_lost`, whatever it wants. Publishes `session.updated` when the lease " +
    "gets another owner, or none. A session that waits is claimed instead (`POST /sessions/claim`).",
  tags: ["workers"],
  params: sessionIdSchema,
  body: changeLeaseSchema,
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
      "lease_held",
      "session_not_live",
      "idempotency_key_in_use",
      "idempotency_key_reused",
      ...bodyProblems,
    ),
  },
} satisfies OperationSchema;

/** Adds the route. */
export async function leaseRoutes(plainApp: FastifyInstance, deps: RepeatableDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.post(
    "/sessions/:id/lease",
    { schema },
    repeatable(deps, schema, async (request, commands) => {
      const { body, params } = request;
      const action = body.action ?? "take";
      const leaseToken = leaseTokenOf(request, body.lease_token);
      if (leaseToken === undefined && action !== "take") {
        const detail = `is required to ${action.replace("_", " ")} a lease, here or as the header Lease-Token`;
        throw errors.validationFailed([{ pointer: "/lease_token", detail }]);
      }
      const result = await commands.changeLease(contextOf(request), {
        id: params.id,
        action,
        leaseToken,
        workerId: body.worker_id ?? undefined,
        toWorkerId: body.to_worker_id ?? undefined,
        leaseSeconds: body.lease_seconds ?? undefined,
      });
      if (result.outcome !== "ok") throw leaseRefusal(result);
      return { status: 200, headers: {}, body: leaseText(result.lease), changed: result.changed };
    }),
  );
}
