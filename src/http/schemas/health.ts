/** Health on the wire. */

import { z } from "zod";

const part = z.enum(["up", "down"]);
const partMeaning = { up: "it answers", down: "it does not answer" };
const statusMeaning = {
  ok: "everything works",
  degraded: "sessions work; events wait for Redis to return",
  unavailable: "sessions do not work",
};

export const healthSchema = z
  .object({
    status: z.enum(["ok", "degraded", "unavailable"]).meta({
      description: Object.entries(statusMeaning)
        .map(([value, meaning]) => `\`${value}\`: ${meaning}`)
        .join("; "),
      "x-enumDescriptions": statusMeaning,
    }),
    database: part.meta({
      description: "`up`: PostgreSQL answers; `down`: it does not",
      "x-enumDescriptions": partMeaning,
    }),
    redis: part.meta({ description: "`up`: Redis answers; `down`: it does not", "x-enumDescriptions": partMeaning }),
  })
  .meta({
    id: "Health",
    description: "Whether the service can do its work.",
    examples: [{ status: "ok", database: "up", redis: "up" }],
  });

export type Health = z.infer<typeof healthSchema>;
