/** GET /sessions/ and /sessions/recoverable: sessions in pages, newest first. */

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { z } from "zod";
import { actions } from "../../sessions/actions.ts";
import type { Phase } from "../../sessions/lifecycle.ts";
import type { Sessions } from "../../sessions/sessions.ts";
import { decodeCursor, encodeCursor } from "../cursor.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { listQuerySchema, phasesAsked, recoverableQuerySchema, wordsAsked } from "../schemas/list-sessions.ts";
import { problems } from "../schemas/problem.ts";
import { sessionListSchema } from "../schemas/session.ts";
import { sendSessions } from "../session-answer.ts";

const defaultPage = 100;

const pageResponse = {
  200: {
    description: "A page of sessions.",
    headers: ["Link"],
    content: { "application/json": { schema: sessionListSchema } },
  },
  ...problems("invalid_cursor", "validation_failed"),
} satisfies OperationSchema["response"];

const listSchema = {
  operationId: "listSessions",
  summary: "List sessions, newest first",
  description: "A bare array. The `Link` header leads to the next page, and keeps the filters.",
  tags: ["sessions"],
  querystring: listQuerySchema,
  response: pageResponse,
} satisfies OperationSchema;

const recoverableSchema = {
  operationId: "listRecoverableSessions",
  summary: "List the sessions that can be recovered, newest first",
  description:
    "Those that have failed or crashed: a bare array. `POST /sessions/{id}/recover` takes each of them; those that have " +
    "expired or timed out are recovered by force alone, and are not listed. The `Link` header leads to the next page.",
  tags: ["sessions"],
  querystring: recoverableQuerySchema,
  response: pageResponse,
} satisfies OperationSchema;

/** Adds the routes; each answers with and without a trailing slash, and HEAD too. */
export async function listRoutes(plainApp: FastifyInstance, { sessions }: { sessions: Sessions }): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get("/sessions/", { schema: listSchema }, async (request, reply) => {
    const { agent_id: agentId, vocabulary } = request.query;
    const phases = phasesAsked(request.query);
    const filters = [agentId?.toLowerCase() ?? "", ...(phases === undefined ? [] : [phases.join()])].join("\n");
    const kept = { agent_id: agentId, ...wordsAsked(request.query), vocabulary };
    return sendPage(sessions, request, reply, { path: "/sessions/", phases, filters, kept });
  });

  app.get("/sessions/recoverable", { schema: recoverableSchema }, async (request, reply) => {
    const { agent_id: agentId, vocabulary } = request.query;
    const phases = actions.recover.allowed;
    // A cursor of the plain list leads to another place, and is not taken here.
    const filters = `recoverable\n${agentId?.toLowerCase() ?? ""}`;
    const kept = { agent_id: agentId, vocabulary };
    return sendPage(sessions, request, reply, { path: "/sessions/recoverable", phases, filters, kept });
  });
}

type PageRequest = FastifyRequest & { readonly query: z.output<typeof recoverableQuerySchema> };

interface PageOf {
  readonly path: string;
  readonly phases: readonly Phase[] | undefined;
  /** What the cursor is bound to. */
  readonly filters: string;
  /** The parameters that every page repeats. */
  readonly kept: Readonly<Record<string, string | undefined>>;
}

async function sendPage(
  sessions: Sessions,
  request: PageRequest,
  reply: FastifyReply,
  { path, phases, filters, kept }: PageOf,
): Promise<FastifyReply> {
  const { agent_id: agentId, limit = defaultPage, cursor, vocabulary } = request.query;
  const after = cursor === undefined ? undefined : decodeCursor(cursor, filters);
  const page = await sessions.list(contextOf(request), { agentId, phases, limit, after });
  if (page.next !== undefined) {
    const given = Object.entries(kept).filter((entry): entry is [string, string] => entry[1] !== undefined);
    const query = { ...Object.fromEntries(given), limit: String(limit), cursor: encodeCursor(page.next, filters) };
    reply.header("link", `<${path}?${new URLSearchParams(query)}>; rel="next"`);
  }
  return sendSessions(reply, page.sessions, vocabulary);
}
