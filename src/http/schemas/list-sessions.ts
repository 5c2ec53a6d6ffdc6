/** Lists of sessions on the wire: which, in what order, and what is told of each. */

import { z } from "zod";
import { type Sort, sortKeys } from "../../sessions/find-query.ts";
import { enumMeta, oneOf } from "./common.ts";
import { sessionSchema } from "./session.ts";
import { filterShape, refuseNoFilter, strictFilterShape } from "./session-filter.ts";
import { several } from "./several.ts";
import { vocabularyParameter } from "./state-words.ts";

const severalValues = "Several are repeated, or separated by commas.";

const sorts = {
  created_at: "the oldest first",
  "-created_at": "the newest first, as it is unless said otherwise",
  updated_at: "the one that has not changed for the longest time first",
  "-updated_at": "the one that was changed last first",
  name: "by name",
  "-name": "by name, backwards",
};

const views = {
  full: "all fields",
  summary: "without `context`, `checkpoint` and `runtime_metadata`, but with their bytes, and without what is not set",
};

const wordsOf = <Value extends string>(values: Readonly<Record<Value, string>>) => Object.keys(values) as Value[];

const sortSchema = z
  .enum(wordsOf(sorts), { error: oneOf(wordsOf(sorts)) })
  .meta({ id: "SessionSort", ...enumMeta("The order of a list.", sorts) });

const viewSchema = z
  .enum(wordsOf(views), { error: oneOf(wordsOf(views)) })
  .meta({ id: "SessionView", ...enumMeta("How much is told of each session.", views) });

const countSchema = z.enum(["exact"], { error: "must be exact" }).meta({
  id: "SessionCount",
  ...enumMeta("How the sessions of all pages are counted.", { exact: "all of them, with each request" }),
});

const fieldNames: readonly string[] = Object.keys(sessionSchema.shape);

const largestPage = 1_000;

const limit = z
  .union([z.string(), z.number()], { error: "must be given once" })
  .refine((given) => /^\d+(e\d+)?$/i.test(String(given)) && Number(given) > 0, {
    error: `must be a whole number from 1 to ${largestPage}`,
  })
  .transform((given) => Math.min(Number(given), largestPage))
  .optional()
  .meta({
    // It comes as text; clients that are generated shall pass a number. No maximum: more is served as the largest page.
    type: "integer",
    minimum: 1,
    default: 100,
    description: `How many sessions at most. More than ${largestPage} is served as ${largestPage}; the next page is linked.`,
    examples: [10],
  });

const pageShape = {
  vocabulary: vocabularyParameter,
  limit,
  cursor: z
    .string({ error: "must be given once" })
    .optional()
    .meta({
      description: "Where the page starts: from the `Link` or `X-Next-Cursor` header of the page before.",
      examples: ["eyJhIjoxfQ"],
    }),
};

const viewShape = {
  sort: sortSchema.optional().meta({
    description:
      "The order: `-created_at` unless said otherwise. Any but by `created_at` stands beside a selective filter that " +
      "leaves at most 10,000 sessions.",
    examples: ["created_at"],
  }),
  fields: several(
    (name) => (fieldNames.includes(name) ? name : undefined),
    "must be names of fields of a session",
  ).meta({
    description: `Only these fields of each session. ${severalValues}`,
    type: "array",
    items: { type: "string" },
    examples: [["id", "phase"]],
  }),
  view: viewSchema.optional().meta({ description: "How much is told of each session.", examples: ["summary"] }),
  count: countSchema.optional().meta({
    description: "Whether the header `X-Total-Count` says how many sessions there are on all pages.",
    examples: ["exact"],
  }),
};

export const listQuerySchema = z
  .object({ ...filterShape, ...viewShape, ...pageShape })
  .meta({ id: "ListSessionsQuery" });

export const facetsQuerySchema = z.object(filterShape).meta({ id: "SessionFacetsQuery" });

export const recoverableQuerySchema = z
  .object({ agent_id: filterShape.agent_id, ...pageShape })
  .meta({ id: "ListRecoverableSessionsQuery" });

export const searchSchema = z
  .strictObject({ ...strictFilterShape, ...viewShape, ...pageShape })
  .superRefine(refuseNoFilter)
  .meta({
    id: "SearchSessions",
    description: "Which sessions, in what order, and what is told of each.",
    namedExamples: {
      crashed: { summary: "Those of a team that have crashed", value: { status: ["crashed"], label: ["team:search"] } },
      all: { summary: "All, ten at a time", value: { all: true, limit: 10 } },
    },
  });

export const facetsSchema = z
  .object({
    total: z.int().meta({ description: "How many sessions were counted.", examples: [3] }),
    complete: z.boolean().meta({
      description: "False: there are too many, and only the newest 200,000 were looked at.",
      examples: [true],
    }),
    status: countsOf("status", { active: 2, crashed: 1 }),
    phase: countsOf("phase", { running: 2, crashed: 1 }),
    session_type: countsOf("type", { task: 3 }),
    runtime_backend: countsOf("backend", { local: 3 }),
  })
  .meta({
    id: "SessionFacets",
    description: "How many sessions there are of each state, type and backend.",
    namedExamples: {
      three: {
        summary: "Three sessions",
        value: {
          total: 3,
          complete: true,
          status: { active: 2, crashed: 1 },
          phase: { running: 2, crashed: 1 },
          session_type: { task: 3 },
          runtime_backend: { local: 3 },
        },
      },
    },
  });

function countsOf(what: string, example: Readonly<Record<string, number>>) {
  return z.record(z.string(), z.int()).meta({ description: `How many of each ${what}.`, examples: [example] });
}

export function sortOf(sort: string | undefined): Sort | undefined {
  const by = sortKeys.find((key) => key === sort?.replace("-", ""));
  return by && { by, descending: sort?.startsWith("-") === true };
}
