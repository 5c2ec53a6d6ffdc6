/** What `GET /sessions/{id}/context/usage` answers. */

import { z } from "zod";
import { toldMembers } from "../../sessions/context-usage.ts";

export const contextUsageSchema = z
  .object({
    context_bytes: z.int().describe("The size of the context, in bytes as answers spell it."),
    limit_bytes: z.int().describe("How large a context may be (`CONTEXT_LIMIT_BYTES`)."),
    members: z.int().describe("How many top-level keys it has."),
    largest: z
      .array(z.object({ key: z.string(), bytes: z.int().describe("Of its value.") }))
      .describe(`The heaviest ${toldMembers} of them, the heaviest first.`),
  })
  .meta({
    id: "ContextUsage",
    description: "What takes up room in a session's context.",
    namedExamples: {
      usage: {
        summary: "A context of messages",
        value: {
          context_bytes: 52_341,
          limit_bytes: 8_388_608,
          members: 2,
          largest: [
            { key: "messages", bytes: 51_200 },
            { key: "goal", bytes: 1_113 },
          ],
        },
      },
    },
  });
