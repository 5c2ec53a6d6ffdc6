/** A merge patch of a session on the wire, for the OpenAPI file: a body is checked as any change is (see ../session-merge.ts). */

import { z } from "zod";
import { updateSessionSchema } from "./session.ts";
import { longestLabel } from "./session-fields.ts";

const labels = z.unknown().meta({
  description: "Labels to set, by name, and null for those to remove; the others stay.",
  type: "object",
  additionalProperties: { type: ["string", "null"], maxLength: longestLabel },
  examples: [{ env: "test", team: null }],
});

export const mergeSessionSchema = z
  .object({
    ...updateSessionSchema.shape,
    context: updateSessionSchema.shape.context.describe("Merged into the context; null leaves it."),
    checkpoint: updateSessionSchema.shape.checkpoint.describe("Merged into the checkpoint; null clears it."),
    runtime_metadata: updateSessionSchema.shape.runtime_metadata.describe("Merged into the metadata; null leaves it."),
    labels: labels.nullish(),
  })
  .meta({
    id: "MergeSession",
    description:
      "RFC 7396: what is named is set, null removes, objects are merged alike, and what is not named stays. Lists are " +
      "replaced, and `stats` are added. Unknown keys are ignored, unless the request asks for strictness.",
    namedExamples: {
      labels: {
        summary: "One label set, one removed; a key of the metadata set",
        value: { labels: { env: "test", team: null }, metadata: { ticket: "PROJ-43" } },
      },
    },
  });
