/** GET /metrics: the figures of this process and of what it sees, for Prometheus. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import type { Metrics, Readings } from "../../metrics.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { healthProblems } from "../schemas/problem.ts";

export interface MetricsRoutesDeps {
  readonly metrics: Metrics;
  /** Reads what is not counted as it happens; in little time, whatever is away. */
  readonly readMetrics: () => Promise<Readings>;
}

const figures = [
  "# HELP session_service_database_up 1 while the database answers, else 0.",
  "# TYPE session_service_database_up gauge",
  "session_service_database_up 1",
  "",
  "# HELP session_service_sessions Sessions by phase, all replicas together.",
  "# TYPE session_service_sessions gauge",
  'session_service_sessions{phase="running"} 12',
  'session_service_sessions{phase="paused"} 3',
  "",
];

const metricsTextSchema = z.string().meta({
  id: "MetricsText",
  description: "Prometheus' text format, version 0.0.4.",
  namedExamples: { figures: { summary: "Some of the figures", value: figures.join("\n") } },
});

const metricsSchema = {
  operationId: "getMetrics",
  summary: "Figures for Prometheus",
  description:
    "Requests, connections, the relay, sessions by phase, transitions, sweeps, streams, and the process itself. With " +
    "the database gone it is 200 too, with `session_service_database_up 0` and what the process knows by itself.",
  tags: ["health"],
  response: {
    200: { description: "The figures.", content: { "text/plain": { schema: metricsTextSchema } } },
    ...healthProblems("unauthorized", "starting"),
  },
} satisfies OperationSchema;

/** Adds the route. */
export async function metricsRoutes(plainApp: FastifyInstance, deps: MetricsRoutesDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();
  const { metrics, readMetrics } = deps;
  // With its parameters too: a scraper may ask for this version of the format and nothing else.
  const config = { offers: ["text/plain", metrics.contentType] };

  app.get("/metrics", { schema: metricsSchema, config }, async (_, reply) => {
    const text = await metrics.text(await readMetrics());
    return reply.header("content-type", metrics.contentType).header("cache-control", "no-store").send(text);
  });
}
