/** What answers show of the fields of a session beside its documents and its state. */

import { z } from "zod";
import { document } from "./free-form.ts";
import { checkpointRetentionSchema } from "./prune.ts";
import { agentSchema, labels, repository, statsMaxSchema, statsSchema, time } from "./session-fields.ts";

/** What an answer shows of all this. */
export const shownShape = {
  stats: statsSchema,
  stats_max: statsMaxSchema,
  scheduled_at: time("Not to be claimed before.").nullable(),
  expires_at: time("When the session is deleted (softly), whatever it does.").nullable(),
  timeout_seconds: z.int().nullable().describe("How long an attempt may be at work; then `timed_out`."),
  waiting_timeout_seconds: z.int().nullable().describe("How long it may run without activity; then `idle`."),
  idle_timeout_seconds: z.int().nullable().describe("How long it may be without activity; then `expired`."),
  pending_timeout_seconds: z.int().nullable().describe("How long it may wait to be claimed; then `expired`."),
  auto_recover: z.boolean().describe("Whether it may be claimed again by itself after a crash."),
  max_attempts: z.int().describe("How many attempts there are before a crash is final."),
  legal_hold: z.boolean().describe("Whether nothing of it may be deleted, by anyone."),
  external_id: z.string().nullable().describe("What another system calls it."),
  name: z.string().nullable().describe("What people call it."),
  prompt: z.string().nullable().describe("What the agent was asked to do."),
  model: z.string().nullable().describe("The model that the agent uses."),
  repos: z.array(repository).describe("The repositories that it works in."),
  agents: z.array(agentSchema).describe("The agents that take part."),
  active_agent: z.string().nullable().describe("Which of its agents is at work."),
  interaction_mode: z.string().nullable().describe("How it talks with people."),
  resources: document("What its runtime is given.", { cpu: "500m" }).nullable(),
  guardrails: document("What the agent must not do.", { network: false }).nullable(),
  metadata: document("Anything else about it.", { ticket: "PROJ-42" }),
  labels,
  created_by: z.string().nullable().describe("Who, or what, created it."),
  checkpoint_retention: checkpointRetentionSchema.nullable(),
  status_reason: z.string().nullable().describe("Why it is in its phase, where that is known."),
  exit_requested: z.boolean().describe("Whether the worker is asked to come to an end."),
  error: z
    .object({ code: z.string().nullish(), message: z.string().nullish(), stack: z.string().nullish() })
    .nullable()
    .describe("What went wrong last."),
  result: z.unknown().meta({ description: "What came of the work: any JSON." }),
  lease_owner: z.string().nullable().describe("The worker that holds the lease."),
  lease_expires_at: time("Until when, unless it is renewed.").nullable(),
  auto_resume: z.boolean().describe("Whether it may be claimed although it is paused: its worker was shut down."),
  next_attempt_at: time("When it may be claimed again after its crash.").nullable(),
};
