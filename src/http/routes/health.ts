/** /health: for load balancers, orchestrators and people. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { OperationSchema } from "../openapi-document.ts";
import { type Health, healthSchema } from "../schemas/health.ts";
import { healthProblems, problemContent } from "../schemas/problem.ts";

export interface HealthRoutesDeps {
  /** Asks the database and Redis, each for at most a second or so. */
  readonly askHealth: () => Promise<Health>;
  /** What was found when they were last asked. */
  readonly lastHealth: () => Health;
  /** Whether requests can be served: the tables are there, and the service is not stopping. */
  readonly isReady: () => Promise<boolean>;
  /** True once the service stops. */
  readonly isStopping: () => boolean;
}

const tags = ["health"];

type Example = "healthy" | "without_redis" | "without_database";

const answer = (description: string, ...examples: Example[]) => ({
  description,
  content: { "application/json": { schema: healthSchema, examples } },
});

/** While the service starts the answer is a problem. */
const unavailable = (description: string) => ({
  description,
  content: { ...answer("", "without_database").content, ...problemContent("starting") },
});

const healthRouteSchema = {
  operationId: "getHealth",
  summary: "Whether everything works",
  description: "Asks the database and Redis. 503 with the database gone; without Redis it is 200, degraded.",
  tags,
  security: [],
  response: {
    200: answer("Sessions work.", "healthy", "without_redis"),
    ...healthProblems(),
    503: unavailable("The database is gone, or the service is starting."),
  },
} satisfies OperationSchema;

const livenessSchema = {
  operationId: "getLiveness",
  summary: "Whether the process lives",
  description: "Asks nothing: `database` and `redis` are as they were when last asked.",
  tags,
  security: [],
  response: { 200: answer("The process lives.", "healthy"), ...healthProblems() },
} satisfies OperationSchema;

const readinessSchema = {
  operationId: "getReadiness",
  summary: "Whether requests should be sent here",
  description:
    "503 with the database gone, its tables missing, or while the service stops. Without Redis it is 200, degraded.",
  tags,
  security: [],
  response: {
    200: answer("Requests are served.", "healthy", "without_redis"),
    ...healthProblems(),
    503: unavailable("Ask another replica."),
  },
} satisfies OperationSchema;

/** Adds the routes. No key is asked for. */
export async function healthRoutes(plainApp: FastifyInstance, deps: HealthRoutesDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get("/health", { schema: healthRouteSchema }, async (_, reply) => {
    const health = await deps.askHealth();
    return reply.code(health.status === "unavailable" ? 503 : 200).send(health);
  });

  app.get("/health/live", { schema: livenessSchema }, async (_, reply) =>
    reply.send({ ...deps.lastHealth(), status: "ok" as const }),
  );

  app.get("/health/ready", { schema: readinessSchema }, async (_, reply) => {
    // Load balancers have little time to learn of a stop: they are told at once, also while Redis hangs.
    const health = deps.isStopping() ? deps.lastHealth() : await deps.askHealth();
    const ready = health.status !== "unavailable" && (await deps.isReady());
    return ready ? reply.send(health) : reply.code(503).send({ ...health, status: "unavailable" as const });
  });
}
