/** /sessions/{id}/checkpoints and /checkpoints/{id}: saving, restoring and reading them. */

import type { FastifyInstance, FastifyReply } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { z } from "zod";
import { errors } from "../../errors.ts";
import type { CheckpointListQuery, CheckpointReading } from "../../sessions/checkpoint-read.ts";
import type { RestoreResult } from "../../sessions/checkpoint-save.ts";
import { checkpointsText, checkpointText } from "../checkpoint-text.ts";
import { seal, unseal } from "../cursor.ts";
import { etag, expectedVersions } from "../etag.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import { leaseTokenOf } from "../lease-token.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import {
  checkpointIdSchema,
  checkpointListSchema,
  checkpointPathSchema,
  checkpointQuerySchema,
  checkpointSchema,
  latestQuerySchema,
  listCheckpointsQuerySchema,
  restoreCheckpointSchema,
  restoreQuerySchema,
  saveCheckpointSchema,
} from "../schemas/checkpoint.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import { sessionIdSchema } from "../schemas/session.ts";
import { aSession } from "../session-answer.ts";
import { documentText } from "../session-body.ts";
import { sessionText } from "../session-text.ts";

const tags = ["checkpoints"];
const defaultPage = 100;

const json = (schema: z.ZodType) => ({ "application/json": { schema } });
const posted = ["Idempotency-Key", "If-Match", "Lease-Token"] as const;
const postProblems = [
  "session_not_found",
  "uri_too_long",
  "lease_lost",
  "idempotency_key_in_use",
  "precondition_failed",
  "idempotency_key_reused",
  ...bodyProblems,
] as const;

const saveSchema = {
  operationId: "saveCheckpoint",
  summary: "Save a checkpoint",
  description:
    "Always makes a new one, also with data that was saved before: a new version of the session, and one " +
    "`session.updated`, whose `event_id` is the checkpoint's id. The session shows the last one of the line without a " +
    "name (`checkpoint_ns`); those of other lines are kept beside it.",
  tags,
  params: sessionIdSchema,
  body: saveCheckpointSchema,
  requestHeaders: posted,
  response: {
    201: {
      description: "The checkpoint.",
      headers: ["Location", "Idempotent-Replayed"],
      content: json(checkpointSchema),
    },
    ...problems(...postProblems),
  },
} satisfies OperationSchema;

const restoreSchema = {
  operationId: "restoreCheckpoint",
  summary: "Make an earlier checkpoint the current one",
  description:
    "Saves its data once more, as a new checkpoint of its line: the history is kept, and the last checkpoint of the line " +
    "without a name is always the one that the session shows. With `restore_context` the session gets the context, too, " +
    "that the checkpoint keeps. Publishes `session.updated`.",
  tags,
  params: checkpointPathSchema,
  querystring: restoreQuerySchema,
  body: restoreCheckpointSchema,
  requestHeaders: posted,
  response: {
    200: aSession("The session; Location leads to the new checkpoint.", "Location", "ETag", "Idempotent-Replayed"),
    ...problems("checkpoint_not_found", ...postProblems),
  },
} satisfies OperationSchema;

const listSchema = {
  operationId: "listCheckpoints",
  summary: "List the checkpoints of a session, newest first",
  description:
    "A bare array, without `data` and `context` unless they are asked for. The `Link` header leads to the next page, and " +
    "keeps the filters; a page may end early when its documents are large.",
  tags,
  params: sessionIdSchema,
  querystring: listCheckpointsQuerySchema,
  response: {
    200: { description: "A page of checkpoints.", headers: ["Link"], content: json(checkpointListSchema) },
    ...problems("invalid_cursor", "session_not_found", "uri_too_long", "validation_failed"),
  },
} satisfies OperationSchema;

const found = { description: "The checkpoint.", content: json(checkpointSchema) };

const readSchema = {
  operationId: "getSessionCheckpoint",
  summary: "Read a checkpoint of a session",
  description: "With its data, and the context that it keeps.",
  tags,
  params: checkpointPathSchema,
  querystring: checkpointQuerySchema,
  response: {
    200: found,
    ...problems("session_not_found", "checkpoint_not_found", "uri_too_long", "validation_failed"),
  },
} satisfies OperationSchema;

const latestSchema = {
  ...readSchema,
  operationId: "getLatestCheckpoint",
  summary: "Read the last checkpoint of a line",
  params: sessionIdSchema,
  querystring: latestQuerySchema,
} satisfies OperationSchema;

const readByIdSchema = {
  ...readSchema,
  operationId: "getCheckpoint",
  summary: "Read a checkpoint by its id",
  params: checkpointIdSchema,
  response: { 200: found, ...problems("checkpoint_not_found", "uri_too_long", "validation_failed") },
} satisfies OperationSchema;

/** Adds the routes; each answers with and without a trailing slash, and GET answers HEAD too. */
export async function checkpointRoutes(plainApp: FastifyInstance, deps: RepeatableDeps): Promise<void> {
  addWrites(plainApp, deps);
  addReads(plainApp, deps);
}

function addWrites(plainApp: FastifyInstance, deps: RepeatableDeps): void {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.post(
    "/sessions/:id/checkpoints",
    { schema: saveSchema, config: { documents: { data: "checkpoint" } } },
    repeatable(deps, saveSchema, async (request, commands) => {
      const { body, bodyTexts, params } = request;
      const result = await commands.saveCheckpoint(contextOf(request), {
        sessionId: params.id,
        ...saidOf(request),
        data: documentText(bodyTexts, "data") ?? "{}",
        type: body.type ?? "manual",
        checkpointNs: body.checkpoint_ns ?? "",
        includeContext: body.include_context ?? false,
      });
      if (result.outcome !== "ok") throw refusals[result.outcome]();
      const { checkpoint } = result;
      const headers = { location: checkpointPath(checkpoint.session_id, checkpoint.number) };
      return { status: 201, headers, body: checkpointText(checkpoint), changed: true };
    }),
  );

  app.post(
    "/sessions/:id/checkpoints/:number/restore",
    { schema: restoreSchema, config: { bodyIsOptional: true } },
    repeatable(deps, restoreSchema, async (request, commands) => {
      const { body, params } = request;
      const result = await commands.restoreCheckpoint(contextOf(request), {
        sessionId: params.id,
        number: params.number ?? 0,
        ...saidOf(request),
        restoreContext: body.restore_context ?? false,
      });
      if (result.outcome !== "ok") throw refusals[result.outcome]();
      const { session, number } = result;
      const headers = { etag: etag(session.version), location: checkpointPath(session.id, number) };
      return { status: 200, headers, body: sessionText(session, request.query.vocabulary), changed: true };
    }),
  );
}

function addReads(plainApp: FastifyInstance, { sessions }: RepeatableDeps): void {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get("/sessions/:id/checkpoints", { schema: listSchema }, async (request, reply) => {
    const { params, query } = request;
    const asked = read(params.id, query);
    const page = await sessions.listCheckpoints(contextOf(request), asked.query);
    if (page.outcome !== "ok") throw errors.sessionNotFound();
    if (page.next !== undefined) {
      const { limit } = asked.query;
      const next = new URLSearchParams(asked.filters);
      next.set("limit", String(limit));
      next.set("cursor", seal([page.next], asked.sealed));
      reply.header("link", `<${asked.path}?${next}>; rel="next"`);
    }
    const shown = { data: asked.query.withData, context: asked.query.withContext };
    return sendText(reply, checkpointsText(page.checkpoints, shown));
  });

  app.get("/sessions/:id/checkpoints/latest", { schema: latestSchema }, async (request, reply) => {
    const { checkpoint_ns: latest = "", include_deleted: includeDeleted = false } = request.query;
    const which = { sessionId: request.params.id, latest };
    return sendFound(reply, await sessions.readCheckpoint(contextOf(request), { which, includeDeleted }));
  });

  app.get("/sessions/:id/checkpoints/:number", { schema: readSchema }, async (request, reply) => {
    const { id: sessionId, number = 0 } = request.params;
    const { include_deleted: includeDeleted = false } = request.query;
    const which = { sessionId, number };
    return sendFound(reply, await sessions.readCheckpoint(contextOf(request), { which, includeDeleted }));
  });

  app.get("/checkpoints/:id", { schema: readByIdSchema }, async (request, reply) => {
    const { id } = request.params;
    const { include_deleted: includeDeleted = false } = request.query;
    if (id === undefined) throw errors.checkpointNotFound();
    return sendFound(reply, await sessions.readCheckpoint(contextOf(request), { which: { id }, includeDeleted }));
  });
}

const refusals: Readonly<Record<Exclude<RestoreResult["outcome"], "ok">, () => Error>> = {
  not_found: errors.sessionNotFound,
  no_checkpoint: errors.checkpointNotFound,
  stale: errors.preconditionFailed,
  lease_lost: errors.leaseLost,
  no_context: () =>
    errors.validationFailed([
      { pointer: "/restore_context", detail: "must be false or absent: this checkpoint keeps no context" },
    ]),
};

function checkpointPath(sessionId: string, number: number): string {
  return `/sessions/${sessionId}/checkpoints/${number}`;
}

type SaidRequest = Parameters<typeof contextOf>[0] & {
  readonly body: Partial<z.output<typeof restoreCheckpointSchema>>;
};

/** What a request says of the checkpoint that it makes, whichever way. */
function saidOf(request: SaidRequest) {
  const { body, headers } = request;
  return {
    expectedVersions: expectedVersions(headers["if-match"]),
    leaseToken: leaseTokenOf(request, body.lease_token),
    label: body.label ?? undefined,
    description: body.description ?? undefined,
    createdBy: body.created_by ?? undefined,
  };
}

interface Asked {
  readonly path: string;
  readonly query: CheckpointListQuery;
  /** The parameters that every page repeats. */
  readonly filters: URLSearchParams;
  /** What the cursor is bound to. */
  readonly sealed: string;
}

/** @throws invalid_cursor when it is not one of this list */
function read(sessionId: string, parameters: z.output<typeof listCheckpointsQuerySchema>): Asked {
  const { limit = defaultPage, cursor, ...kept } = parameters;
  const path = `/sessions/${sessionId}/checkpoints`;
  const filters = new URLSearchParams(
    Object.entries(kept)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]): [string, string] => [name, String(value)]),
  );
  const sealed = `${path}?${filters}`;
  const query = {
    sessionId,
    checkpointNs: kept.checkpoint_ns,
    label: kept.label,
    types: kept.type,
    withData: kept.include?.includes("data") ?? false,
    withContext: kept.include?.includes("context") ?? false,
    includeDeleted: kept.include_deleted ?? false,
    limit,
    before: cursor === undefined ? undefined : numberIn(cursor, sealed),
  };
  return { path, query, filters, sealed };
}

/** The checksum of a cursor is no secret: what it says may have been made by somebody else. */
function numberIn(cursor: string, sealed: string): number {
  const [text = "", ...rest] = unseal(cursor, sealed);
  if (!/^[1-9]\d{0,8}$/.test(text) || rest.length > 0) throw errors.invalidCursor();
  return Number(text);
}

function sendFound(reply: FastifyReply, result: CheckpointReading): FastifyReply {
  if (result.outcome !== "ok") throw refusals[result.outcome]();
  return sendText(reply, checkpointText(result.checkpoint));
}

function sendText(reply: FastifyReply, text: string): FastifyReply {
  return reply.header("content-type", "application/json; charset=utf-8").header("cache-control", "no-cache").send(text);
}
