/** Problems on the wire: RFC 9457, `application/problem+json`. */

import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { errors } from "../errors.ts";
import { ServiceError } from "../service-error.ts";

export const problemType = "application/problem+json";

/** The answer's body for a problem, as JSON text. */
export function problemText(problem: ServiceError, where: { path: string; requestId?: string }): string {
  return JSON.stringify({
    type: `urn:session-service:problem:${problem.code}`,
    title: problem.title,
    status: problem.status,
    detail: problem.message,
    instance: where.path,
    code: problem.code,
    ...problem.members,
    request_id: where.requestId,
  });
}

/** What a thrown error is to a client. What is not foreseen is an internal error, and tells nothing of itself. */
export function toProblem(error: unknown, bodyLimit: number): ServiceError {
  if (error instanceof ServiceError) return error;
  const { code, statusCode, message } = error as FastifyError;
  switch (code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return errors.bodyTooLarge(bodyLimit);
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return errors.unsupportedMediaType("This Content-Type", ["application/json"]);
    case "FST_ERR_MAX_PARAM_LENGTH":
      return errors.uriTooLong();
    default:
      return statusCode !== undefined && statusCode >= 400 && statusCode < 500
        ? errors.malformedRequest(`${message}.`)
        : errors.internal(error);
  }
}

/** Answers with a problem, and logs it when it is the service's own. */
export function sendProblem(request: FastifyRequest, reply: FastifyReply, problem: ServiceError): FastifyReply {
  if (problem.status >= 500) {
    request.log[problem.status === 500 ? "error" : "warn"](
      { err: problem.cause ?? problem, code: problem.code },
      problem.title,
    );
  }
  return (
    reply
      .code(problem.status)
      .headers(problem.headers)
      // Also where no hook has run: for a path that can't be read.
      .header("x-request-id", request.id)
      .header("content-type", problemType)
      .header("cache-control", "no-store")
      // As bytes: to a text Fastify would add a charset, which this type does not have.
      .send(Buffer.from(problemText(problem, { path: pathOf(request.url), requestId: request.id })))
  );
}

/** The path of a request's URL, without its query. */
export function pathOf(url: string): string {
  const end = url.indexOf("?");
  return end < 0 ? url : url.slice(0, end);
}
