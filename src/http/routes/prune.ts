/** POST /sessions/{id}/prune: old checkpoints are removed now. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { errors } from "../../errors.ts";
import type { ServiceError } from "../../service-error.ts";
import { keepRules, ruleNames } from "../../sessions/checkpoint-retention.ts";
import type { PruneResult } from "../../sessions/prune.ts";
import { expectedVersions } from "../etag.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import { leaseTokenOf } from "../lease-token.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import { mostNumbers, prunedSchema, pruneSchema } from "../schemas/prune.ts";
import { sessionIdSchema } from "../schemas/session.ts";

export interface PruneRoutesDeps extends RepeatableDeps {
  readonly config: RepeatableDeps["config"] & Parameters<typeof keepRules>[0];
}

const schema = {
  operationId: "pruneSessionCheckpoints",
  summary: "Remove old checkpoints of a session",
  description:
    "Removes the checkpoints that no rule keeps: those of the body, else of the session, else of the service. The service " +
    "does the same by itself, sooner or later, by the latter two. With `dry_run` it removes nothing, and tells what it " +
    "would. The session gets no new version, and no event is published.",
  tags: ["sessions"],
  params: sessionIdSchema,
  body: pruneSchema,
  requestHeaders: ["Idempotency-Key", "If-Match", "Lease-Token"],
  response: {
    200: {
      description: "What was removed, or would be.",
      headers: ["Idempotent-Replayed"],
      content: { "application/json": { schema: prunedSchema } },
    },
    ...problems(
      "session_not_found",
      "lease_lost",
      "precondition_failed",
      "legal_hold",
      "uri_too_long",
      "idempotency_key_in_use",
      "idempotency_key_reused",
      ...bodyProblems,
    ),
  },
} satisfies OperationSchema;

const refusals: Readonly<Record<Exclude<PruneResult["outcome"], "ok">, () => ServiceError>> = {
  not_found: errors.sessionNotFound,
  stale: errors.preconditionFailed,
  lease_lost: errors.leaseLost,
  legal_hold: errors.legalHold,
};

/** Adds the route. */
export async function pruneRoutes(plainApp: FastifyInstance, deps: PruneRoutesDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();
  const defaults = keepRules(deps.config);

  app.post(
    "/sessions/:id/prune",
    { schema, config: { bodyIsOptional: true } },
    repeatable(deps, schema, async (request, commands) => {
      const { body, params, headers } = request;
      const dryRun = body.dry_run ?? false;
      const result = await commands.prune(contextOf(request), {
        id: params.id,
        defaults,
        rules: Object.fromEntries(ruleNames.flatMap((name) => (body[name] == null ? [] : [[name, body[name]]]))),
        dryRun,
        expectedVersions: expectedVersions(headers["if-match"]),
        leaseToken: leaseTokenOf(request),
      });
      if (result.outcome !== "ok") throw refusals[result.outcome]();
      const { deleted, bytes, kept, numbers, more } = result;
      const answer = { dry_run: dryRun, deleted, bytes, kept, numbers: numbers.slice(0, mostNumbers), more };
      return { status: 200, headers: {}, body: JSON.stringify(answer), changed: false };
    }),
  );
}
