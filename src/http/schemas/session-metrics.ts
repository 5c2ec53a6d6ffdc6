/** Figures of one session and of many, on the wire. */

import { z } from "zod";
import { phases } from "../../sessions/lifecycle.ts";
import {
  countedEvents,
  countedEventsOfSession,
  countedSessions,
  groupNames,
  longestStretchDays,
  toldGroups,
} from "../../sessions/metrics.ts";
import { readInstant } from "../instant.ts";
import { enumMeta, oneOf } from "./common.ts";
import { exampleAgent, exampleId } from "./session-examples.ts";
import { statsMaxSchema, statsSchema, time } from "./session-fields.ts";
import { phaseSchema } from "./state-words.ts";

const count = (description: string) =>
  z
    .int()
    .min(0)
    .meta({ description, examples: [3] });
const milliseconds = (description: string) =>
  z
    .int()
    .min(0)
    .meta({ description, examples: [10_800_000] });

const byType = z
  .record(z.string(), z.int())
  .meta({ description: "How many events by type.", examples: [{ "session.created": 1, "session.updated": 2 }] });

const sessionEvents = z
  .object({
    total: count("How many events it has, of those that are kept."),
    by_type: byType,
    complete: z.boolean().describe(`False: only the newest ${countedEventsOfSession} have been counted.`),
  })
  .meta({ id: "SessionEventCounts", description: "The events of a session." });

export const sessionMetricsSchema = z
  .object({
    id: z.string().meta({ description: "The session's id.", format: "uuid", examples: [exampleId] }),
    checked_at: time("As of when all this is told, by the database's clock."),
    phase: phaseSchema,
    attempt: count("Which attempt this is."),
    transitions: count("How often it went from one phase to another."),
    started_at: time("When it first went live.").nullable(),
    ended_at: time("When it completed or crashed.").nullable(),
    duration_ms: milliseconds("From its first start to its end, or to now; null when it never started.").nullable(),
    active_duration_ms: milliseconds(
      "How long of that it was live: time in which it waited or was paused is left out.",
    ),
    phase_ms: z.partialRecord(z.enum(phases), z.int()).meta({
      description: "Milliseconds in each phase that it has been in, the one included that it is in.",
      type: "object",
      propertyNames: undefined,
      additionalProperties: { type: "integer" },
      examples: [{ running: 10_800_000, paused: 60_000 }],
    }),
    events: sessionEvents,
    stats: statsSchema,
    stats_max: statsMaxSchema,
    context_bytes: count("The size of the context as answers spell it."),
    checkpoint_bytes: count("The size of the checkpoint; 0 for none."),
    runtime_metadata_bytes: count("The size of the metadata."),
    details_bytes: count("The size of name, prompt, agents, labels and the like; 0 for none."),
  })
  .meta({
    id: "SessionMetrics",
    description: "Figures of a session.",
    namedExamples: {
      session: {
        summary: "A session that was paused for a minute",
        value: {
          id: exampleId,
          checked_at: "2026-01-31T12:31:00.123456Z",
          phase: "running",
          attempt: 1,
          transitions: 2,
          started_at: "2026-01-31T09:30:00.123456Z",
          ended_at: null,
          duration_ms: 10_860_000,
          active_duration_ms: 10_800_000,
          phase_ms: { running: 10_800_000, paused: 60_000 },
          events: { total: 3, by_type: { "session.created": 1, "session.updated": 2 }, complete: true },
          stats: { input_tokens: 1200, iterations: 7 },
          stats_max: { memory: 512.5 },
          context_bytes: 74,
          checkpoint_bytes: 56,
          runtime_metadata_bytes: 43,
          details_bytes: 0,
        },
      },
    },
  });

const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };
const longestSeconds = longestStretchDays * 86_400;

export const sinceError =
  `must be a whole number with a unit, s, m, h or d, such as 24h, or a time such as 2026-01-31T09:30:00Z; ` +
  `from 1s to ${longestStretchDays}d ago`;

/** A stretch of time up to now: how long it is, or when it begins. Undefined when the text is neither, or too long. */
function readSince(text: string): { at: string } | { secondsAgo: number } | undefined {
  const at = readInstant(text.trim());
  if (at !== undefined) return { at };
  const [, number, unit = ""] = /^(\d{1,9})([smhd])$/i.exec(text.trim()) ?? [];
  const secondsAgo = Number(number) * (unitSeconds[unit.toLowerCase()] ?? 0);
  return secondsAgo > 0 && secondsAgo <= longestSeconds ? { secondsAgo } : undefined;
}

const groupBy = z
  .enum(groupNames as readonly ["status", "phase", "session_type", "agent_id"], { error: oneOf(groupNames) })
  .meta({
    id: "FigureGroup",
    ...enumMeta("What sessions can be grouped by.", {
      status: "the four statuses",
      phase: "the phases, which are finer",
      session_type: "conversation, task, …",
      agent_id: "the agent",
    }),
  });

export const figuresQuerySchema = z
  .object({
    since: z
      .string({ error: "must be given once" })
      .transform((text, context) => {
        const read = readSince(text);
        if (read === undefined) context.addIssue({ code: "custom", message: sinceError });
        return read ?? { secondsAgo: 0 };
      })
      .optional()
      .meta({
        description:
          "How far back, as a whole number and a unit (s, m, h, d), or since when, as a time (RFC 3339); at most " +
          `${longestStretchDays} days.`,
        default: "24h",
        examples: ["24h"],
      }),
    group_by: groupBy.optional().meta({
      description: "What the sessions are grouped by.",
      default: "status",
      examples: ["status"],
    }),
    agent_id: z
      .guid({ error: "must be a UUID" })
      .overwrite((id) => id.toLowerCase())
      .optional()
      .meta({ description: "Only this agent's sessions, and their events.", format: "uuid", examples: [exampleAgent] }),
  })
  .meta({ id: "FiguresQuery" });

const group = z
  .object({
    value: z.string().describe("The status, phase, type or agent."),
    count: count("How many sessions."),
    share: z.number().min(0).max(1).describe("Which part of the total that is, from 0 to 1."),
  })
  .meta({ id: "SessionGroup", description: "Sessions that have something in common." });

const durations = z
  .object({
    mean: milliseconds("The mean.").nullable(),
    p50: milliseconds("The median.").nullable(),
    p95: milliseconds("The 95th percentile.").nullable(),
  })
  .meta({
    id: "SessionDurations",
    description: "From the first start to the end, in milliseconds, of the sessions that have ended; null for none.",
  });

const volume = z
  .object({
    total: count("How many events."),
    by_type: byType,
    complete: z.boolean().describe(`False: only ${countedEvents} have been counted.`),
    counted_since: time("When the oldest of those was, if not all have been counted; else `since`."),
  })
  .meta({
    id: "EventVolume",
    description: "The events since then; with `agent_id`, those of the sessions that are counted.",
  });

export const figuresSchema = z
  .object({
    since: time("Sessions that were created since then are counted."),
    checked_at: time("As of when all this is told, by the database's clock."),
    complete: z.boolean().describe(`False: only the newest ${countedSessions} sessions have been looked at.`),
    counted_since: time("When the oldest of those was created, if not all have been looked at; else `since`."),
    group_by: groupBy.meta({ description: "What the groups are of.", examples: ["status"] }),
    total: count("How many sessions."),
    groups: z.array(group).describe(`The groups, the largest first, at most ${toldGroups}.`),
    more_groups: count("How many groups are not told."),
    ended: count("How many sessions have completed or crashed."),
    expired: count("How many of them are `expired` or `timed_out`."),
    expiry_rate: z.number().min(0).max(1).describe("Which part of those that ended that is; 0 when none ended."),
    duration_ms: durations,
    events: volume,
  })
  .meta({
    id: "SessionFigures",
    description: "Figures of the sessions that were created in a stretch of time. Deleted ones are not counted.",
    namedExamples: {
      day: {
        summary: "A day's sessions by status",
        value: {
          since: "2026-01-30T12:30:00.123456Z",
          checked_at: "2026-01-31T12:30:00.123456Z",
          complete: true,
          counted_since: "2026-01-30T12:30:00.123456Z",
          group_by: "status",
          total: 40,
          groups: [
            { value: "completed", count: 25, share: 0.625 },
            { value: "active", count: 10, share: 0.25 },
            { value: "crashed", count: 5, share: 0.125 },
          ],
          more_groups: 0,
          ended: 30,
          expired: 3,
          expiry_rate: 0.1,
          duration_ms: { mean: 95_000, p50: 61_000, p95: 310_000 },
          events: {
            total: 120,
            by_type: { "session.created": 40, "session.updated": 80 },
            complete: true,
            counted_since: "2026-01-30T12:30:00.123456Z",
          },
        },
      },
    },
  });

export type FiguresAnswer = z.input<typeof figuresSchema>;
