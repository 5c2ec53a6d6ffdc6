/** The fields of a session beside its documents and its state: what clients may say of them, and what answers show. */

import { z } from "zod";
import { mostNames, settingDefaults } from "../../sessions/fields.ts";
import { longestTimerSeconds } from "../../sessions/timers.ts";
import { readInstant } from "../instant.ts";
import { document } from "./free-form.ts";
import { checkpointRetentionSchema } from "./prune.ts";
import { exampleAgent } from "./session-examples.ts";

export const time = (description: string) =>
  z.string().meta({ description, format: "date-time", examples: ["2026-01-31T09:30:00.123456Z"] });

/** A time that a client sets, read into UTC with microseconds. */
const instant = (description: string) =>
  z
    .string({ error: "must be a time such as 2026-01-31T09:30:00Z (RFC 3339)" })
    .transform((text, context) => {
      const read = readInstant(text);
      if (read === undefined) {
        context.addIssue({ code: "custom", message: "must be a time such as 2026-01-31T09:30:00Z (RFC 3339)" });
      }
      return read ?? null;
    })
    .meta({ description, format: "date-time", examples: ["2026-01-31T09:30:00Z"] });

const timerError = { error: `must be a whole number of seconds from 0 (off) to ${longestTimerSeconds}` };
const timer = (description: string, example: number) =>
  z
    .int(timerError)
    .min(0, timerError)
    .max(longestTimerSeconds, timerError)
    .meta({ description, examples: [example] });

const line = (longest: number, description: string, example: string) =>
  z
    .string()
    .min(1)
    .max(longest)
    .meta({ description, examples: [example] });

const name = /^[^\p{C}]{1,255}$/u;

/**
 * An object of ours: values of one kind by name. (z.record does not look at what a `__proto__` key says, and the database
 * does.)
 */
const named = (objectMust: string, must: string, isGood: (value: unknown) => boolean) =>
  z.unknown().superRefine((value, context) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      return context.addIssue({ code: "custom", message: objectMust });
    }
    const entries = Object.entries(value);
    if (entries.length > mostNames) {
      return context.addIssue({ code: "custom", message: `must have at most ${mostNames} keys` });
    }
    for (const [key, one] of entries) {
      if (!isGood(one)) context.addIssue({ code: "custom", path: [key], message: must });
      if (name.test(key)) continue;
      context.addIssue({ code: "custom", path: [key], message: "must have a key of 1 to 255 printable characters" });
    }
  });

const numbers = (description: string, example: object) =>
  named("must be a JSON object of numbers", "must be a number", Number.isFinite).meta({
    description,
    type: "object",
    additionalProperties: { type: "number" },
    examples: [example],
  });

export const repository = z.union(
  [
    z.string().min(1).max(2_048),
    z
      .looseObject({
        url: z.string().min(1).max(2_048).describe("Where it is."),
        branch: z.string().min(1).max(255).nullish().describe("Which branch of it."),
      })
      .meta({ id: "Repository", description: "A repository, and where the work happens in it." }),
  ],
  { error: "must be a URL, or an object with a url and a branch" },
);

/** Any 8-4-4-4-12 hexadecimal, the nil UUID too: no registry of agents is asked. */
export const uuid = (description: string, example = exampleAgent) =>
  z
    .guid({ error: "must be a UUID" })
    .overwrite((id) => id.toLowerCase())
    .meta({ description, format: "uuid", examples: [example] });

export const agentSchema = z
  .looseObject({
    id: uuid("The agent's id."),
    name: z.string().max(255).nullish().describe("What people call it."),
    model: z.string().max(255).nullish().describe("The model that it uses."),
    config: document("How it is set up.", { temperature: 0 }).nullish(),
  })
  .meta({ id: "Agent", description: "An agent of the session." });

export const longestLabel = 255;

export const labels = named(
  "must be a JSON object of texts",
  `must be a text of at most ${longestLabel} characters`,
  (value) => typeof value === "string" && value.length <= longestLabel,
).meta({
  description: "Short texts by name, to find and to claim sessions by.",
  type: "object",
  additionalProperties: { type: "string", maxLength: longestLabel },
  examples: [{ team: "search" }],
});

/** Whether a text can be an external id. */
export const isExternalId = (text: string) => name.test(text);
export const externalIdMust = "must be 1 to 255 printable characters";

/** What a client may say of a session when it creates it and later; null clears. */
export const settableShape = {
  scheduled_at: instant("Not to be claimed before.").nullish(),
  expires_at: instant("When the session is deleted (softly), whatever it does.").nullish(),
  timeout_seconds: timer(
    "How long an attempt may be at work, paused time not counted; then the session is `timed_out`. 0: no limit.",
    3_600,
  ).nullish(),
  waiting_timeout_seconds: timer(
    "How long the session may be `running` or `ready` without any activity; then it is `idle`. 0: no limit.",
    300,
  ).nullish(),
  idle_timeout_seconds: timer(
    "How long the session may be without any activity, also while it is set aside; then it is `expired`. 0: no limit.",
    86_400,
  ).nullish(),
  pending_timeout_seconds: timer(
    "How long the session may wait to be claimed; then it is `expired`. 0: no limit.",
    600,
  ).nullish(),
  auto_recover: z
    .boolean()
    .nullish()
    .meta({ description: "Whether the session may be claimed again by itself after a crash.", examples: [true] }),
  max_attempts: z
    .int()
    .min(1)
    .max(1_000)
    .nullish()
    .meta({
      description: `How many attempts there are before a crash is final (${settingDefaults.max_attempts}, unless said otherwise).`,
      examples: [5],
    }),
  legal_hold: z
    .boolean()
    .nullish()
    .meta({
      description:
        "While true nothing of the session is deleted, by anyone: neither itself, nor its checkpoints and events. null " +
        "changes nothing.",
      examples: [true],
    }),
  external_id: z
    .string()
    .refine(isExternalId, { error: externalIdMust })
    .nullish()
    .meta({
      description: "What another system calls it: 1 to 255 printable characters that no other session has.",
      examples: ["PROJ-42"],
    }),
  name: line(255, "What people call it.", "Fix the modal").nullish(),
  prompt: z
    .string()
    .nullish()
    .meta({ description: "What the agent was asked to do.", examples: ["Fix the modal."] }),
  model: line(255, "The model that the agent uses.", "large-2").nullish(),
  repos: z
    .array(repository)
    .nullish()
    .meta({
      description: "The repositories that it works in: URLs, or objects with `url` and `branch`.",
      examples: [["https://example.com/project.git"]],
    }),
  active_agent: line(255, "Which of its agents is at work.", "reviewer").nullish(),
  interaction_mode: line(255, "How it talks with people: interactive, autonomous, …", "interactive").nullish(),
  resources: document("What its runtime is given: cpu, memory, …", { cpu: "500m" }).nullish(),
  guardrails: document("What the agent must not do.", { network: false }).nullish(),
  metadata: document("Anything else about it.", { ticket: "PROJ-42" }).nullish(),
  labels: labels.nullish(),
  created_by: line(255, "Who, or what, created it.", "ada").nullish(),
  checkpoint_retention: checkpointRetentionSchema.nullish(),
};

/** Other names that clients know some of these by. */
export const aliasShape = {
  timeout: settableShape.timeout_seconds.meta({ description: "The same as `timeout_seconds`.", examples: [3_600] }),
  starting_prompt: settableShape.prompt.meta({ description: "The same as `prompt`.", examples: ["Fix the modal."] }),
};

export const statsSchema = numbers("Numbers by name: iterations, input_tokens, output_tokens, tool_calls, …", {
  iterations: 12,
  input_tokens: 48_210,
});
export const statsMaxSchema = numbers("The greatest value that was reported of each gauge: cpu, memory, storage, …", {
  memory: 734_003_200,
});

const errorText = (longest: number) => z.string().max(longest);

/** Longer stacks are cut, in bytes. */
export const longestStack = 64 * 1024;

const reportedError = z
  .union(
    [
      errorText(16_384),
      z
        .object({
          code: errorText(255).nullish().describe("For programs."),
          message: errorText(16_384).nullish().describe("For people."),
          stack: z.string().nullish().describe(`Where; what is beyond ${longestStack} bytes is cut.`),
        })
        .meta({ id: "WorkError", description: "What went wrong." }),
    ],
    { error: "must be a text, or an object of code, message and stack" },
  )
  .meta({
    description: "What went wrong; a text is taken as its message.",
    examples: [{ code: "out_of_memory", message: "The process was killed." }],
  });

/** What a runtime tells of how the work goes. */
export const outcomeShape = {
  exit_requested: z
    .boolean()
    .nullish()
    .meta({ description: "Whether the worker is asked to come to an end.", examples: [true] }),
  error: reportedError.nullish(),
  result: z
    .unknown()
    .optional()
    .meta({ description: "What came of the work: any JSON; null clears.", examples: [{ merged: true }] }),
  stats: statsSchema.nullish().meta({
    description: "Numbers by name, which are added to those that there are.",
    examples: [{ iterations: 1, input_tokens: 2_048 }],
  }),
  stats_set: statsSchema.nullish().meta({
    description: "Numbers by name, in place of those that there are of these names.",
    examples: [{ iterations: 13 }],
  }),
  stats_max: statsMaxSchema.nullish().meta({
    description: "Gauges by name: of each, the greater one stays.",
    examples: [{ memory: 734_003_200 }],
  }),
};

export const reasonShape = {
  reason: line(1_024, "Why the session goes to another phase.", "waiting for review").nullish(),
};

export const leaseTokenShape = {
  lease_token: z
    .int({ error: "must be a whole number from 1" })
    .min(1, { error: "must be a whole number from 1" })
    .nullish()
    .meta({ description: "The same as the header `Lease-Token`.", examples: [7] }),
};
