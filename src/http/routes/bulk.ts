/** POST /sessions/bulk-delete, /bulk-update and /bulk-transition: first a dry run, then a job with its token. */

import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { z } from "zod";
import { errors } from "../../errors.ts";
import { textsWithin } from "../../json.ts";
import type { BulkChange } from "../../sessions/bulk-jobs.ts";
import type { Sessions } from "../../sessions/sessions.ts";
import { readToken, sealToken } from "../bulk-token.ts";
import { type Answer, type RepeatableDeps, repeatable } from "../idempotency.ts";
import { jobText } from "../job-text.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { bulkDeleteSchema, bulkTransitionSchema, bulkUpdateSchema, dryRunSchema } from "../schemas/bulk.ts";
import { jobSchema } from "../schemas/job.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import { filterOf } from "../schemas/session-filter.ts";
import { detailsOf, settingsOf, type Texts } from "../session-body.ts";
import { refuseUnbounded } from "../session-pages.ts";

export interface BulkRoutesDeps extends RepeatableDeps {
  /** Called after a job was committed: it waits to be begun. */
  readonly bulkRequested: () => void;
}

const manners =
  "Takes two calls: with `dry_run: true` it tells how many sessions are meant, which are the newest ten, and a `token`; " +
  "with the token, and else the same body, it begins a job, which `GET /jobs/{id}` follows. Sessions that are created " +
  "after the dry run are left alone. A token begins one job: sent again, it is answered with that.";

const operation = {
  tags: ["jobs"],
  requestHeaders: ["Idempotency-Key"],
  response: {
    200: {
      description: "What a job would do.",
      headers: ["Idempotent-Replayed"],
      content: { "application/json": { schema: dryRunSchema } },
    },
    202: {
      description: "The job, as it was begun.",
      headers: ["Location", "Idempotent-Replayed"],
      content: { "application/json": { schema: jobSchema } },
    },
    ...problems(
      "bulk_token_required",
      "bulk_token_invalid",
      "idempotency_key_in_use",
      "idempotency_key_reused",
      ...bodyProblems,
    ),
  },
} satisfies Partial<OperationSchema>;

const deleteSchema = {
  ...operation,
  operationId: "bulkDeleteSessions",
  summary: "Delete many sessions",
  description: `${manners} What is under a legal hold is refused, and stays.`,
  body: bulkDeleteSchema,
} satisfies OperationSchema;

const updateSchema = {
  ...operation,
  operationId: "bulkUpdateSessions",
  summary: "Change many sessions",
  description: `${manners} Each session is changed as by PATCH.`,
  body: bulkUpdateSchema,
} satisfies OperationSchema;

const transitionSchema = {
  ...operation,
  operationId: "bulkTransitionSessions",
  summary: "Take many sessions to another phase",
  description: `${manners} A session whose phase does not lead there is refused, and stays.`,
  body: bulkTransitionSchema,
} satisfies OperationSchema;

/** Adds the routes. */
export async function bulkRoutes(plainApp: FastifyInstance, deps: BulkRoutesDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();
  // By then it is committed, whatever it was a part of.
  const onResponse = async (_request: FastifyRequest, reply: { readonly statusCode: number }) => {
    if (reply.statusCode === 202) deps.bulkRequested();
  };

  app.post(
    "/sessions/bulk-delete",
    { schema: deleteSchema, onResponse },
    repeatable(deps, deleteSchema, async (request, commands) =>
      answer(request, commands, { action: "delete", hard: request.body.hard ?? false }),
    ),
  );

  app.post(
    "/sessions/bulk-update",
    { schema: updateSchema, onResponse },
    repeatable(deps, updateSchema, async (request, commands) =>
      answer(request, commands, changeOf(request.body.update, textsOf(request, "update"))),
    ),
  );

  app.post(
    "/sessions/bulk-transition",
    { schema: transitionSchema, onResponse },
    repeatable(deps, transitionSchema, async (request, commands) => {
      const { to: state, reason } = request.body;
      return answer(request, commands, { action: "transition", state, reason: reason ?? undefined });
    }),
  );
}

type BulkBody = Pick<z.output<typeof bulkDeleteSchema>, "filter" | "dry_run" | "token">;

async function answer(
  request: FastifyRequest & { readonly body: BulkBody },
  commands: Sessions,
  change: BulkChange,
): Promise<Answer> {
  const { filter: asked, dry_run: isDry = false, token } = request.body;
  const { context_contains: _, all: __, ...filters } = asked;
  const filter = filterOf(filters, textsOf(request, "filter").get("context_contains"));
  refuseUnbounded({ filter, in: "pointer", within: "/filter" });
  const context = contextOf(request);
  if (isDry) {
    const dry = await commands.dryRunBulk(context, filter);
    const { count, sample, expiresAt } = dry;
    const body = { count, sample, token: sealToken(dry, { filter, change }), expires_at: expiresAt };
    return { status: 200, headers: {}, body: JSON.stringify(body), changed: false };
  }
  if (token === undefined) throw errors.bulkTokenRequired();
  const job = await commands.startBulk(context, { ...readToken(token, { filter, change }), filter, change });
  if (job === undefined) throw errors.bulkTokenInvalid("It is older than 15 minutes.");
  return { status: 202, headers: { location: `/jobs/${job.id}` }, body: jobText(job), changed: false };
}

/** The JSON texts of what is within a member of the body. */
function textsOf({ bodyTexts }: FastifyRequest, member: string): Texts {
  return textsWithin(bodyTexts.get(member) ?? "{}");
}

/** @throws validation_failed when it changes nothing */
function changeOf(update: z.output<typeof bulkUpdateSchema>["update"], texts: Texts): BulkChange {
  const settings = settingsOf(update);
  const details = detailsOf(update, texts);
  if (settings === undefined && details === undefined) {
    throw errors.validationFailed([{ pointer: "/update", detail: "must have at least one field to change" }]);
  }
  return { action: "update", settings, details: details && [...details] };
}
