/**
 * Requests that a client may send again: every POST. With an `Idempotency-Key` it is done once, however often it comes,
 * and its first answer is given again. An app with a POST that is not made so does not start.
 */

import { createHash } from "node:crypto";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { z } from "zod";
import type { Idempotency, RepeatableRequest, Repeated, StoredAnswer } from "../access/idempotency.ts";
import type { Config } from "../config.ts";
import { errors } from "../errors.ts";
import { openSessions, type Sessions } from "../sessions/sessions.ts";
import type { Transition } from "../sessions/transition-log.ts";
import type { OperationSchema } from "./openapi-document.ts";
import { pathOf } from "./problem.ts";
import { contextOf } from "./request-context.ts";
import type { RequestHeader } from "./schemas/common.ts";

export interface RepeatableDeps {
  readonly config: Pick<Config, "FINAL_CHECKPOINTS">;
  readonly sessions: Sessions;
  readonly idempotency: Idempotency;
  /** Called after a change was committed: its event waits to be published. */
  readonly changed: () => void;
  /** Called after a change was committed that took a session from one phase to another. */
  readonly onTransition: (transition: Transition) => void;
}

/** What a handler answers; the body is JSON text. The headers are those of this answer alone: ETag, Location. */
export interface Answer extends StoredAnswer {
  /** Whether anything was changed, so that an event waits to be published. */
  readonly changed: boolean;
}

/** A request that has passed the validation by its route's schema. */
type RequestOf<Schema extends OperationSchema> = FastifyRequest & {
  readonly params: OutputOf<Schema["params"]>;
  readonly query: OutputOf<Schema["querystring"]>;
  readonly body: OutputOf<Schema["body"]>;
};
type OutputOf<Part> = Part extends z.ZodType ? z.output<Part> : unknown;

/**
 * Thrown by a handler that has no answer yet: its transaction is undone, so that none is open while it waits, and it is run
 * again after that.
 */
export class NotYet extends Error {
  readonly untilWorthATry: () => Promise<void>;

  constructor(untilWorthATry: () => Promise<void>) {
    super("there is no answer yet");
    this.untilWorthATry = untilWorthATry;
  }
}

const handlers = new WeakSet<object>();

/**
 * A handler for a POST. It answers by what it returns, and changes nothing but by the commands that it is given: they are
 * part of the transaction that keeps the answer, when the request has an Idempotency-Key. What it throws is answered as
 * ever, and not kept. It may be run again after its transaction was rolled back.
 *
 * @param _schema the route's
 */
export function repeatable<const Schema extends OperationSchema>(
  deps: RepeatableDeps,
  _schema: Schema,
  handle: (request: RequestOf<Schema>, sessions: Sessions) => Promise<Answer>,
): (request: FastifyRequest, reply: FastifyReply) => Promise<void> {
  const handler = async (request: FastifyRequest, reply: FastifyReply) => {
    const key = keyOf(request);
    const run = (sessions: Sessions) => handle(request as RequestOf<Schema>, sessions);
    const { replayed, answer } =
      key === undefined
        ? { replayed: false as const, answer: await run(deps.sessions) }
        : await once(deps, repeatableRequest(request, key), run);
    if (replayed) reply.header("idempotent-replayed", "true");
    else if (answer.changed) deps.changed();
    // What a route may return is its own type; that it is this reply tells Fastify that the answer is on its way.
    return send(reply, answer) as never;
  };
  handlers.add(handler);
  return handler;
}

/** Runs the commands in one transaction; its transitions are told of when it is committed. */
async function once(
  { config, idempotency, onTransition }: RepeatableDeps,
  request: RepeatableRequest,
  run: (sessions: Sessions) => Promise<Answer>,
): Promise<Repeated<Answer>> {
  for (;;) {
    let transitions: Transition[] = [];
    try {
      const repeated = await idempotency.repeatably(request, (transaction) => {
        // It may be run again after a rollback.
        transitions = [];
        const sessions = openSessions(transaction, {
          coalesce: false,
          finalCheckpoints: config.FINAL_CHECKPOINTS,
          onTransition: (made) => transitions.push(made),
        });
        return run(sessions);
      });
      if (!repeated.replayed) for (const made of transitions) onTransition(made);
      return repeated;
    } catch (error) {
      if (!(error instanceof NotYet)) throw error;
      await error.untilWorthATry();
    }
  }
}

/** Refuses a POST whose handler is not `repeatable`, or that does not say so. Must be called before the routes are added. */
export function requireRepeatablePosts(app: FastifyInstance): void {
  app.addHook("onRoute", ({ method, url, handler, schema }) => {
    if (![method].flat().includes("POST")) return;
    const { requestHeaders = [] } = (schema ?? {}) as Partial<OperationSchema>;
    const named: readonly RequestHeader[] = requestHeaders;
    if (!handlers.has(handler) || !named.includes("Idempotency-Key")) {
      throw new Error(`POST ${url} must take an Idempotency-Key: see repeatable() in http/idempotency.ts`);
    }
  });
}

/** Printable ASCII, with or without the quotes of the IETF's draft: they are a part of it. */
const keyPattern = /^[\x20-\x7e]{1,255}$/;

function keyOf({ headers }: FastifyRequest): string | undefined {
  const key = headers["idempotency-key"];
  if (key === undefined) return undefined;
  if (typeof key === "string" && keyPattern.test(key)) return key;
  const detail = "must be 1 to 255 printable ASCII characters";
  throw errors.validationFailed([{ parameter: "Idempotency-Key", detail }]);
}

function repeatableRequest(request: FastifyRequest, key: string): RepeatableRequest {
  const { method, url, headers, bodyDigest } = request;
  const path = pathOf(url);
  // All that may change what the request means; not its id, nor how it says that its body is JSON.
  const meaning = [url.slice(path.length), headers["if-match"], headers["prefer"], bodyDigest];
  if (headers["lease-token"] !== undefined) meaning.push(`lease ${headers["lease-token"]}`);
  return {
    namespace: contextOf(request).namespace,
    method,
    path: path.replace(/\/+$/, ""),
    key,
    fingerprint: createHash("sha256").update(JSON.stringify(meaning)).digest("hex"),
  };
}

function send(reply: FastifyReply, { status, headers, body }: StoredAnswer): FastifyReply {
  if (status === 204) return reply.code(204).headers(headers).send();
  return reply
    .code(status)
    .headers(headers)
    .header("content-type", "application/json; charset=utf-8")
    .header("cache-control", "no-cache")
    .send(body);
}
