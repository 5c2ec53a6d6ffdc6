/** Following a session or the feed live, on the wire. */

import { z } from "zod";
import { afterParameter, eventFilterShape, sessionEventFilterShape } from "./event.ts";
import { vocabularyParameter, wordsParameter } from "./state-words.ts";

const streamAfter = afterParameter.meta({
  description:
    "Replays the events after this one (its `position`) before it goes on live; `Last-Event-ID` means the same, and " +
    "comes first. Without either, the stream starts with what happens from now on.",
  examples: ["4711"],
});

export const streamQuerySchema = z
  .object({ ...eventFilterShape, after: streamAfter })
  .meta({ id: "StreamEventsQuery" });

export const sessionStreamQuerySchema = z
  .object({ ...sessionEventFilterShape, after: streamAfter })
  .meta({ id: "StreamSessionEventsQuery" });

export const eventStreamSchema = z.string().meta({
  id: "EventStream",
  description:
    "Server-sent events: `id` is the event's position, `event` its type, `data` its envelope. Comments keep the " +
    "connection alive.",
  namedExamples: {
    stream: {
      summary: "The beginning of a stream",
      value:
        'retry: 2000\n\nid: 4711\nevent: session.created\ndata: {"event_type":"session.created","aggregate_type":"session"}\n\n',
    },
  },
});

const largestTimeout = 300;

export const waitQuerySchema = z
  .object({
    until: wordsParameter(
      "status",
      "The statuses and phases that are waited for, or other words that bodies take; several are repeated, or separated " +
        "by commas.",
      ["completed", "crashed"],
    ),
    after_version: z
      .string({ error: "must be given once" })
      .regex(/^\d{1,9}$/, { error: "must be a version: a whole number" })
      .transform(Number)
      .optional()
      .meta({
        type: "integer",
        description:
          "A version: waits for a later one. With `until`, both must hold; without either, any change will do.",
        examples: [3],
      }),
    timeout: z
      .string({ error: "must be given once" })
      .refine((text) => /^\d{1,3}(\.\d{1,3})?$/.test(text) && Number(text) <= largestTimeout, {
        error: `must be a number of seconds from 0 to ${largestTimeout}`,
      })
      .transform(Number)
      .optional()
      .meta({
        type: "number",
        minimum: 0,
        maximum: largestTimeout,
        default: 30,
        description: "How many seconds to wait at most.",
        examples: [30],
      }),
    vocabulary: vocabularyParameter,
  })
  .meta({ id: "WaitForSessionQuery" });
