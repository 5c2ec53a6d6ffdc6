/** /jobs: how far bulk jobs have come, what they have done, and stopping them. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { rfc3339 } from "../../db/time.ts";
import { errors } from "../../errors.ts";
import type { BulkJob } from "../../sessions/bulk-jobs.ts";
import { newestFirst } from "../../sessions/find-query.ts";
import { decodePlace, encodePlace, seal, unseal } from "../cursor.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import { jobsText, jobText, resultsText } from "../job-text.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import {
  jobListSchema,
  jobPathSchema,
  jobSchema,
  listJobsQuerySchema,
  listResultsQuerySchema,
  resultListSchema,
} from "../schemas/job.ts";
import { problems } from "../schemas/problem.ts";
import { sendText } from "../session-answer.ts";

const tags = ["jobs"];
const defaultPage = 100;

const readSchema = {
  operationId: "getJob",
  summary: "Read a job",
  description: "How far it has come. A job is kept for 30 days after its end.",
  tags,
  params: jobPathSchema,
  response: {
    200: { description: "The job.", content: { "application/json": { schema: jobSchema } } },
    ...problems("job_not_found", "uri_too_long"),
  },
} satisfies OperationSchema;

const listSchema = {
  operationId: "listJobs",
  summary: "List the jobs, newest first",
  description: "A bare array. The `Link` header leads to the next page.",
  tags,
  querystring: listJobsQuerySchema,
  response: {
    200: {
      description: "A page of jobs.",
      headers: ["Link"],
      content: { "application/json": { schema: jobListSchema } },
    },
    ...problems("invalid_cursor", "validation_failed"),
  },
} satisfies OperationSchema;

const resultsSchema = {
  operationId: "listJobResults",
  summary: "List what became of each session of a job",
  description:
    "A bare array, in the order in which it was done; of a job that runs, what it has done so far. The `Link` header leads " +
    "to the next page.",
  tags,
  params: jobPathSchema,
  querystring: listResultsQuerySchema,
  response: {
    200: {
      description: "A page of results.",
      headers: ["Link"],
      content: { "application/json": { schema: resultListSchema } },
    },
    ...problems("invalid_cursor", "job_not_found", "uri_too_long", "validation_failed"),
  },
} satisfies OperationSchema;

const cancelSchema = {
  operationId: "cancelJob",
  summary: "Cancel a job",
  description:
    "It stops before its next batch; what it has done stays. A job that has ended stays as it is, and may be cancelled again.",
  tags,
  params: jobPathSchema,
  requestHeaders: ["Idempotency-Key"],
  response: {
    200: {
      description: "The job.",
      headers: ["Idempotent-Replayed"],
      content: { "application/json": { schema: jobSchema } },
    },
    ...problems(
      "origin_forbidden",
      "job_not_found",
      "uri_too_long",
      "idempotency_key_in_use",
      "validation_failed",
      "idempotency_key_reused",
    ),
  },
} satisfies OperationSchema;

/** Adds the routes; each answers with and without a trailing slash, and GET answers HEAD too. */
export async function jobRoutes(plainApp: FastifyInstance, deps: RepeatableDeps): Promise<void> {
  const { sessions } = deps;
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get("/jobs", { schema: listSchema }, async (request, reply) => {
    const { limit = defaultPage, cursor } = request.query;
    const after = cursor === undefined ? undefined : decodePlace(cursor, "jobs", newestFirst);
    const found = await sessions.listBulkJobs(contextOf(request), { limit, after });
    const jobs = found.slice(0, limit);
    const last = jobs.at(-1);
    if (found.length > limit && last !== undefined) {
      const next = encodePlace({ key: rfc3339(last.created_at), id: last.id }, "jobs");
      reply.header("link", linkTo("/jobs", limit, next));
    }
    return sendText(reply, jobsText(jobs));
  });

  app.get("/jobs/:id", { schema: readSchema }, async (request, reply) => {
    const { id } = request.params;
    return sendText(reply, jobText(found(id && (await sessions.readBulkJob(contextOf(request), id)))));
  });

  app.get("/jobs/:id/results", { schema: resultsSchema }, async (request, reply) => {
    const { id } = request.params;
    const { limit = defaultPage, cursor } = request.query;
    if (id === undefined) throw errors.jobNotFound();
    const bound = `results ${id}`;
    const after = cursor === undefined ? 0 : numberOf(unseal(cursor, bound));
    const read = await sessions.listBulkResults(contextOf(request), { id, limit, after });
    if (read === undefined) throw errors.jobNotFound();
    const results = read.slice(0, limit);
    const last = results.at(-1);
    if (read.length > limit && last !== undefined) {
      reply.header("link", linkTo(`/jobs/${id}/results`, limit, seal([last.number], bound)));
    }
    return sendText(reply, resultsText(results));
  });

  app.post(
    "/jobs/:id/cancel",
    { schema: cancelSchema },
    repeatable(deps, cancelSchema, async (request, commands) => {
      const { id } = request.params;
      const job = found(id && (await commands.cancelBulkJob(contextOf(request), id)));
      return { status: 200, headers: {}, body: jobText(job), changed: false };
    }),
  );
}

/** @throws job_not_found */
function found(job: BulkJob | "" | undefined): BulkJob {
  if (job === undefined || job === "") throw errors.jobNotFound();
  return job;
}

/** @throws invalid_cursor: who made it need not have been us */
function numberOf([number = "", ...rest]: readonly string[]): number {
  if (rest.length > 0 || !/^\d{1,9}$/.test(number)) throw errors.invalidCursor();
  return Number(number);
}

function linkTo(path: string, limit: number, cursor: string): string {
  return `<${path}?${new URLSearchParams({ limit: String(limit), cursor })}>; rel="next"`;
}
