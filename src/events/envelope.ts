/** The wire contract of events: what subscribers, streams and the history give. */

import { z } from "zod";
import { phases, statuses } from "../sessions/lifecycle.ts";

const id = z.guid();

const metadata = z
  .object({
    request_id: z.string().optional().describe("The request's X-Request-Id."),
    actor: z.string().optional().describe("Who made it."),
    correlation_id: z.string().optional().describe("What it was a part of: its X-Correlation-Id."),
    traceparent: z.string().optional().describe("Its trace (W3C Trace Context)."),
  })
  .meta({ id: "EventMetadata", description: "What is known of the request that made the event." });

const envelope = {
  aggregate_type: z.literal("session").describe("What the event is about."),
  aggregate_id: id.describe("The session's id."),
  event_id: id.describe("The same wherever and however often the event appears: the key to deduplicate by."),
  sequence: z.int().describe("1, 2, 3, … over all events of the session, without gaps."),
  session_version: z.int().describe("The session's version after the event: contiguous over the changes."),
  position: z
    .string()
    .describe("An opaque cursor into the whole feed, for `after` and `Last-Event-ID`: just after this event."),
  created_at: z
    .string()
    .meta({ description: "When, by the database's clock; UTC, microseconds.", format: "date-time" }),
  schema_version: z.literal(1).describe("The version of the payload's schema."),
  metadata,
};

function event<Type extends string, Payload extends z.ZodType>(
  name: string,
  type: Type,
  description: string,
  payload: Payload,
) {
  const told = { event_type: z.literal(type).describe("What happened."), ...envelope };
  return z.object({ ...told, payload: payload.describe("What is told of it.") }).meta({ id: name, description });
}

const phase = z.enum(phases);

const nothing = z.object({});

const created = event(
  "SessionCreated",
  "session.created",
  "A session came to be.",
  z.object({ agent_id: id, session_type: z.string(), runtime_backend: z.string(), phase }),
);

const updated = event(
  "SessionUpdated",
  "session.updated",
  "The session changed.",
  z.object({
    agent_id: id,
    status: z.enum(statuses),
    phase,
    updates: z.array(z.string()).describe("The fields that really changed, in the order of the Session schema."),
    from: phase.optional().describe("On a transition: the phase before."),
    to: phase.optional().describe("On a transition: the phase after."),
    change_summary: z
      .string()
      .optional()
      .describe("What the change of the context is about, where the writer said so."),
    reason: z.string().optional().describe("On a transition, or a request to exit: why, where that is known."),
  }),
);

const deleted = event(
  "SessionDeleted",
  "session.deleted",
  "The session was deleted, and can be restored.",
  z.object({
    agent_id: id,
    status: z.enum(statuses),
    phase,
    reason: z.string().optional().describe("`expires_at`, where nobody asked for it."),
  }),
);

const restored = event(
  "SessionRestored",
  "session.restored",
  "The session was restored after it had been deleted.",
  z.object({
    agent_id: id,
    status: z.enum(statuses),
    phase,
    updates: z.array(z.string()).optional().describe("The fields that are not as they were when it was deleted."),
    from: phase.optional().describe("Of one that was live: the phase that it was deleted in."),
    to: phase.optional().describe("Of one that was live: the phase that it is in now."),
    reason: z.string().optional().describe("Of one that was live: why it was restored."),
  }),
);

const purged = event(
  "SessionPurged",
  "session.purged",
  "The session was removed with all that it had, its earlier events too.",
  nothing,
);

/** What changes a session, by the type of its event: `events:session` carries these, and no others. */
export const changeEvents = [created, updated, deleted, restored, purged] as const;

const stats = z.record(z.string(), z.unknown());

/** The payloads of what runtimes report, by the word they report it under. Keys that are not listed are kept too. */
export const reportedPayloads = {
  thinking: z.looseObject({
    iteration: z.int().min(0).optional(),
    tools_used: z.array(z.string()).optional(),
  }),
  terminal: z.looseObject({
    command: z.string().optional(),
    output: z.string().nullable().optional(),
    error: z.string().nullable().optional(),
    exit_code: z.int().nullable().optional(),
  }),
  file_change: z.looseObject({ path: z.string().min(1), action: z.string().optional() }),
  completion: z.looseObject({ message: z.string().nullable().optional(), stats: stats.optional() }),
  error: z.looseObject({ message: z.string().nullable().optional(), stats: stats.optional() }),
} as const satisfies Record<string, z.ZodType>;

const reported = [
  event("SessionThinking", "session.thinking", "The agent thinks.", reportedPayloads.thinking),
  event("SessionTerminal", "session.terminal", "The agent ran a command.", reportedPayloads.terminal),
  event("SessionFileChange", "session.file_change", "The agent changed a file.", reportedPayloads.file_change),
  event("SessionCompletion", "session.completion", "The agent says that it is done.", reportedPayloads.completion),
  event("SessionError", "session.error", "The agent met an error.", reportedPayloads.error),
] as const;

/** What stands behind `session.` in the type of an event that a runtime reports under a word of its own. */
export const reportedWord = /^[a-z][a-z0-9_]{0,63}$/;

const other = z
  .object({
    event_type: z
      .string()
      .regex(/^session\.[a-z][a-z0-9_]{0,63}$/)
      .describe("The word that it was reported under, after `session.`."),
    ...envelope,
    payload: z.record(z.string(), z.unknown()).describe("What was reported."),
  })
  .meta({ id: "SessionReported", description: "Anything else that a runtime reported, under a word of its own." });

/** A change of a session. */
export const changeSchema = z
  .discriminatedUnion("event_type", changeEvents)
  .meta({ id: "SessionChangeEvent", description: "A change of a session, as `events:session` carries it." });
export type SessionChangeEvent = z.infer<typeof changeSchema>;

/** Every event there is. */
export const eventSchema = z
  .union([z.discriminatedUnion("event_type", [...changeEvents, ...reported]), other])
  .meta({ id: "SessionEvent", description: "A change of a session, or what its runtime reported." });

/** The types of the events that are changes. */
export const changeTypes: readonly string[] = changeEvents.map((schema) => schema.shape.event_type.value);

export type SessionEvent = z.infer<typeof eventSchema>;

/** The Redis channel that carries every change of every session, and nothing else. */
export const changesChannel = "events:session";

/** The Redis channel that carries every event of one session. */
export function sessionChannel(sessionId: string): string {
  return `${changesChannel}:${sessionId}`;
}

/** The Redis stream that carries what `events:session` does, trimmed. */
export const changesStream = "stream:events:session";
