/** Bulk jobs on the wire: how far they have come, and what became of each session. */

import { z } from "zod";
import { bulkStates } from "../../sessions/bulk-jobs.ts";
import { enumMeta } from "./common.ts";
import { listQuerySchema } from "./list-sessions.ts";
import { exampleId } from "./session-examples.ts";
import { time, uuid } from "./session-fields.ts";

const actions = ["delete", "update", "transition"] as const;
const exampleJobId = "0198c0e2-11f0-7c3a-8a52-6f0d2b7c9e41";

const example = {
  id: exampleJobId,
  action: "delete",
  state: "completed",
  planned: 42,
  changed: 40,
  unchanged: 1,
  refused: 1,
  created_at: "2026-01-31T09:30:00.123456Z",
  started_at: "2026-01-31T09:30:00.145678Z",
  finished_at: "2026-01-31T09:30:01.234567Z",
  cancel_requested: false,
  error: null,
};

const count = (description: string, shown: number) => z.int().meta({ description, examples: [shown] });

export const jobSchema = z
  .object({
    id: uuid("The job's id.", exampleJobId),
    action: z.enum(actions).meta({
      id: "BulkAction",
      ...enumMeta("What it does to each session.", {
        delete: "it is deleted",
        update: "fields of it are changed",
        transition: "it goes to another phase",
      }),
    }),
    state: z.enum(bulkStates).meta({
      id: "BulkJobState",
      ...enumMeta("How far it has come.", {
        queued: "it waits to be begun",
        running: "it is at work",
        completed: "every session has been looked at",
        cancelled: "it was cancelled: what it had done stays",
        failed: "something went wrong that trying again does not mend; what it had done stays",
      }),
    }),
    planned: count("How many sessions there were when the dry run was made.", 42),
    changed: count("How many it has really changed.", 40),
    unchanged: count("How many were as asked already, or were not what the filter asks for any more.", 1),
    refused: count("How many may not be changed so.", 1),
    created_at: time("When it was asked for."),
    started_at: time("When it was begun.").nullable(),
    finished_at: time("When it ended.").nullable(),
    cancel_requested: z.boolean().describe("Whether it is asked to stop before its next batch."),
    error: z.string().nullable().describe("`failed`: what went wrong."),
  })
  .meta({
    id: "Job",
    description: "The same done to many sessions. The counts are of what has been committed, at any time.",
    namedExamples: { completed: { summary: "A deletion that has ended", value: example } },
  });

export const jobListSchema = z.array(jobSchema).meta({
  id: "JobList",
  description: "A page of jobs, newest first.",
  namedExamples: { page: { summary: "One job", value: [example] } },
});

const resultSchema = z
  .object({
    session_id: uuid("The session's id.", exampleId),
    outcome: z.enum(["changed", "unchanged", "refused"]).meta({
      id: "BulkOutcome",
      ...enumMeta("What became of the session.", {
        changed: "it was changed, or deleted, by this job",
        unchanged: "it was left as it is: there was nothing to do",
        refused: "it was left as it is: it may not be changed so",
      }),
    }),
    reason: z
      .string()
      .nullable()
      .meta({
        description:
          "Why it was left as it is: `legal_hold`, `invalid_transition`; or `not_matching`, when it was not what the filter " +
          "asks for any more, or had been removed. null: it was as asked already.",
        examples: ["legal_hold"],
      }),
  })
  .meta({ id: "BulkResult", description: "What became of one session." });

export const resultListSchema = z.array(resultSchema).meta({
  id: "BulkResultList",
  description: "A page of results, in the order in which it was done.",
  namedExamples: {
    page: {
      summary: "One that was deleted, and one that must not be",
      value: [
        { session_id: exampleId, outcome: "changed", reason: null },
        { session_id: "0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a11", outcome: "refused", reason: "legal_hold" },
      ],
    },
  },
});

/** Undefined for a text that is no id: there is no job of that id. */
export const jobPathSchema = z
  .object({
    id: z
      .string()
      .transform((text) => (z.guid().safeParse(text).success ? text.toLowerCase() : undefined))
      .meta({ description: "The job's id.", format: "uuid", examples: [exampleJobId] }),
  })
  .meta({ id: "JobPath" });

const { limit, cursor } = listQuerySchema.shape;

export const listJobsQuerySchema = z
  .object({
    limit: limit.meta({
      description: "How many jobs at most. More than 1000 is served as 1000; the next page is linked.",
    }),
    cursor,
  })
  .meta({ id: "ListJobsQuery" });

export const listResultsQuerySchema = z
  .object({
    limit: limit.meta({
      description: "How many results at most. More than 1000 is served as 1000; the next page is linked.",
    }),
    cursor,
  })
  .meta({ id: "ListJobResultsQuery" });
