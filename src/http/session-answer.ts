/** Answers that are a session, and what a refused change is answered with. */

import type { FastifyReply } from "fastify";
import { errors } from "../errors.ts";
import type { ServiceError } from "../service-error.ts";
import type { Target } from "../sessions/actions.ts";
import type { Creation } from "../sessions/create.ts";
import { mostNames } from "../sessions/fields.ts";
import { type Phase, transitions } from "../sessions/lifecycle.ts";
import type { SessionRow } from "../sessions/row.ts";
import type { ChangeResult } from "../sessions/update.ts";
import type { Vocabulary } from "../sessions/vocabulary.ts";
import { etag } from "./etag.ts";
import type { Answer } from "./idempotency.ts";
import { contextProblem } from "./json-patch.ts";
import type { ResponseHeader } from "./schemas/common.ts";
import { sessionSchema } from "./schemas/session.ts";
import { sessionText } from "./session-text.ts";

/** The answer, for the OpenAPI file. */
export const aSession = (description: string, ...headers: ResponseHeader[]) => ({
  description,
  headers,
  content: { "application/json": { schema: sessionSchema } },
});

/**
 * A session that was created.
 *
 * @throws {ServiceError} external_id_taken
 */
export function creationMade(result: Creation): SessionRow {
  if (result.outcome === "ok") return result.session;
  throw errors.externalIdTaken(result.externalId, result.ownerId);
}

type Changed = Extract<ChangeResult, { outcome: "ok" }>;

/**
 * A change that was made, or was not needed.
 *
 * @param asked what the session was to be
 * @throws {ServiceError} session_not_found, precondition_failed, lease_lost, invalid_transition, external_id_taken,
 * validation_failed; where it is edited document_too_large; where its context is, json_patch_failed, json_patch_test_failed, not_a_number, number_out_of_range
 */
export function changeMade(result: ChangeResult, asked: Target | undefined): Changed {
  if (result.outcome === "ok") return result;
  throw refusal(result, asked);
}

function refusal(result: Exclude<ChangeResult, Changed>, asked: Target | undefined): ServiceError {
  switch (result.outcome) {
    case "stale":
      return errors.preconditionFailed();
    case "lease_lost":
      return errors.leaseLost();
    case "too_many_stats":
      return tooMany("/stats");
    case "too_many_gauges":
      return tooMany("/stats_max");
    case "too_many_labels":
      return tooMany("/labels");
    case "conflict":
      return errors.invalidTransition(result.from, refusedEntry(result.from, asked), transitions[result.from], {
        from: result.from,
        to: asked?.word ?? "",
      });
    case "external_id_taken":
      return errors.externalIdTaken(result.externalId, result.ownerId);
    case "not_found":
      return errors.sessionNotFound();
    default:
      return contextProblem(result);
  }
}

function tooMany(pointer: string): ServiceError {
  return errors.validationFailed([{ pointer, detail: `would make more than ${mostNames} with those that there are` }]);
}

/** Where it would have gone: without a lease, which no session has that may not be stopped, to the one for that case. */
function refusedEntry(from: Phase, asked: Target | undefined): Phase {
  return asked?.entryUnlessHeld ?? asked?.entry ?? from;
}

/** The session as the answer of a POST. */
export function sessionAnswer({ session, changed }: Changed, vocabulary: Vocabulary | undefined): Answer {
  return { status: 200, headers: { etag: etag(session.version) }, body: sessionText(session, vocabulary), changed };
}

/** Sends the session as the answer of any other method. */
export function sendSession(reply: FastifyReply, row: SessionRow, vocabulary: Vocabulary | undefined): FastifyReply {
  return sendText(reply.header("etag", etag(row.version)), sessionText(row, vocabulary));
}

/** Sends JSON text. */
export function sendText(reply: FastifyReply, text: string): FastifyReply {
  return reply.header("content-type", "application/json; charset=utf-8").header("cache-control", "no-cache").send(text);
}
