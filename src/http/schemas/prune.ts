/** Which checkpoints are kept, on the wire: what a session says of it, and what a prune asks and tells. */

import { z } from "zod";

/** More checkpoints than anybody keeps for their number alone. */
const mostKept = 1_000_000;
const mostDays = 36_500;

function whole(most: number, description: string, example: number) {
  const error = { error: `must be a whole number from 0 to ${most}` };
  return z
    .int(error)
    .min(0, error)
    .max(most, error)
    .nullish()
    .meta({ description, examples: [example] });
}

const rulesShape = {
  keep_last: whole(mostKept, "So many of the last ones of each line (`checkpoint_ns`); 0: all.", 20),
  keep_days: whole(mostDays, "Those that are younger than so many days; 0: none for its age.", 7),
  keep_daily_days: whole(mostDays, "The last one of each day (UTC) of a line, for so many days; 0: none for that.", 90),
};

const inAnyCase =
  "A checkpoint is kept when one rule keeps it; the last one of each line, and those that have a label or the type " +
  "`milestone`, are kept in any case.";

const rulesExample = { keep_last: 20, keep_days: 7, keep_daily_days: 90 };

export const checkpointRetentionSchema = z.strictObject(rulesShape).meta({
  id: "CheckpointRetention",
  description: `Which checkpoints of the session are kept. ${inAnyCase} What is absent is as the service's settings say.`,
  examples: [rulesExample],
});

/** Strict: a rule that is misspelt must not be taken for no rule. */
export const pruneSchema = z
  .strictObject({
    dry_run: z
      .boolean()
      .nullish()
      .meta({ description: "Whether nothing is removed, and only told what would be.", examples: [true] }),
    ...rulesShape,
  })
  .meta({
    id: "PruneCheckpoints",
    description:
      `All of it optional: which checkpoints are kept this time. ${inAnyCase} A rule that is absent is as the session's ` +
      "`checkpoint_retention` says, and else the service's settings. A key that is not known is refused.",
    namedExamples: {
      look: { summary: "What the session's own rules would remove", value: { dry_run: true } },
      few: { summary: "All but the last five", value: { keep_last: 5, keep_days: 0, keep_daily_days: 0 } },
    },
  });

/** How many numbers an answer has at most. */
export const mostNumbers = 1_000;

export const prunedSchema = z
  .object({
    dry_run: z.boolean().describe("Whether nothing was removed."),
    deleted: z.int().describe("How many checkpoints were removed, or would be."),
    bytes: z.int().describe("What these had, in bytes: their data, and the contexts kept with them."),
    kept: z.int().describe("How many the session has left, or would have."),
    numbers: z.array(z.int()).describe(`The numbers of what was removed, newest first: the first ${mostNumbers}.`),
    more: z.boolean().describe("Whether the time was up before all had been looked at: ask again."),
  })
  .meta({
    id: "PrunedCheckpoints",
    description: "What a prune removed, or would remove.",
    namedExamples: {
      two: {
        summary: "Two were removed",
        value: { dry_run: false, deleted: 2, bytes: 418, kept: 20, numbers: [2, 1], more: false },
      },
    },
  });
