/** What is done to many sessions at once, on the wire: first as a dry run, then with its token. */

import { z } from "zod";
import { outcomeShape, reasonShape, settableShape, time } from "./session-fields.ts";
import { refuseNoFilter, strictFilterShape } from "./session-filter.ts";
import { targetStateShape } from "./state-words.ts";

const longAgo = { status: ["completed"], ended_before: "2026-01-01T00:00:00Z" };

const filterSchema = z
  .strictObject(strictFilterShape)
  .superRefine(refuseNoFilter)
  .meta({
    id: "BulkFilter",
    description: "Which sessions: the filters of the list, all of which must hold. A key that is not known is refused.",
    examples: [longAgo],
  });

const exampleToken = "MjAyNi0wMS0zMVQwOTozMDowMC4xMjM0NTZafDQyfC4uLg";

const callShape = {
  filter: filterSchema,
  dry_run: z
    .boolean()
    .optional()
    .meta({ description: "Whether it is only told which sessions are meant; gives the token.", examples: [true] }),
  token: z
    .string()
    .optional()
    .meta({
      description: "From the dry run of the same request, at most 15 minutes ago: begins the job.",
      examples: [exampleToken],
    }),
};

interface BulkCall {
  readonly filter: { readonly include_deleted?: boolean | undefined };
  readonly dry_run?: boolean | undefined;
  readonly token?: string | undefined;
}

function refuseBoth({ dry_run: isDry, token }: BulkCall, context: z.RefinementCtx): void {
  if (isDry !== true || token === undefined) return;
  context.addIssue({ code: "custom", path: ["token"], message: "must not stand beside a dry run" });
}

/** @param message says why deleted sessions are not meant */
function refuseDeleted({ filter }: BulkCall, context: z.RefinementCtx, message: string): void {
  if (filter.include_deleted !== true) return;
  context.addIssue({ code: "custom", path: ["filter", "include_deleted"], message });
}

const notChanged = "must not be true: what is deleted is not changed";

const examples = (rest: object) => ({
  dry: { summary: "First: which would it be?", value: { filter: longAgo, ...rest, dry_run: true } },
  job: { summary: "Then: these", value: { filter: longAgo, ...rest, token: exampleToken } },
});

export const bulkDeleteSchema = z
  .strictObject({
    ...callShape,
    hard: z
      .boolean()
      .optional()
      .meta({
        description: "Whether they are removed for good; with `include_deleted` also those that were deleted before.",
        examples: [true],
      }),
  })
  .superRefine((body, context) => {
    refuseBoth(body, context);
    if (body.hard !== true) refuseDeleted(body, context, "must not be true unless hard is: they are deleted already");
  })
  .meta({ id: "BulkDelete", description: "Which sessions are deleted.", namedExamples: examples({}) });

const { external_id: _, ...updateShape } = settableShape;

const updateSchema = z.strictObject({ ...updateShape, exit_requested: outcomeShape.exit_requested }).meta({
  id: "BulkUpdateFields",
  description: "What is changed, as PATCH has it: what is absent stays, null clears, documents are replaced whole.",
  examples: [{ labels: { team: "search" }, max_attempts: 5 }],
});

export const bulkUpdateSchema = z
  .strictObject({ ...callShape, update: updateSchema })
  .superRefine((body, context) => {
    refuseBoth(body, context);
    refuseDeleted(body, context, notChanged);
  })
  .meta({
    id: "BulkUpdate",
    description: "Which sessions are changed, and what of them.",
    namedExamples: examples({ update: { labels: { team: "search" } } }),
  });

export const bulkTransitionSchema = z
  .strictObject({
    ...callShape,
    // The finest words: a status would leave alone what is in any of its phases.
    to: targetStateShape.phase.unwrap().unwrap(),
    reason: reasonShape.reason,
  })
  .superRefine((body, context) => {
    refuseBoth(body, context);
    refuseDeleted(body, context, notChanged);
  })
  .meta({
    id: "BulkTransition",
    description: "Which sessions go to another phase, and to which.",
    namedExamples: {
      dry: {
        summary: "First: which would it be?",
        value: { filter: { status: ["paused"] }, to: "completed", reason: "the project is over", dry_run: true },
      },
    },
  });

export const dryRunSchema = z
  .object({
    count: z.int().meta({ description: "How many sessions are meant.", examples: [42] }),
    sample: z.array(z.guid()).describe("The ids of the newest ten of them."),
    token: z.string().meta({ description: "Begins the job, with the same request.", examples: [exampleToken] }),
    expires_at: time("Until when the token is good: 15 minutes."),
  })
  .meta({
    id: "BulkDryRun",
    description: "What a job would do. Sessions that are created later are left alone by it.",
    namedExamples: {
      one: {
        summary: "One session",
        value: {
          count: 1,
          sample: ["0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10"],
          token: exampleToken,
          expires_at: "2026-01-31T09:45:00.123456Z",
        },
      },
    },
  });
