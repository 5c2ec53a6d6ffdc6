/** How a session is deleted. */

import { z } from "zod";

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
