/** What the AsyncAPI file shows of events: the story of one session, an event of each type. */

import type { SessionChangeEvent, SessionEvent } from "../events/envelope.ts";
import { exampleAgent, exampleId } from "./schemas/session-examples.ts";

interface Example {
  readonly summary: string;
  readonly event: SessionEvent;
}

interface Told {
  readonly type: SessionEvent["event_type"];
  readonly summary: string;
  readonly payload: SessionEvent["payload"];
  /** What runtimes report leaves the session's version as it is. */
  readonly isReport?: true;
}

const owner = { agent_id: exampleAgent };

const story: readonly Told[] = [
  {
    type: "session.created",
    summary: "A session was created",
    payload: { ...owner, session_type: "development", runtime_backend: "local", phase: "running" },
  },
  {
    type: "session.thinking",
    summary: "An iteration began",
    payload: { iteration: 1, tools_used: ["read_file"] },
    isReport: true,
  },
  {
    type: "session.terminal",
    summary: "A command ran",
    payload: { command: "npm test", output: "12 passed", error: null, exit_code: 0 },
    isReport: true,
  },
  {
    type: "session.file_change",
    summary: "A file was changed",
    payload: { path: "src/modal.ts", action: "modified" },
    isReport: true,
  },
  {
    type: "session.error",
    summary: "Something went wrong",
    payload: { message: "The API did not answer", stats: { retries: 2 } },
    isReport: true,
  },
  {
    type: "session.review_requested",
    summary: "A runtime reported something under a word of its own",
    payload: { pull_request: 42 },
    isReport: true,
  },
  {
    type: "session.updated",
    summary: "It was paused, with a checkpoint",
    payload: {
      ...owner,
      status: "paused",
      updates: ["status", "phase", "checkpoint"],
      phase: "paused",
      from: "running",
      to: "paused",
    },
  },
  {
    type: "session.completion",
    summary: "The agent said that it is done",
    payload: { message: "Implemented the modal", stats: { files_changed: 3 } },
    isReport: true,
  },
  { type: "session.deleted", summary: "It was deleted", payload: { ...owner, status: "paused", phase: "paused" } },
  {
    type: "session.restored",
    summary: "It was restored",
    payload: { ...owner, status: "paused", phase: "paused", updates: [] },
  },
  { type: "session.purged", summary: "It was removed for good", payload: {} },
];

/** An example of each type of event, in the order in which they could have happened. */
export const eventExamples: readonly Example[] = story.map(({ type, summary, payload }, at) => {
  const event = {
    event_type: type,
    aggregate_type: "session",
    aggregate_id: exampleId,
    payload,
    event_id: `0198c0de-7c4a-7b1e-9d53-2f1f6f3c8b${10 + at}`,
    sequence: at + 1,
    session_version: story.slice(0, at + 1).filter(({ isReport }) => isReport !== true).length,
    position: String(1_041 + 7 * at),
    created_at: `2026-01-31T09:30:${10 + at}.123456Z`,
    schema_version: 1,
    metadata: { request_id: `6f1c2a9e-1f43-4a57-9f0e-6d1f3a1f2b${10 + at}`, correlation_id: "deploy-42" },
  };
  // Type and payload belong together by the story; a test validates each against its schema.
  return { summary, event: event as SessionEvent };
});

/** The first of the changes, as the stream carries it. */
export const streamExample = flat(eventExamples[0]?.event as SessionChangeEvent);

/** An event as an entry of the stream: every field a string, so that any client of consumer groups can read it. */
function flat({ payload, metadata, ...rest }: SessionChangeEvent): Record<string, string> {
  const { event_id, event_type, aggregate_type, aggregate_id } = rest;
  return {
    event_id,
    event_type,
    aggregate_type,
    aggregate_id,
    sequence: String(rest.sequence),
    session_version: String(rest.session_version),
    position: rest.position,
    created_at: rest.created_at,
    schema_version: String(rest.schema_version),
    payload: JSON.stringify(payload),
    metadata: JSON.stringify(metadata),
  };
}
