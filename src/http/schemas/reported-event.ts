/** What runtimes report of sessions, on the wire: the words and keys in any spelling, and what belongs to them. */

import { z } from "zod";
import { changeTypes, eventSchema, reportedPayloads, reportedWord } from "../../events/envelope.ts";
import { reportExamples, reportedExamples } from "./reported-event-examples.ts";
import { leaseTokenShape } from "./session-fields.ts";

/** How many events one request may report. */
const mostEvents = 500;

const changeWords: readonly string[] = changeTypes.map((type) => type.replace("session.", ""));

/** A name in snake_case, however a client spells it: toolsUsed, TOOLS_USED, ToolsUsed, tools-used. */
export function snakeCase(name: string): string {
  const hasLowerCase = /[a-z]/.test(name);
  const apart = hasLowerCase ? name.replace(/([a-z0-9])(?=[A-Z])|([A-Z])(?=[A-Z][a-z])/g, "$1$2_") : name;
  // Letters of other alphabets are left alone: of some, the lower case is an ASCII letter.
  return apart.replaceAll("-", "_").replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

/** What stands behind `session.` in the type of a reported event; undefined when a client's word can't. */
export function readReportedWord(text: string): string | undefined {
  const word = snakeCase(text.replace(/^session\./i, ""));
  return reportedWord.test(word) ? word : undefined;
}

function isKnown(word: string): word is keyof typeof reportedPayloads {
  return Object.hasOwn(reportedPayloads, word);
}

/** A name without what spellings differ in: quick to make, for a payload may have very many keys. */
function bare(name: string): string {
  return name.toLowerCase().replaceAll("_", "").replaceAll("-", "");
}

/** For each known word, the known keys of its payload by their bare names. */
const keysByBareName = new Map(
  Object.entries(reportedPayloads).map(([word, { shape }]) => [
    word,
    new Map(Object.keys(shape).map((key) => [bare(key), key])),
  ]),
);

/** The known keys of a payload as it spells them, each with the key that is meant; all others stay as they are. */
export function spelledKeys(word: string, payload: object): readonly (readonly [spelled: string, key: string])[] {
  const found: [string, string][] = [];
  const known = keysByBareName.get(word);
  if (known === undefined) return found;
  for (const spelled of Object.keys(payload)) {
    const key = known.get(bare(spelled));
    if (key !== undefined && snakeCase(spelled) === key) found.push([spelled, key]);
  }
  return found;
}

type Names = { readonly [key in "event_type" | "type" | "eventType"]?: string | null | undefined };

/** The word of an event that has passed its schema. */
export function wordOf({ event_type, type, eventType }: Names): string {
  return readReportedWord(event_type ?? type ?? eventType ?? "") ?? "";
}

type Problem = readonly [path: readonly PropertyKey[], message: string];

/** What is wrong with the name of an event's type, wherever it stands. */
function nameProblem(names: Names): Problem | undefined {
  const [first, second] = (["event_type", "type", "eventType"] as const).filter((key) => names[key] != null);
  if (first === undefined) return [["event_type"], "is required: what happened, in a word such as thinking"];
  if (second !== undefined) return [[second], `says again what ${first} says; send one of them`];
  const word = readReportedWord(names[first] ?? "");
  if (word === undefined) return [[first], "must be a word of at most 64 letters, digits and underscores"];
  if (word === "message") return [[first], "messages are not posted here: they get an endpoint of their own"];
  if (changeWords.includes(word)) return [[first], "is a change, of which the service itself tells"];
  return undefined;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function payloadProblems(word: string, payload: unknown): Problem[] {
  if (!isKnown(word) || !isObject(payload)) return [];
  const spellings = spelledKeys(word, payload);
  const spelledAs = new Map(spellings.map(([spelled, key]) => [key, spelled]));
  const twice = spellings.filter(([spelled, key]) => spelledAs.get(key) !== spelled);
  if (twice.length > 0) {
    return twice.map(([spelled, key]) => [[spelled], `is the same key as ${spelledAs.get(key)}; send one of them`]);
  }
  const read = reportedPayloads[word].safeParse(
    Object.fromEntries(spellings.map(([spelled, key]) => [key, payload[spelled]])),
  );
  return (read.error?.issues ?? []).map(({ path: [key = "", ...rest], message }): Problem => {
    const spelled = spelledAs.get(String(key));
    return [[spelled ?? key, ...rest], spelled === undefined ? "is required" : message];
  });
}

const name = (description: string) => z.string({ error: "must be a text" }).nullish().meta({ description });

const payloadSchema = z
  .unknown()
  .refine(isObject, { error: "must be a JSON object" })
  .meta({
    description:
      "What is known of it, 256 KiB at most. `thinking`: iteration, tools_used; `terminal`: command, output, error, " +
      "exit_code; `file_change`: path, action; `completion` and `error`: message, stats. These keys are taken in " +
      "camelCase and upper case too; all others are kept as they are.",
    type: "object",
    additionalProperties: true,
    examples: [{ iteration: 3, tools_used: ["read_file"] }],
  });

const reportedEventSchema = z
  .object({
    event_type: name(
      "What happened: `thinking`, `terminal`, `file_change`, `completion`, `error`, or any other word but `message` " +
        "and those of changes. Any case will do, and `session.` before it.",
    ),
    type: name("In place of event_type."),
    eventType: name("In place of event_type."),
    payload: payloadSchema.nullish(),
    ...leaseTokenShape,
  })
  .superRefine(({ payload, lease_token: _, ...names }, context) => {
    const wrongName = nameProblem(names);
    const problems = wrongName
      ? [wrongName]
      : payloadProblems(wordOf(names), payload ?? {}).map(
          ([path, message]): Problem => [["payload", ...path], message],
        );
    for (const [path, message] of problems) context.addIssue({ code: "custom", path: [...path], message });
  })
  .meta({ id: "ReportedEvent", description: "Something that a runtime reports of a session." });

export const reportSchema = z
  .union(
    [
      reportedEventSchema,
      z
        .array(reportedEventSchema)
        .min(1, { error: "must have one event at least" })
        .max(mostEvents, { error: `must have at most ${mostEvents} events` }),
    ],
    { error: "must be an event or an array of events" },
  )
  .meta({
    id: "Report",
    description: "One event, or an array of them, of which all are taken or none.",
    namedExamples: reportExamples,
  });

export const reportedSchema = z.union([eventSchema, z.array(eventSchema)]).meta({
  id: "ReportAnswer",
  description: "The event that was reported, or all of them in an array, as they were sent: in their order.",
  namedExamples: reportedExamples,
});
