/** /health: for load balancers, orchestrators and people. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { type Health, healthSchema } from "../schemas/health.ts";

export interface HealthRoutesDeps {
  /** Asks the database and Redis, each for at most a second or so. */
  readonly askHealth: () => Promise<Health>;
  /** What was found when they were last asked. */
  readonly lastHealth: () => Health;
  /** Whether requests can be served: the tables are there, and the service is not stopping. */
  readonly isReady: (health: Health) => Promise<boolean>;
}

const tags = ["health"];

const answer = (description: string) => ({ description, content: { "application/json": { schema: healthSchema } } });

/** Adds the routes. No key is asked for. */
export async function healthRoutes(plainApp: FastifyInstance, deps: HealthRoutesDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.get(
    "/health",
    {
      schema: {
        operationId: "getHealth",
        summary: "Whether everything works",
        tags,
        security: [],
        response: { 200: answer("Sessions work."), 503: answer("The database is gone.") },
      },
    },
    async (_, reply) => {
      const health = await deps.askHealth();
      return reply.code(health.status === "unavailable" ? 503 : 200).send(health);
    },
  );

  app.get(
    "/health/live",
    {
      schema: {
        operationId: "getLiveness",
        summary: "Whether the process lives",
        description: "Asks nothing: `database` and `redis` are as they were when last asked.",
        tags,
        security: [],
        response: { 200: answer("The process lives.") },
      },
    },
    async (_, reply) => reply.send({ ...deps.lastHealth(), status: "ok" as const }),
  );

  app.get(
    "/health/ready",
    {
      schema: {
        operationId: "getReadiness",
        summary: "Whether requests should be sent here",
        description:
          "503 with the database gone, its tables missing, or while the service stops. Without Redis it is 200, degraded.",
        tags,
        security: [],
        response: { 200: answer("Requests are served."), 503: answer("Ask another replica.") },
      },
    },
    async (_, reply) => {
      const health = await deps.askHealth();
      const ready = health.status !== "unavailable" && (await deps.isReady(health));
      return ready ? reply.send(health) : reply.code(503).send({ ...health, status: "unavailable" as const });
    },
  );
}
