/** Checkpoints on the wire: what is saved, which are asked for, what comes. */

import { z } from "zod";
import { checkpointTypes } from "../../sessions/checkpoint-types.ts";
import { enumMeta, oneOf } from "./common.ts";
import { sessionEventsQuerySchema } from "./event.ts";
import { document } from "./free-form.ts";
import { listQuerySchema } from "./list-sessions.ts";
import { exampleCheckpoint, exampleContext, exampleId } from "./session-examples.ts";
import { leaseTokenShape, time, uuid } from "./session-fields.ts";
import { several } from "./several.ts";
import { vocabularyParameter } from "./state-words.ts";

const exampleCheckpointId = "0198c0e4-11aa-7c02-8f4e-5a0b6c7d8e9f";

/** PostgreSQL's largest: a session has no more checkpoints. */
const largestNumber = 2_147_483_647;

const once = { error: "must be given once" };

const longestDescription = 2_000;

const printable = /^[^\p{C}]*$/u;

/** A short text on one line. */
const line = (description: string, example: string, shortest = 1) => {
  const error = `must be ${shortest} to 255 printable characters`;
  return z
    .string({ error })
    .refine((text) => text.length >= shortest && text.length <= 255 && printable.test(text), { error })
    .meta({ description, minLength: shortest, maxLength: 255, examples: [example] });
};

const typeMeanings = {
  manual: "saved by a client, as by `PATCH /sessions/{id}`",
  milestone: "saved by a client that means to come back to it",
  auto: "saved when the session ended",
  recovery_point: "saved when the session crashed",
};

const typeSchema = z.enum(checkpointTypes, { error: oneOf(checkpointTypes) }).meta({
  id: "CheckpointType",
  ...enumMeta("What a checkpoint was saved for.", typeMeanings),
});

const checkpointNs = line(
  "The line that it belongs to: one for each agent of a session, say. The session shows the last one of the line " +
    "without a name.",
  "reviewer",
  0,
);
const label = line("A name for it.", "tests pass");
const createdBy = line("Who saved it.", "worker-7");
const description = z
  .string()
  .max(longestDescription)
  .meta({ description: "What is worth knowing of it.", examples: ["Before the migration"] });

const saidShape = {
  label: label.nullish(),
  description: description.nullish(),
  created_by: createdBy.nullish(),
  ...leaseTokenShape,
};

const dataSchema = document("Where to carry on from: any JSON object.", exampleCheckpoint);
const contextSchema = document("The session's context of that moment.", exampleContext);

export const saveCheckpointSchema = z
  .object({
    data: dataSchema,
    type: typeSchema.nullish().meta({ description: "`manual`, unless said otherwise.", examples: ["milestone"] }),
    checkpoint_ns: checkpointNs.nullish(),
    include_context: z
      .boolean()
      .nullish()
      .meta({ description: "Whether the session's context of that moment is kept with it.", examples: [true] }),
    ...saidShape,
  })
  .meta({
    id: "SaveCheckpoint",
    description: "A new checkpoint. Unknown keys are ignored, unless the request says Prefer: handling=strict.",
    namedExamples: {
      manual: { summary: "Where to carry on from", value: { data: exampleCheckpoint } },
      milestone: {
        summary: "With a name, and with the context",
        value: { data: exampleCheckpoint, type: "milestone", label: "tests pass", include_context: true },
      },
    },
  });

export const restoreCheckpointSchema = z
  .object({
    restore_context: z
      .boolean()
      .nullish()
      .meta({
        description: "Whether the session also gets the context that the checkpoint keeps, in place of its own.",
        examples: [true],
      }),
    ...saidShape,
  })
  .meta({
    id: "RestoreCheckpoint",
    description:
      "All of it optional. The new checkpoint is described as `restored from <number>` unless said otherwise.",
    namedExamples: { context: { summary: "The context too", value: { restore_context: true } } },
  });

const shape = {
  id: uuid("Made by the service: also the id of the event that tells of it.", exampleCheckpointId),
  checkpoint_id: uuid("The same as `id`.", exampleCheckpointId),
  session_id: uuid("The session whose checkpoint it is.", exampleId),
  number: z.int().meta({ description: "1, 2, 3, … over all checkpoints of the session.", examples: [7] }),
  checkpoint_ns: checkpointNs,
  type: typeSchema,
  label: label.nullable(),
  description: description.nullable(),
  created_by: createdBy.nullable(),
  created_at: time("When it was saved."),
  session_version: z.int().meta({ description: "The version that the session got by it.", examples: [12] }),
  bytes: z.int().meta({ description: "Of the data, as answers spell it.", examples: [51] }),
  context_bytes: z.int().meta({ description: "Of the context that it keeps; 0 when it keeps none.", examples: [0] }),
};

const example = {
  id: exampleCheckpointId,
  checkpoint_id: exampleCheckpointId,
  session_id: exampleId,
  number: 7,
  checkpoint_ns: "",
  type: "milestone",
  label: "tests pass",
  description: null,
  created_by: "worker-7",
  created_at: "2026-01-31T09:41:12.654321Z",
  session_version: 12,
  bytes: 51,
  context_bytes: 0,
};

export const checkpointSchema = z.object({ ...shape, data: dataSchema, context: contextSchema.nullable() }).meta({
  id: "Checkpoint",
  description: "Where a session can be carried on from, as it was saved. It never changes.",
  namedExamples: {
    checkpoint: { summary: "A checkpoint", value: { ...example, data: exampleCheckpoint, context: null } },
  },
});

const listedCheckpoint = z
  .object({ ...shape, data: dataSchema.optional(), context: contextSchema.nullish() })
  .meta({ id: "ListedCheckpoint", description: "A checkpoint; its documents only where they were asked for." });

export const checkpointListSchema = z.array(listedCheckpoint).meta({
  id: "CheckpointList",
  description: "A page of checkpoints, newest first.",
  namedExamples: { page: { summary: "One checkpoint, without its documents", value: [example] } },
});

const includeDeleted = sessionEventsQuerySchema.shape.include_deleted;

export const checkpointQuerySchema = z.object({ include_deleted: includeDeleted }).meta({ id: "CheckpointQuery" });

const nsParameter = (what: string) =>
  line(what, "reviewer", 0)
    .optional()
    .meta({ description: what, examples: ["reviewer"] });

export const latestQuerySchema = z
  .object({
    checkpoint_ns: nsParameter("The last one of this line; unless said, of the line without a name."),
    include_deleted: includeDeleted,
  })
  .meta({ id: "LatestCheckpointQuery" });

const documentNames = ["data", "context"] as const;
const included = several((text) => documentNames.find((name) => name === text), oneOf(documentNames)).meta({
  description:
    "Which documents come with each: `data`, `context`, or both, separated by commas. Else they come without.",
  type: "array",
  items: { type: "string" },
  examples: [["data"]],
});

export const listCheckpointsQuerySchema = z
  .object({
    checkpoint_ns: nsParameter("Only those of this line; empty for the one without a name."),
    type: several((text) => checkpointTypes.find((type) => type === text), oneOf(checkpointTypes)).meta({
      description: "Only those of these types; several are repeated, or separated by commas.",
      type: "array",
      items: { type: "string" },
      examples: [["milestone"]],
    }),
    label: line("Only those with this label.", "tests pass").optional(),
    include: included,
    limit: listQuerySchema.shape.limit.meta({
      description: "How many checkpoints at most. More than 1000 is served as 1000; the next page is linked.",
    }),
    cursor: listQuerySchema.shape.cursor,
    include_deleted: includeDeleted,
  })
  .meta({ id: "ListCheckpointsQuery" });

export const restoreQuerySchema = z.object({ vocabulary: vocabularyParameter }).meta({ id: "RestoreCheckpointQuery" });

/** Undefined for a text that can't be the number of a checkpoint: there is none of that number. */
const numberInPath = z
  .string(once)
  .transform((text) => {
    const number = /^[1-9]\d{0,9}$/.test(text) ? Number(text) : 0;
    return number >= 1 && number <= largestNumber ? number : undefined;
  })
  .meta({ description: "The checkpoint's number.", type: "integer", minimum: 1, examples: [7] });

export const checkpointPathSchema = z
  .object({ id: uuid("The session's id.", exampleId), number: numberInPath })
  .meta({ id: "SessionCheckpointPath" });

/** As for the number: undefined for a text that is no id. */
export const checkpointIdSchema = z
  .object({
    id: z
      .string(once)
      .transform((text) => (z.guid().safeParse(text).success ? text.toLowerCase() : undefined))
      .meta({ description: "The checkpoint's id.", format: "uuid", examples: [exampleCheckpointId] }),
  })
  .meta({ id: "CheckpointPath" });
