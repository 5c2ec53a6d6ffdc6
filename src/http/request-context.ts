/** What a request says of itself: its id, whom it belongs to, and what it is part of. */

import { randomUUID } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { FastifyRequest } from "fastify";
import type { RequestContext } from "../sessions/context.ts";

/** Fit for a log line and a header: what a client sends is echoed in both. */
const sane = /^[\w.:/+=@-]{1,128}$/;

/** RFC-less but universal: the client's X-Request-Id if it is sane, else a new one. */
export function requestId(headers: IncomingHttpHeaders): string {
  const given = headers["x-request-id"];
  return typeof given === "string" && sane.test(given) ? given : randomUUID();
}

/** https://www.w3.org/TR/trace-context/#traceparent-header */
const traceparent = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** What the commands are told of a request. */
export function contextOf(request: FastifyRequest): RequestContext {
  const { headers } = request;
  const correlation = headers["x-correlation-id"];
  const trace = headers["traceparent"];
  return {
    namespace: "default",
    requestId: request.id,
    connection: request.raw.socket,
    ...(typeof correlation === "string" && sane.test(correlation) ? { correlationId: correlation } : {}),
    ...(typeof trace === "string" && traceparent.test(trace) ? { traceparent: trace } : {}),
  };
}
