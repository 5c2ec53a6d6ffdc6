/** The verbs: /sessions/{id}/start, pause, resume, stop, complete, fail, crash, recover, restart, request-exit. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { z } from "zod";
import { actions, type Target } from "../../sessions/actions.ts";
import type { SessionChange } from "../../sessions/change-input.ts";
import { expectedVersions } from "../etag.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import { leaseTokenOf } from "../lease-token.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { bodyProblems, problems } from "../schemas/problem.ts";
import {
  actionSchema,
  endSchema,
  pauseSchema,
  recoverSchema,
  sessionIdSchema,
  startSchema,
} from "../schemas/session.ts";
import { vocabularyQuerySchema } from "../schemas/state-words.ts";
import { aSession, changeMade, sessionAnswer } from "../session-answer.ts";
import { clearableText, outcomeOf, type UpdateBody } from "../session-body.ts";

/** What all verbs may be told, whichever schema let it through. */
type ActionBody = Pick<UpdateBody, "reason" | "lease_token" | "auto_resume" | "error" | "result" | "stats">;

interface Verb<Body extends z.ZodType> {
  readonly operationId: string;
  readonly summary: string;
  readonly description: string;
  readonly body: Body;
  readonly target: (body: z.output<Body>) => Target;
  /** What the verb changes of itself. */
  readonly change?: (body: z.output<Body>) => Partial<SessionChange>;
}

/** Gives a verb its type. */
function verb<Body extends z.ZodType>(told: Verb<Body>): Verb<Body> {
  return told;
}

const verbs = {
  start: verb({
    operationId: "startSession",
    summary: "Start a session",
    description: "It is `running`, or `starting` where the body says so. A crashed session begins another attempt.",
    body: startSchema,
    target: ({ phase }) => (phase === "starting" ? actions.starting : actions.start),
  }),
  pause: verb({
    operationId: "pauseSession",
    summary: "Pause a session",
    description: "It is `paused`, and its lease is free.",
    body: pauseSchema,
    target: () => actions.pause,
  }),
  resume: verb({
    operationId: "resumeSession",
    summary: "Resume a session",
    description: "It is `running` again.",
    body: actionSchema,
    target: () => actions.resume,
  }),
  stop: verb({
    operationId: "stopSession",
    summary: "Stop a session",
    description:
      "It is `stopping` while a worker holds its lease, until the worker itself stops it with its `Lease-Token`; else it " +
      "is `stopped`. A stopped session can be started again.",
    body: endSchema,
    target: () => actions.stop,
  }),
  complete: verb({
    operationId: "completeSession",
    summary: "Complete a session",
    description: "Its work is done.",
    body: endSchema,
    target: () => actions.complete,
  }),
  fail: verb({
    operationId: "failSession",
    summary: "Report that a session has failed",
    description: "It ended in an error, which the body may tell.",
    body: endSchema,
    target: () => actions.fail,
  }),
  crash: verb({
    operationId: "crashSession",
    summary: "Report that a session has crashed",
    description:
      "It died without a word. With `auto_recover` it may be claimed again after a pause (5 s after the first crash, twice " +
      "as long after each other one), until its attempts are exhausted.",
    body: endSchema,
    target: () => actions.crash,
  }),
  recover: verb({
    operationId: "recoverSession",
    summary: "Recover a session",
    description:
      "A failed or crashed session waits to be claimed, as another attempt; with `force` also one that has expired or " +
      "timed out.",
    body: recoverSchema,
    target: ({ force }) => (force === true ? actions.recoverByForce : actions.recover),
    change: ({ from_checkpoint: fromCheckpoint, reset }) => ({
      ...(fromCheckpoint === false || reset === true ? { checkpoint: null } : {}),
      ...(reset === true ? { clearStats: true } : {}),
    }),
  }),
  restart: verb({
    operationId: "restartSession",
    summary: "Restart a session",
    description: "A session that is over, or set aside, waits to be claimed, as another attempt.",
    body: actionSchema,
    target: () => actions.restart,
  }),
  "request-exit": verb({
    operationId: "requestSessionExit",
    summary: "Ask a session to come to an end",
    description:
      "Sets `exit_requested`, which its worker sees in the answer to each heartbeat; what the worker makes of it is its " +
      "own affair. The phase stays.",
    body: actionSchema,
    target: () => actions.requestExit,
    change: () => ({ settings: { exit_requested: true } }),
  }),
};

function routeSchema<Body extends z.ZodType>({ operationId, summary, description, body }: Verb<Body>) {
  return {
    operationId,
    summary,
    description: `${description} In that phase already, it stays as it is.`,
    tags: ["sessions"],
    params: sessionIdSchema,
    querystring: vocabularyQuerySchema,
    body,
    requestHeaders: ["Idempotency-Key", "If-Match", "Lease-Token"],
    response: {
      200: aSession("The session after the change.", "ETag", "Idempotent-Replayed"),
      ...problems(
        "session_not_found",
        "uri_too_long",
        "invalid_transition",
        "lease_lost",
        "idempotency_key_in_use",
        "precondition_failed",
        "idempotency_key_reused",
        ...bodyProblems,
      ),
    },
  } satisfies OperationSchema;
}

/** Adds the routes. A body may say why, and how the work went; none needs to be sent. */
export async function actionRoutes(plainApp: FastifyInstance, deps: RepeatableDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();
  const add = <Body extends z.ZodType>(name: string, told: Verb<Body>) => {
    const schema = routeSchema(told);
    app.post(
      `/sessions/:id/${name}`,
      { schema, config: { bodyIsOptional: true } },
      repeatable(deps, schema, async (request, commands) => {
        const body = request.body as z.output<Body>;
        const said: ActionBody = request.body as ActionBody;
        const { bodyTexts, headers, params } = request;
        const texts = new Map([...bodyTexts].filter(([key]) => Object.hasOwn(said, key)));
        const target = told.target(body);
        const result = await commands.update(contextOf(request), {
          id: params.id,
          expectedVersions: expectedVersions(headers["if-match"]),
          leaseToken: leaseTokenOf(request, said.lease_token),
          state: target,
          reason: said.reason ?? undefined,
          autoResume: said.auto_resume ?? undefined,
          checkpoint: clearableText(texts, "checkpoint"),
          ...outcomeOf(said, texts),
          ...told.change?.(body),
        });
        return sessionAnswer(changeMade(result, target), request.query.vocabulary);
      }),
    );
  };
  for (const [name, told] of Object.entries(verbs)) add(name, told as Verb<z.ZodType>);
}
