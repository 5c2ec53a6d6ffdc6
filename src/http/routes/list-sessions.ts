/** GET /sessions/: sessions in pages, newest first. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { z } from "zod";
import type { Sessions } from "../../sessions/sessions.ts";
import { decodeCursor, encodeCursor } from "../cursor.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { listQuerySchema, phasesAsked, wordsAsked } from "../schemas/list-sessions.ts";
import { problems } from "../schemas/problem.ts";
import { sessionListSchema } from "../schemas/session.ts";
import { sendSessions } from "../session-answer.ts";

const defaultPage = 100;

const listSchema = {
  operationId: "listSessions",
  summary: "List sessions, newest first",
  description: "A bare array. The `Link` header leads to the next page, and keeps the filters.",
  tags: ["sessions"],
  querystring: listQuerySchema,
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
export async function listRoutes(plainApp: FastifyInstance, { sessions }: { sessions: Sessions }): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get("/sessions/", { schema: listSchema }, async (request, reply) => {
    const { agent_id: agentId, limit = defaultPage, cursor, vocabulary } = request.query;
    const phases = phasesAsked(request.query);
    const filters = [agentId?.toLowerCase() ?? "", ...(phases === undefined ? [] : [phases.join()])].join("\n");
    const after = cursor === undefined ? undefined : decodeCursor(cursor, filters);
    const page = await sessions.list(contextOf(request), { agentId, phases, limit, after });
    if (page.next !== undefined) {
      const next = { ...kept(request.query), limit: String(limit), cursor: encodeCursor(page.next, filters) };
      reply.header("link", `</sessions/?${new URLSearchParams(next)}>; rel="next"`);
    }
    return sendSessions(reply, page.sessions, vocabulary);
  });
}

/** The parameters that every page repeats. */
function kept({ agent_id, vocabulary, ...query }: z.output<typeof listQuerySchema>): Record<string, string> {
  const all = { agent_id, ...wordsAsked(query), vocabulary };
  return Object.fromEntries(
    Object.entries(all).flatMap(([name, value]): [string, string][] => (value === undefined ? [] : [[name, value]])),
  );
}
