/** GET /sessions/, /sessions/recoverable and /sessions/facets, POST /sessions/search: sessions in pages, and counted. */

import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { actions } from "../../sessions/actions.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import {
  facetsQuerySchema,
  facetsSchema,
  listQuerySchema,
  recoverableQuerySchema,
  searchSchema,
} from "../schemas/list-sessions.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import { sessionListSchema } from "../schemas/session.ts";
import { filterOf } from "../schemas/session-filter.ts";
import { sendText } from "../session-answer.ts";
import { containedText, gatherMetadata, readPage, refuseUnbounded } from "../session-pages.ts";

const pageResponse = {
  200: {
    description: "A page of sessions.",
    headers: ["Link", "X-Next-Cursor", "X-Total-Count"],
    content: { "application/json": { schema: sessionListSchema } },
  },
  ...problems("invalid_cursor", "validation_failed"),
} satisfies OperationSchema["response"];

const manners =
  "A bare array. The `Link` header leads to the next page, and keeps the filters; a page may be shorter than `limit`, or " +
  "empty, and have one still. With `view` or `fields` the sessions have fewer fields than the schema says.";

const listSchema = {
  operationId: "listSessions",
  summary: "List sessions, newest first",
  description: manners,
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

const searchOperation = {
  operationId: "searchSessions",
  summary: "Search sessions",
  description:
    "The same as the list, with the filters in a body: a key that is not known is refused, and so is no filter at all, " +
    "unless `all` is true. `X-Next-Cursor` is the `cursor` of the next page.",
  tags: ["sessions"],
  body: searchSchema,
  requestHeaders: ["Idempotency-Key"],
  response: {
    ...pageResponse,
    200: { ...pageResponse[200], headers: ["X-Next-Cursor", "X-Total-Count", "Idempotent-Replayed"] },
    ...problems("invalid_cursor", "idempotency_key_in_use", "idempotency_key_reused", ...bodyProblems),
  },
} satisfies OperationSchema;

const facetsOperation = {
  operationId: "countSessions",
  summary: "Count sessions by state, type and backend",
  description: "Under the same filters as the list.",
  tags: ["sessions"],
  querystring: facetsQuerySchema,
  response: {
    200: { description: "The counts.", content: { "application/json": { schema: facetsSchema } } },
    ...problems("validation_failed"),
  },
} satisfies OperationSchema;

/** Adds the routes; each answers with and without a trailing slash, and HEAD too. */
export async function listRoutes(plainApp: FastifyInstance, deps: RepeatableDeps): Promise<void> {
  const { sessions } = deps;
  const app = plainApp.withTypeProvider<ZodTypeProvider>();
  const onRequest = gatherMetadata;

  app.get("/sessions/", { schema: listSchema, onRequest }, async (request, reply) => {
    const { context_contains: contained, ...asked } = request.query;
    const filter = filterOf(asked, containedText(contained));
    const page = await readPage(sessions, contextOf(request), { ...asked, filter, in: "parameter" });
    if (page.next !== undefined) reply.header("link", linkTo(request, page.limit, page.next));
    return sendText(reply.headers(page.headers), page.text);
  });

  app.get("/sessions/recoverable", { schema: recoverableSchema }, async (request, reply) => {
    const { agent_id: agentIds, ...asked } = request.query;
    const filter = { agentIds, phases: actions.recover.allowed };
    // A cursor of the plain list leads to another place, and is not taken here.
    const page = await readPage(sessions, contextOf(request), { ...asked, filter, of: "recoverable", in: "parameter" });
    if (page.next !== undefined) reply.header("link", linkTo(request, page.limit, page.next));
    return sendText(reply.headers(page.headers), page.text);
  });

  app.post(
    "/sessions/search",
    { schema: searchOperation },
    repeatable(deps, searchOperation, async (request, commands) => {
      const { context_contains: _, all: __, ...asked } = request.body;
      const filter = filterOf(asked, request.bodyTexts.get("context_contains"));
      const page = await readPage(commands, contextOf(request), {
        ...asked,
        filter,
        in: "pointer",
      });
      return { status: 200, headers: page.headers, body: page.text, changed: false };
    }),
  );

  app.get("/sessions/facets", { schema: facetsOperation, onRequest }, async (request, reply) => {
    const { context_contains: contained, ...asked } = request.query;
    const filter = filterOf(asked, containedText(contained));
    refuseUnbounded({ filter, in: "parameter" });
    const { total, complete, ...counts } = await sessions.facets(contextOf(request), filter);
    return sendText(reply, JSON.stringify({ total, complete, ...counts }));
  });
}

/** The parameters that were given are repeated; what means nothing here is not. */
function linkTo(request: FastifyRequest, limit: number, cursor: string): string {
  const given = new URLSearchParams(request.url.split("?")[1]);
  const parameters = new URLSearchParams();
  for (const name of new Set(given.keys())) {
    const values = given.getAll(name);
    if (name === "label") for (const value of values) parameters.append(name, value);
    else if (Object.hasOwn(listQuerySchema.shape, name) || name.startsWith("metadata"))
      parameters.set(name, values.join());
  }
  parameters.set("limit", String(limit));
  parameters.set("cursor", cursor);
  return `<${request.routeOptions.url}?${parameters}>; rel="next"`;
}
