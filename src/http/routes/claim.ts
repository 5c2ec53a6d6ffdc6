/** POST /sessions/claim: a worker gets a session that waits for one. */

import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { errors } from "../../errors.ts";
import type { Feed } from "../../events/feed.ts";
import { textsWithin } from "../../json.ts";
import type { Claim, ClaimedSession } from "../../sessions/claim.ts";
import { ClaimQueue } from "../../sessions/claim-queue.ts";
import { defaultLeaseSeconds } from "../../sessions/lease.ts";
import type { Vocabulary } from "../../sessions/vocabulary.ts";
import { etag } from "../etag.ts";
import { type Answer, NotYet, type RepeatableDeps, repeatable } from "../idempotency.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { endOfWait } from "../patience.ts";
import { contextOf } from "../request-context.ts";
import { claimedSchema, claimSchema } from "../schemas/claim.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import { vocabularyQuerySchema } from "../schemas/state-words.ts";
import { sessionText } from "../session-text.ts";

export interface ClaimRoutesDeps extends RepeatableDeps {
  readonly feed: Feed;
  /** Given when the service stops: those who wait are answered. */
  readonly closing: AbortSignal;
}

const schema = {
  operationId: "claimSession",
  summary: "Claim a session",
  description:
    "Gives one session that waits to one worker: `pending`, crashed with `auto_recover` once its pause is over, or set " +
    "aside by its worker's own shutdown; the one that has waited longest, and none before its `scheduled_at`. It is " +
    "`running` then, and the worker has a lease: it renews that by heartbeats, and by every write that names the " +
    "`lease_token`. Where none is there within `wait_seconds`, the answer is 204; so it is at once when the service stops.",
  tags: ["workers"],
  querystring: vocabularyQuerySchema,
  body: claimSchema,
  requestHeaders: ["Idempotency-Key"],
  response: {
    200: {
      description: "The session, with its last checkpoint, and the token of the lease.",
      headers: ["ETag", "Location", "Idempotent-Replayed"],
      content: { "application/json": { schema: claimedSchema } },
    },
    204: z.null().meta({ description: "No session waits that would do.", headers: ["Idempotent-Replayed"] }),
    ...problems("idempotency_key_in_use", "idempotency_key_reused", ...bodyProblems),
  },
} satisfies OperationSchema;

type Body = z.output<typeof claimSchema>;

/** Adds the route. */
export async function claimRoutes(plainApp: FastifyInstance, deps: ClaimRoutesDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();
  const queue = new ClaimQueue({ claims: deps.sessions, feed: deps.feed });
  const ends = new Map<FastifyRequest, AbortController>();
  deps.closing.addEventListener("abort", () => {
    for (const end of ends.values()) end.abort();
  });

  app.post(
    "/sessions/claim",
    {
      schema,
      // Before the handler, which may be run again: what is waited for once more ends when it would have ended.
      preHandler: async (request, reply) => {
        const seconds = request.body.wait_seconds ?? 0;
        if (seconds === 0) return;
        const end = endOfWait(reply, seconds * 1_000);
        ends.set(request, end);
        reply.raw.once("close", () => ends.delete(request));
        if (deps.closing.aborted) end.abort();
      },
    },
    repeatable(deps, schema, async (request, commands) => {
      const context = contextOf(request);
      const claim = claimOf(request.body, request.bodyTexts);
      const until = ends.get(request)?.signal;
      // Nobody would hear of the session.
      if (request.raw.socket.destroyed) throw errors.requestTimeout();
      if (request.headers["idempotency-key"] === undefined) {
        return answerOf(await queue.claim(context, claim, until), request.query.vocabulary);
      }
      const [claimed] = await commands.claim([{ context, input: claim }]);
      if (claimed === undefined && until?.aborted === false) {
        throw new NotYet(() => queue.chance(context.namespace, claim.filter, until));
      }
      return answerOf(claimed, request.query.vocabulary);
    }),
  );
}

function claimOf({ worker_id: workerId, lease_seconds: leaseSeconds, filter }: Body, texts: Texts): Claim {
  const labels = filter?.labels == null ? [] : Object.keys(filter.labels);
  return {
    workerId,
    leaseSeconds: leaseSeconds ?? defaultLeaseSeconds,
    filter: {
      agentId: filter?.agent_id ?? undefined,
      sessionType: filter?.session_type ?? undefined,
      runtimeBackend: filter?.runtime_backend ?? undefined,
      // As it was sent: a parsed object would lose a key like __proto__.
      labels: labels.length === 0 ? undefined : textsWithin(texts.get("filter") ?? "{}").get("labels"),
    },
  };
}

type Texts = FastifyRequest["bodyTexts"];

function answerOf(claimed: ClaimedSession | undefined, vocabulary: Vocabulary | undefined): Answer {
  if (claimed === undefined) return { status: 204, headers: {}, body: "", changed: false };
  const { session, leaseToken } = claimed;
  return {
    status: 200,
    headers: { location: `/sessions/${session.id}`, etag: etag(session.version) },
    body: `${sessionText(session, vocabulary).slice(0, -1)},"lease_token":${leaseToken}}`,
    changed: true,
  };
}
