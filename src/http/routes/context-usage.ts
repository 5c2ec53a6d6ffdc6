/** GET /sessions/{id}/context/usage: what takes up room in a context. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { Config } from "../../config.ts";
import { errors } from "../../errors.ts";
import type { Sessions } from "../../sessions/sessions.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { contextUsageSchema } from "../schemas/context-usage.ts";
import { problems } from "../schemas/problem.ts";
import { sessionIdSchema } from "../schemas/session.ts";

export interface ContextUsageDeps {
  readonly sessions: Sessions;
  readonly config: Config;
}

const usageSchema = {
  operationId: "getContextUsage",
  summary: "What takes up room in a context",
  description: "The bytes of the context, and of each of its top-level keys, the heaviest first.",
  tags: ["sessions"],
  params: sessionIdSchema,
  response: {
    200: { description: "The bytes.", content: { "application/json": { schema: contextUsageSchema } } },
    ...problems("session_not_found", "uri_too_long"),
  },
} satisfies OperationSchema;

/** Adds the route; it answers with and without a trailing slash, and HEAD too. */
export async function contextUsageRoutes(
  plainApp: FastifyInstance,
  { sessions, config }: ContextUsageDeps,
): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get("/sessions/:id/context/usage", { schema: usageSchema }, async (request, reply) => {
    const usage = await sessions.contextUsage(contextOf(request), request.params.id);
    if (usage === undefined) throw errors.sessionNotFound();
    const { context_bytes, members, largest } = usage;
    reply.header("cache-control", "no-store");
    return { context_bytes, limit_bytes: config.CONTEXT_LIMIT_BYTES, members, largest: [...largest] };
  });
}
