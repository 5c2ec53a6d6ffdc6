/** /sessions/by-external-id/{external_id}: create or change, and read (deleting: see delete-session.ts). */

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { errors } from "../../errors.ts";
import type { SessionChange } from "../../sessions/change-input.ts";
import type { SessionRow } from "../../sessions/row.ts";
import { etag, expectedVersions, hasVersion } from "../etag.ts";
import { becauseItMoved, lookedUpAgain, readableExternalId } from "../external-id.ts";
import { leaseTokenOf } from "../lease-token.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import { agentMust, externalIdPathSchema, firstAgent, putByExternalIdSchema } from "../schemas/session.ts";
import { externalIdMust, isExternalId } from "../schemas/session-fields.ts";
import { askedState, vocabularyQuerySchema } from "../schemas/state-words.ts";
import { aSession, changeMade, sendSession } from "../session-answer.ts";
import { clearableText, detailsOf, documentText, newSessionOf, settingsOf } from "../session-body.ts";
import type { SessionRoutesDeps } from "./sessions.ts";

const tags = ["sessions"];

const readSchema = {
  operationId: "getSessionByExternalId",
  summary: "Read the session that has an external id",
  description: "With `If-None-Match`, answers 304 while the session has that version.",
  tags,
  params: externalIdPathSchema,
  querystring: vocabularyQuerySchema,
  requestHeaders: ["If-None-Match"],
  response: {
    200: aSession("The session.", "ETag"),
    304: z.null().meta({ description: "The session has a version that If-None-Match names.", headers: ["ETag"] }),
    ...problems("session_not_found", "uri_too_long", "validation_failed"),
  },
} satisfies OperationSchema;

const putSchema = {
  operationId: "putSessionByExternalId",
  summary: "Create a session under an external id, or change the one that has it",
  description:
    "However often it is sent, and by however many at once, there is one session. Where there is none it is created, as " +
    "by `POST /sessions/`. The one that there is is changed as by `PATCH /sessions/{id}`: what is absent stays, stats " +
    "are set and not added, and an `agent_id` or a `session_type` that it does not have is refused (422). With " +
    "`If-None-Match: *` a session is only created, with `If-Match` only changed; otherwise the answer is 412.",
  tags,
  params: externalIdPathSchema,
  querystring: vocabularyQuerySchema,
  body: putByExternalIdSchema,
  requestHeaders: ["If-Match", "If-None-Match", "Lease-Token"],
  response: {
    200: aSession("The session that there was, after the change.", "ETag"),
    201: aSession("The session as it was created.", "Location", "ETag"),
    ...problems("uri_too_long", "invalid_transition", "lease_lost", "precondition_failed", ...bodyProblems),
  },
} satisfies OperationSchema;

type PutRequest = FastifyRequest & {
  readonly params: z.output<typeof externalIdPathSchema>;
  readonly query: z.output<typeof vocabularyQuerySchema>;
  readonly body: z.output<typeof putByExternalIdSchema>;
};

/** Adds the routes; each answers with and without a trailing slash, and GET answers HEAD too. */
export async function externalIdRoutes(plainApp: FastifyInstance, deps: SessionRoutesDeps): Promise<void> {
  const { sessions, changed } = deps;
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get("/sessions/by-external-id/:external_id", { schema: readSchema }, async (request, reply) => {
    const row = await sessions.readByExternalId(contextOf(request), readableExternalId(request.params.external_id));
    if (row === undefined) throw errors.sessionNotFound();
    if (hasVersion(request.headers["if-none-match"], row.version)) {
      return reply.code(304).header("etag", etag(row.version)).send(null);
    }
    return sendSession(reply, row, request.query.vocabulary);
  });

  app.put("/sessions/by-external-id/:external_id", { schema: putSchema }, async (request, reply) => {
    requireGoodId(request);
    for (let tries = 0; tries < lookedUpAgain; tries++) {
      const there = await sessions.readByExternalId(contextOf(request), request.params.external_id);
      const made = there === undefined ? await create(deps, request, reply) : await update(deps, request, there);
      // Else another one was created, or this one deleted or renamed, meanwhile.
      if (made === undefined) continue;
      if (made.changed) changed();
      return sendSession(reply, made.session, request.query.vocabulary);
    }
    throw becauseItMoved();
  });
}

/** @throws {ServiceError} validation_failed */
function requireGoodId({ params, body }: PutRequest): void {
  if (!isExternalId(params.external_id)) {
    throw errors.validationFailed([{ parameter: "external_id", detail: externalIdMust }]);
  }
  if (body.external_id == null || body.external_id === params.external_id) return;
  throw errors.validationFailed([{ pointer: "/external_id", detail: "must be that of the path, or absent" }]);
}

interface Made {
  readonly changed: boolean;
  readonly session: SessionRow;
}

/** Undefined when another request has created one. */
async function create(
  { sessions, defaultTimers }: SessionRoutesDeps,
  request: PutRequest,
  reply: FastifyReply,
): Promise<Made | undefined> {
  const { params, headers, body, bodyTexts } = request;
  if (headers["if-match"] !== undefined) {
    throw errors.preconditionFailed("No session has this external id, and If-Match asks for one.");
  }
  // Who believes to hold the lease of a session that is gone must not bring it back.
  if (leaseTokenOf(request) !== undefined) throw errors.leaseLost();
  if (firstAgent(body) === undefined) throw errors.validationFailed([{ pointer: "/agent_id", detail: agentMust }]);
  const asked = newSessionOf(body, bodyTexts, defaultTimers);
  const settings = { ...asked.settings, external_id: params.external_id };
  const result = await sessions.create(contextOf(request), { ...asked, settings });
  if (result.outcome !== "ok") return undefined;
  const { session } = result;
  reply.code(201).header("location", `/sessions/${session.id}`);
  return { changed: true, session };
}

/** Undefined when that session is gone, or has another external id by now. */
async function update(
  { sessions }: SessionRoutesDeps,
  request: PutRequest,
  there: SessionRow,
): Promise<Made | undefined> {
  const { headers, body } = request;
  if (hasVersion(headers["if-none-match"], there.version)) {
    throw errors.preconditionFailed("A session that If-None-Match rules out has this external id.");
  }
  const differing = (["agent_id", "session_type"] as const).filter(
    (name) => body[name] != null && body[name] !== there[name],
  );
  if (differing.length > 0) {
    const detail = (name: (typeof differing)[number]) => `is fixed: ${there[name]}`;
    throw errors.validationFailed(differing.map((name) => ({ pointer: `/${name}`, detail: detail(name) })));
  }
  const state = askedState(body);
  const result = await sessions.update(contextOf(request), { ...changeOf(request, there.id), state });
  return result.outcome === "not_found" ? undefined : changeMade(result, state);
}

/** What is created with figures is changed to have them: sent again, it must not count twice. */
function changeOf(request: PutRequest, id: string): SessionChange {
  const { params, headers, body, bodyTexts } = request;
  return {
    id,
    foundBy: params.external_id,
    expectedVersions: expectedVersions(headers["if-match"]),
    leaseToken: leaseTokenOf(request),
    context: documentText(bodyTexts, "context"),
    checkpoint: clearableText(bodyTexts, "checkpoint"),
    runtimeBackend: body.runtime_backend ?? undefined,
    runtimeMetadata: documentText(bodyTexts, "runtime_metadata"),
    // It has the external id already, and one that is null in the body clears nothing.
    settings: settingsOf({ ...body, external_id: undefined }),
    details: detailsOf(body, bodyTexts),
    statsSet: documentText(bodyTexts, "stats"),
    statsMax: documentText(bodyTexts, "stats_max"),
  };
}
