/** The API's table of contents: what every request passes, then the routes. */

import cors, { type FastifyCorsOptions } from "@fastify/cors";
import Fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyPluginAsync, LogController } from "fastify";
import { serializerCompiler } from "fastify-type-provider-zod";
import type { Config } from "./config.ts";
import { serveAsyncApi } from "./http/asyncapi.ts";
import { acceptJsonBodies } from "./http/body.ts";
import { limitDocuments } from "./http/document-limits.ts";
import { guard } from "./http/guards.ts";
import { requireRepeatablePosts } from "./http/idempotency.ts";
import { answerOtherMethods } from "./http/methods.ts";
import { countRequest, countRequests } from "./http/metrics-hooks.ts";
import { negotiate } from "./http/negotiation.ts";
import { collectOpenApi, serveOpenApi } from "./http/openapi.ts";
import { sendProblem, toProblem } from "./http/problem.ts";
import { requestId } from "./http/request-context.ts";
import { RequestLog } from "./http/request-log.ts";
import { actionRoutes } from "./http/routes/actions.ts";
import { type BatchRoutesDeps, batchRoutes } from "./http/routes/batch.ts";
import { type BulkRoutesDeps, bulkRoutes } from "./http/routes/bulk.ts";
import { checkpointRoutes } from "./http/routes/checkpoints.ts";
import { type ClaimRoutesDeps, claimRoutes } from "./http/routes/claim.ts";
import { contextRoutes } from "./http/routes/context.ts";
import { contextUsageRoutes } from "./http/routes/context-usage.ts";
import { deleteCheckpointRoutes } from "./http/routes/delete-checkpoint.ts";
import { type DeleteRoutesDeps, deleteRoutes } from "./http/routes/delete-session.ts";
import { diagnosisRoutes } from "./http/routes/diagnosis.ts";
import { type EventRoutesDeps, eventRoutes } from "./http/routes/events.ts";
import { externalIdRoutes } from "./http/routes/external-id.ts";
import { type HealthRoutesDeps, healthRoutes } from "./http/routes/health.ts";
import { heartbeatRoutes } from "./http/routes/heartbeat.ts";
import { jobRoutes } from "./http/routes/jobs.ts";
import { leaseRoutes } from "./http/routes/lease.ts";
import { listRoutes } from "./http/routes/list-sessions.ts";
import { type LiveRoutesDeps, liveRoutes } from "./http/routes/live.ts";
import { type MetricsRoutesDeps, metricsRoutes } from "./http/routes/metrics.ts";
import { type PruneRoutesDeps, pruneRoutes } from "./http/routes/prune.ts";
import { reportEventRoutes } from "./http/routes/report-events.ts";
import { sessionMetricsRoutes } from "./http/routes/session-metrics.ts";
import { type SessionRoutesDeps, sessionRoutes } from "./http/routes/sessions.ts";
import { undeleteRoutes } from "./http/routes/undelete-session.ts";
import { workerRoutes } from "./http/routes/workers.ts";
import { validateRequests } from "./http/validation.ts";

export interface AppDeps
  extends SessionRoutesDeps,
    BatchRoutesDeps,
    BulkRoutesDeps,
    DeleteRoutesDeps,
    ClaimRoutesDeps,
    PruneRoutesDeps,
    EventRoutesDeps,
    LiveRoutesDeps,
    MetricsRoutesDeps,
    HealthRoutesDeps {
  readonly config: Config;
  readonly log: FastifyBaseLogger;
  /** True once the service stops: connections are not kept any more. */
  readonly isStopping: () => boolean;
}

/** Builds the app, ready to route requests; it listens nowhere (see http/server.ts). */
export async function buildApp(deps: AppDeps): Promise<FastifyInstance> {
  const { config } = deps;
  const app = Fastify({
    loggerInstance: deps.log,
    bodyLimit: config.BODY_LIMIT_BYTES,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 1_024 },
    logController: new LogController({ disableRequestLogging: true }),
    requestIdHeader: false,
    genReqId: (request) => requestId(request.headers),
    childLoggerFactory: (log, bindings) => new RequestLog(log, bindings),
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) => {
      sendProblem(request, reply, toProblem(error, config.BODY_LIMIT_BYTES));
      countRequest(deps.metrics, request, reply);
    },
  });

  countRequests(app, deps.metrics);
  // Every request passes the hooks: those that wait for nothing call `done`, for a promise costs a microsecond each time.
  app.addHook("onRequest", (request, reply, done) => {
    reply.header("x-request-id", request.id);
    done();
  });
  // Asked when it answers: a request that began before the stop must not keep its connection either.
  app.addHook("onSend", (_request, reply, payload, done) => {
    if (deps.isStopping()) reply.header("connection", "close");
    done(null, payload);
  });
  if (isDebugging(config)) {
    app.addHook("onResponse", async (request, reply) => {
      request.log.debug(
        { method: request.method, url: request.url, status: reply.statusCode, ms: reply.elapsedTime },
        "request",
      );
    });
  }
  app.setErrorHandler((error, request, reply) =>
    sendProblem(request, reply, toProblem(error, config.BODY_LIMIT_BYTES)),
  );

  guard(app, config);
  if (config.CORS_ORIGINS.length > 0) await app.register(cors, corsOptions(config.CORS_ORIGINS));
  acceptJsonBodies(app);
  validateRequests(app);
  app.setSerializerCompiler(serializerCompiler);
  answerOtherMethods(app);
  requireRepeatablePosts(app);
  await collectOpenApi(app);

  const routes: FastifyPluginAsync = async (api) => {
    negotiate(api);
    limitDocuments(api, config);
    await sessionRoutes(api, deps);
    await externalIdRoutes(api, deps);
    await batchRoutes(api, deps);
    await bulkRoutes(api, deps);
    await jobRoutes(api, deps);
    await listRoutes(api, deps);
    await contextRoutes(api, deps);
    await actionRoutes(api, deps);
    await claimRoutes(api, deps);
    await leaseRoutes(api, deps);
    await heartbeatRoutes(api, deps);
    await workerRoutes(api, deps);
    await pruneRoutes(api, deps);
    await deleteRoutes(api, deps);
    await undeleteRoutes(api, deps);
    await checkpointRoutes(api, deps);
    await deleteCheckpointRoutes(api, deps);
    await diagnosisRoutes(api, deps);
    await sessionMetricsRoutes(api, deps);
    await contextUsageRoutes(api, deps);
    await reportEventRoutes(api, deps);
    await eventRoutes(api, deps);
    await liveRoutes(api, deps);
    await healthRoutes(api, deps);
    await metricsRoutes(api, deps);
  };
  await app.register(routes);
  await serveOpenApi(app);
  serveAsyncApi(app);
  await app.ready();
  return app;
}

function isDebugging({ LOG_LEVEL: level }: Config): boolean {
  return level === "debug" || level === "trace";
}

function corsOptions(origins: readonly string[]): FastifyCorsOptions {
  return {
    origin: [...origins],
    methods: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
    exposedHeaders: [
      "ETag",
      "Idempotent-Replayed",
      "Link",
      "Location",
      "Preference-Applied",
      "Retry-After",
      "Wait-Timed-Out",
      "X-Request-Id",
    ],
    strictPreflight: false,
  };
}
