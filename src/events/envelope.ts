/** The wire contract of events: what subscribers of the Redis channel `events:session` receive. */

import { z } from "zod";
import { rfc3339 } from "../db/time.ts";
import { phases, statuses } from "../sessions/lifecycle.ts";

const id = z.guid();
const time = z.string().describe("RFC 3339, UTC, microseconds.");

const metadata = z
  .object({
    request_id: z.string().optional(),
    actor: z.string().optional(),
    correlation_id: z.string().optional(),
    traceparent: z.string().optional(),
  })
  .describe("What is known of the request that made the change.");

const envelope = {
  aggregate_type: z.literal("session"),
  aggregate_id: id.describe("The session's id."),
  event_id: id.describe("The same wherever and however often the event appears: the key to deduplicate by."),
  sequence: z.int().describe("1, 2, 3, … over all events of the session, without gaps."),
  session_version: z.int().describe("The session's version after the change."),
  position: z.string().describe("An opaque cursor into the whole feed."),
  created_at: time,
  schema_version: z.literal(1),
  metadata,
};

const created = z.object({
  event_type: z.literal("session.created"),
  ...envelope,
  payload: z.object({
    agent_id: id,
    session_type: z.string(),
    runtime_backend: z.string(),
    phase: z.enum(phases),
  }),
});

const updated = z.object({
  event_type: z.literal("session.updated"),
  ...envelope,
  payload: z.object({
    agent_id: id,
    status: z.enum(statuses),
    phase: z.enum(phases),
    updates: z.array(z.string()).describe("The fields that really changed, in the order of the Session schema."),
    from: z.enum(phases).optional().describe("On a transition: the phase before."),
    to: z.enum(phases).optional().describe("On a transition: the phase after."),
  }),
});

/** Every event there is. */
export const eventSchema = z.discriminatedUnion("event_type", [created, updated]);
export type SessionEvent = z.infer<typeof eventSchema>;

/** The channel that carries every change of every session. */
export const changesChannel = "events:session";

/** An event as the database gives it: documents and times as text. */
export interface EventRow {
  /** A whole number that a double holds exactly. */
  readonly position: number;
  readonly event_id: string;
  readonly session_id: string;
  readonly sequence: number;
  readonly session_version: number;
  readonly event_type: string;
  readonly schema_version: number;
  readonly payload: string;
  readonly metadata: string;
  /** As `utcText` gives it. */
  readonly created_at: string;
}

/** The message that subscribers receive: one JSON object, the original contract's keys first. */
export function envelopeText(row: EventRow): string {
  return (
    `{"event_type":"${row.event_type}","aggregate_type":"session","aggregate_id":"${row.session_id}",` +
    `"payload":${row.payload},"event_id":"${row.event_id}","sequence":${row.sequence},` +
    `"session_version":${row.session_version},"position":"${row.position}","created_at":"${rfc3339(row.created_at)}",` +
    `"schema_version":${row.schema_version},"metadata":${row.metadata}}`
  );
}
