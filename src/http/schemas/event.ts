/** Reading events, on the wire: what may be asked for, and what comes. */

import { z } from "zod";
import { changeEvents, eventSchema } from "../../events/envelope.ts";
import { eventExamples } from "../asyncapi-examples.ts";
import { readInstant } from "../instant.ts";
import { enumMeta } from "./common.ts";
import { listQuerySchema } from "./list-sessions.ts";
import { exampleId } from "./session-examples.ts";
import { several } from "./several.ts";
import { vocabularySchema } from "./state-words.ts";

const once = { error: "must be given once" };

const word = /^[a-z][a-z0-9_]{0,63}$/;

const eventTypes = several((text) => {
  const name = text.replace(/^session\./, "");
  return word.test(name) ? name : undefined;
}, "must be types of events, such as session.updated or thinking").meta({
  description:
    "Only events of these types, with or without the prefix `session.`; several are repeated, or separated by commas. " +
    "With a vocabulary, the names are those that it gives.",
  type: "array",
  items: { type: "string" },
  examples: [["session.created", "session.updated"]],
});

const aggregateIds = several(
  (text) => (z.guid().safeParse(text).success ? text.toLowerCase() : undefined),
  "must be UUIDs",
).meta({
  description: "Only events of these sessions; several are repeated, or separated by commas.",
  type: "array",
  items: { type: "string", format: "uuid" },
  examples: [[exampleId]],
});

const instant = (description: string) =>
  z
    .string(once)
    .transform((text, context) => {
      const read = readInstant(text);
      if (read === undefined) {
        context.addIssue({ code: "custom", message: "must be a time such as 2026-01-31T09:30:00Z (RFC 3339)" });
      }
      return read;
    })
    .optional()
    .meta({ description, format: "date-time", examples: ["2026-01-31T09:30:00Z"] });

const vocabularyParameter = vocabularySchema.optional().meta({
  description:
    "Tells events in the words of this vocabulary, and reads `event_type` as such: transitions are `state_changed` with " +
    "`from`, `to` and `reason`; what a runtime reported has no prefix.",
  examples: ["coding"],
});

/** Which events, of all sessions: for a list or a stream. */
export const eventFilterShape = {
  event_type: eventTypes,
  aggregate_id: aggregateIds,
  created_after: instant("Only events of this time or later."),
  created_before: instant("Only events before this time."),
  vocabulary: vocabularyParameter,
};

const { aggregate_id: _ofOneSession, ...sessionFilterShape } = eventFilterShape;

/** Which events, of one session. */
export const sessionEventFilterShape = sessionFilterShape;

export const afterParameter = z
  .string(once)
  .optional()
  .meta({
    description:
      "Only events after this one: its `position`. Without it, from the oldest that is kept. 410 when events after it " +
      "have been removed because of their age, or when no event ever had it.",
    examples: ["4711"],
  });

const orderSchema = z
  .enum(["asc", "desc"], { error: "must be asc or desc" })
  .meta({ id: "EventOrder", ...enumMeta("Which events come first.", { asc: "the oldest", desc: "the newest" }) });

const pages = {
  after: afterParameter,
  order: orderSchema.optional().meta({
    description: "Which events come first.",
    default: "asc",
    examples: ["desc"],
  }),
  limit: listQuerySchema.shape.limit.meta({
    description: "How many events at most. More than 1000 is served as 1000; the next page is linked.",
  }),
  cursor: listQuerySchema.shape.cursor,
};

export const eventsQuerySchema = z.object({ ...eventFilterShape, ...pages }).meta({ id: "ListEventsQuery" });

export const sessionEventsQuerySchema = z
  .object({
    ...sessionFilterShape,
    ...pages,
    include_deleted: z
      .string(once)
      .refine((text) => /^(true|false)$/i.test(text), { error: "must be true or false" })
      .transform((text) => text.toLowerCase() === "true")
      .optional()
      .meta({
        // It comes as text; clients that are generated shall pass a boolean.
        type: "boolean",
        default: false,
        description: "Answers for a session that was deleted too, instead of with 404.",
        examples: [true],
      }),
  })
  .meta({ id: "ListSessionEventsQuery" });

const [createdSchema] = changeEvents;
const { event_type: _type, payload: _payload, ...envelope } = createdSchema.shape;

const vocabularyWord = z.string().describe("A word of the vocabulary.");

const stateChangedSchema = z
  .object({
    event_type: z.literal("state_changed").describe("What happened."),
    ...envelope,
    payload: z
      .object({
        from: vocabularyWord,
        to: vocabularyWord,
        reason: z.string().nullable().describe("Why, where that is known."),
      })
      .describe("What is told of it."),
  })
  .meta({ id: "StateChanged", description: "With a vocabulary: the session went from one of its states to another." });

const plainReportSchema = z
  .object({
    event_type: z.string().regex(word).describe("The word that it was reported under."),
    ...envelope,
    payload: z.record(z.string(), z.unknown()).describe("What was reported."),
  })
  .meta({ id: "Reported", description: "With a vocabulary: what a runtime reported, under its own name." });

const [firstExample, ...otherExamples] = eventExamples.map(({ event }) => event);

export const eventListSchema = z.array(z.union([eventSchema, stateChangedSchema, plainReportSchema])).meta({
  id: "EventList",
  description: "A page of events; the last two kinds come with a vocabulary only.",
  namedExamples: {
    page: { summary: "The beginning of a session", value: [firstExample, ...otherExamples.slice(0, 2)] },
  },
});
