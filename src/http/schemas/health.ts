/** Health on the wire. */

import { z } from "zod";
import { enumMeta } from "./common.ts";

const part = z.enum(["up", "down"]).meta({
  id: "PartHealth",
  ...enumMeta("Whether a part of the service answers.", { up: "it answers", down: "it does not answer" }),
});

const status = z.enum(["ok", "degraded", "unavailable"]).meta({
  id: "HealthStatus",
  ...enumMeta("Whether the service can do its work.", {
    ok: "everything works",
    degraded: "sessions work; events wait for Redis to return",
    unavailable: "sessions do not work",
  }),
});

export const healthSchema = z.object({ status, database: part, redis: part }).meta({
  id: "Health",
  description: "Whether the service, its database (PostgreSQL) and its broker (Redis) work.",
  namedExamples: {
    healthy: { summary: "Everything works", value: { status: "ok", database: "up", redis: "up" } },
    without_redis: {
      summary: "Sessions work, events wait",
      value: { status: "degraded", database: "up", redis: "down" },
    },
    without_database: {
      summary: "Sessions do not work",
      value: { status: "unavailable", database: "down", redis: "up" },
    },
  },
});

export type Health = z.infer<typeof healthSchema>;
