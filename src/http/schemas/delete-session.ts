/** How a session is deleted, read all the same, and taken back. */

import { z } from "zod";
import { sessionEventsQuerySchema } from "./event.ts";
import { reasonShape } from "./session-fields.ts";
import { vocabularyQuerySchema } from "./state-words.ts";

export const deleteQuerySchema = z
  .object({
    hard: z
      .string({ error: "must be given once" })
      .refine((text) => /^(true|false)$/i.test(text), { error: "must be true or false" })
      .transform((text) => text.toLowerCase() === "true")
      .optional()
      .meta({
        // It comes as text; clients that are generated shall pass a boolean.
        type: "boolean",
        default: false,
        description: "Whether the session is removed for good, its events too.",
        examples: [true],
      }),
  })
  .meta({ id: "DeleteSessionQuery" });

export const readQuerySchema = z
  .object({ ...vocabularyQuerySchema.shape, include_deleted: sessionEventsQuerySchema.shape.include_deleted })
  .meta({ id: "GetSessionQuery" });

export const undeleteSchema = z
  .object({ reason: reasonShape.reason.describe("Why; the `status_reason` of a session that is stopped by this.") })
  .meta({
    id: "UndeleteSession",
    description: "All of it optional.",
    namedExamples: { reason: { summary: "With a reason", value: { reason: "deleted by mistake" } } },
  });
