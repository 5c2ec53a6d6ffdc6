/** GET /sessions/recoverable: the sessions that ended badly and can be recovered, in pages, newest first. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { actions } from "../../sessions/actions.ts";
import type { Sessions } from "../../sessions/sessions.ts";
import { decodeCursor, encodeCursor } from "../cursor.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { recoverableQuerySchema } from "../schemas/list-sessions.ts";
import { problems } from "../schemas/problem.ts";
import { sessionListSchema } from "../schemas/session.ts";
import { sendSessions } from "../session-answer.ts";

const defaultPage = 100;

const recoverableSchema = {
  operationId: "listRecoverableSessions",
  summary: "List the sessions that can be recovered, newest first",
  description:
    "Those that have failed or crashed: a bare array. `POST /sessions/{id}/recover` takes each of them; those that have " +
    "expired or timed out are recovered by force alone, and are not listed. The `Link` header leads to the next page.",
  tags: ["sessions"],
  querystring: recoverableQuerySchema,
  response: {
    200: {
      description: "A page of sessions.",
      headers: ["Link"],
      content: { "application/json": { schema: sessionListSchema } },
    },
    ...problems("invalid_cursor", "validation_failed"),
  },
} satisfies OperationSchema;

/** Adds the route; it answers with and without a trailing slash, and HEAD too. */
export async function recoverableRoutes(
  plainApp: FastifyInstance,
  { sessions }: { sessions: Sessions },
): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get("/sessions/recoverable", { schema: recoverableSchema }, async (request, reply) => {
    const { agent_id: agent, limit = defaultPage, cursor, vocabulary } = request.query;
    const agentId = agent?.toLowerCase();
    // A cursor of the plain list leads to another place, and is not taken here.
    const filters = `recoverable\n${agentId ?? ""}`;
    const after = cursor === undefined ? undefined : decodeCursor(cursor, filters);
    const phases = actions.recover.allowed;
    const page = await sessions.list(contextOf(request), { agentId, phases, limit, after });
    if (page.next !== undefined) {
      const next = new URLSearchParams({
        ...(agent === undefined ? {} : { agent_id: agent }),
        ...(vocabulary === undefined ? {} : { vocabulary }),
        limit: String(limit),
        cursor: encodeCursor(page.next, filters),
      });
      reply.header("link", `</sessions/recoverable?${next}>; rel="next"`);
    }
    return sendSessions(reply, page.sessions, vocabulary);
  });
}
