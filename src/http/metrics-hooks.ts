/** Counts every request that reaches the app, by the template of its path. */

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Metrics } from "../metrics.ts";

/** Must be called before any other hook is added: also what the guards refuse is counted. */
export function countRequests(app: FastifyInstance, metrics: Metrics): void {
  app.addHook("onRequest", (request, reply, done) => {
    // Not onResponse: that is left out when the client leaves before the end, as it does with every stream.
    reply.raw.on("close", () => countRequest(metrics, request, reply));
    done();
  });
}

/** Counts a request that is over; for those that no hook is called for, because their path can't be read. */
export function countRequest(metrics: Metrics, request: FastifyRequest, reply: FastifyReply): void {
  metrics.answered({
    method: request.method,
    route: request.routeOptions.url,
    status: reply.raw.headersSent ? reply.raw.statusCode : undefined,
    seconds: reply.elapsedTime / 1_000,
  });
}
