/** POST /sessions/batch: many sessions in one statement. */

import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { Config } from "../../config.ts";
import type { BatchResult } from "../../sessions/create.ts";
import type { Settings } from "../../sessions/fields.ts";
import type { Vocabulary } from "../../sessions/vocabulary.ts";
import { inTurns, problemOf, type Refused, readSessions, takenAt } from "../batch-body.ts";
import { documentLimits } from "../document-limits.ts";
import { type Answer, type RepeatableDeps, repeatable } from "../idempotency.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { prefers } from "../preferences.ts";
import { pathOf, problemText } from "../problem.ts";
import { contextOf } from "../request-context.ts";
import { batchAnswerSchema, batchSchema, mostSessions } from "../schemas/batch.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import { vocabularyQuerySchema } from "../schemas/state-words.ts";
import { sessionText } from "../session-text.ts";

export interface BatchRoutesDeps extends RepeatableDeps {
  /** The timers of sessions that don't say. */
  readonly defaultTimers: Settings;
  readonly config: RepeatableDeps["config"] & Pick<Config, "CONTEXT_LIMIT_BYTES" | "CHECKPOINT_LIMIT_BYTES">;
}

const anAnswer = (description: string) => ({
  description,
  headers: ["Idempotent-Replayed" as const],
  content: { "application/json": { schema: batchAnswerSchema } },
});

const schema = {
  operationId: "createSessions",
  summary: "Create several sessions at once",
  description:
    `Creates 1 to ${mostSessions} sessions in one statement, each with its \`session.created\`. Unless \`atomic\` is ` +
    "false, all are created or none; else those that can be. With `Prefer: return=minimal` the results have ids only.",
  tags: ["sessions"],
  querystring: vocabularyQuerySchema,
  body: batchSchema,
  requestHeaders: ["Idempotency-Key"],
  response: {
    201: anAnswer("All of the sessions, as they were created."),
    207: anAnswer("With `atomic: false`: what came of each session, even if none was created."),
    ...problems("external_id_taken", "idempotency_key_in_use", "idempotency_key_reused", ...bodyProblems),
  },
} satisfies OperationSchema;

/** Adds the route. */
export async function batchRoutes(plainApp: FastifyInstance, deps: BatchRoutesDeps): Promise<void> {
  const limits = documentLimits(deps.config);
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.post(
    "/sessions/batch",
    { schema },
    repeatable(deps, schema, async (request, commands) => {
      const read = await readSessions(request.bodyTexts, limits, deps.defaultTimers);
      const isAtomic = request.body.atomic ?? true;
      const refused = read.flatMap((one) => one.refused ?? []);
      if (isAtomic && refused.length > 0) throw problemOf(refused);
      const sessions = read.flatMap((one) => (one.refused === undefined ? one.input : []));
      const idsOnly = prefers(request, "return", "minimal");
      const batch = { sessions, isAtomic, idsOnly };
      const made = sessions.length === 0 ? [] : await commands.createBatch(contextOf(request), batch);
      const taken = made.filter((one) => one.outcome !== "ok");
      if (isAtomic && taken.length > 0) {
        const named = sessions.map(({ settings }) => settings?.external_id);
        throw problemOf(taken.map((one) => takenAt(one, named.lastIndexOf(one.externalId))));
      }
      const results = made.values();
      const outcomes = read.map((one, at) => one.refused ?? outcomeOf(next(results), at));
      return answerOf(request, outcomes, { isAtomic, idsOnly, vocabulary: request.query.vocabulary });
    }),
  );
}

function next(results: Iterator<BatchResult>): BatchResult {
  const { value, done } = results.next();
  if (done === true) throw new Error("a batch gave fewer results than it has sessions");
  return value;
}

type Created = Extract<BatchResult, { outcome: "ok" }>;

function outcomeOf(result: BatchResult, at: number): Created | Refused {
  return result.outcome === "ok" ? result : takenAt(result, at);
}

interface AnswerOptions {
  readonly isAtomic: boolean;
  readonly idsOnly: boolean;
  readonly vocabulary: Vocabulary | undefined;
}

async function answerOf(
  request: FastifyRequest,
  outcomes: readonly (Created | Refused)[],
  { isAtomic, idsOnly, vocabulary }: AnswerOptions,
): Promise<Answer> {
  const where = { path: pathOf(request.url), requestId: request.id };
  const weight = (one: Created | Refused) => ("outcome" in one ? (one.session?.context_bytes ?? 0) : 0);
  const texts = await inTurns(outcomes, weight, (one, index) => {
    if ("outcome" in one) {
      const shown = one.session ? `"session":${sessionText(one.session, vocabulary)}` : `"id":"${one.id}"`;
      return `{"index":${index},"status":201,${shown}}`;
    }
    const problem = problemOf([one]);
    return `{"index":${index},"status":${problem.status},"error":${problemText(problem, where)}}`;
  });
  const created = outcomes.filter((one) => "outcome" in one).length;
  const applied = prefers(request, "handling", "strict") ? "handling=strict, return=minimal" : "return=minimal";
  return {
    status: isAtomic ? 201 : 207,
    headers: idsOnly ? { "preference-applied": applied } : {},
    body: `{"created":${created},"results":[${texts.join(",")}]}`,
    changed: created > 0,
  };
}
