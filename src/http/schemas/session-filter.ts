/** What sessions are looked for by, on the wire: the same words in a query and in the body of a search. */

import { z } from "zod";
import type { SessionFilter } from "../../sessions/find-query.ts";
import { type Phase, phases } from "../../sessions/lifecycle.ts";
import type { Word, WordField } from "../../sessions/vocabulary.ts";
import { readInstant } from "../instant.ts";
import { document } from "./free-form.ts";
import { exampleAgent } from "./session-examples.ts";
import { several } from "./several.ts";
import { wordsParameter } from "./state-words.ts";

const severalValues = "Several are repeated, or separated by commas.";
const severalWords = `${severalValues.slice(0, -1)}; given with another such filter, both must hold.`;

const printable = /^[^\p{C}]{1,255}$/u;

const texts = (description: string, examples: string[], isSeparated: boolean) =>
  several(
    (text) => (printable.test(text) ? text : undefined),
    "must be texts of 1 to 255 printable characters",
    isSeparated,
  ).meta({
    description: isSeparated ? `${description} ${severalValues}` : description,
    type: "array",
    items: { type: "string" },
    examples: [examples],
  });

const textError = "must be given once, with 1 to 255 printable characters";

const text = (description: string, example: string) =>
  z
    .string({ error: textError })
    .refine((given) => printable.test(given), { error: textError })
    .optional()
    .meta({ description, minLength: 1, maxLength: 255, examples: [example] });

const instant = (description: string) =>
  z
    .string({ error: "must be given once" })
    .transform((given, context) => {
      const read = readInstant(given);
      if (read === undefined) {
        context.addIssue({ code: "custom", message: "must be a time such as 2026-01-31T09:30:00Z (RFC 3339)" });
      }
      return read;
    })
    .optional()
    .meta({ description, format: "date-time", examples: ["2026-01-31T09:30:00Z"] });

// Made once: to make a schema takes longer than to parse all that a list is asked with.
const guid = z.guid();

const backends = ["local", "kubernetes", "unknown"];

/** So many labels, and values of metadata, a filter names at most. */
const mostNamed = 10;

/** `key:value` or `key`; a colon within the key is written `\:`. */
function readLabel(given: string): { key: string; value?: string } | undefined {
  const [, key = "", value] = /^((?:\\:|[^:])+)(?::(.*))?$/su.exec(given) ?? [];
  const read = key.replaceAll("\\:", ":");
  if (!printable.test(read) || (value !== undefined && value.length > 255) || value?.includes("\0")) return undefined;
  return value === undefined ? { key: read } : { key: read, value };
}

const labelError = `must be ${mostNamed} labels at most, each as key or key:value`;

const label = z
  .unknown()
  .transform((given, context) => {
    const read = [given].flat().map((one) => (typeof one === "string" ? readLabel(one) : undefined));
    if (read.includes(undefined) || read.length > mostNamed) context.addIssue({ code: "custom", message: labelError });
    return read.filter((one) => one !== undefined);
  })
  .optional()
  .meta({
    description:
      "Only sessions with this label, `key:value`, or with any value, `key`. Several are repeated; all must hold. A colon " +
      "within a key is written `\\:`.",
    type: "array",
    items: { type: "string" },
    maxItems: mostNamed,
    examples: [["team:search"]],
  });

const metadataError = `must be ${mostNamed} values at most, each a text by its path, such as metadata.team.name`;

const metadata = z
  .unknown()
  .transform((given, context) => {
    const entries = typeof given === "object" && given !== null && !Array.isArray(given) ? Object.entries(given) : [];
    const isGood = ([path, value]: [string, unknown]) =>
      typeof value === "string" && !/\0/.test(path + value) && path.split(".").every((part) => part !== "");
    if (entries.length === 0 || entries.length > mostNamed || !entries.every(isGood)) {
      context.addIssue({ code: "custom", message: metadataError });
    }
    return entries.map(([path, value]) => ({ path: path.split("."), value: String(value) }));
  })
  .optional()
  .meta({
    description:
      "Only sessions whose `metadata` has this value at the path, compared as text: `metadata.team.name=search`. Stands " +
      "beside a selective filter.",
    type: "object",
    additionalProperties: { type: "string" },
    examples: [{ "team.name": "search" }],
  });

const truth = z
  .unknown()
  .transform((given, context) => {
    if (!["true", "false"].includes(String(given)))
      context.addIssue({ code: "custom", message: "must be true or false" });
    return String(given) === "true";
  })
  .optional();

const contained = "Only sessions whose context contains this JSON object. Stands beside a selective filter.";

export const filterShape = {
  agent_id: several(
    (given) => (guid.safeParse(given).success ? given.toLowerCase() : undefined),
    "must be a UUID, or several",
  ).meta({
    description: `Only this agent's sessions. ${severalValues}`,
    // Clients that were generated when it was one give a text.
    anyOf: [
      { type: "string", format: "uuid" },
      { type: "array", items: { type: "string", format: "uuid" } },
    ],
    examples: [exampleAgent],
  }),
  status: wordsParameter(
    "status",
    `Only sessions in these states, each a status, a phase, or another word that bodies take too. ${severalWords}`,
    ["crashed"],
  ),
  phase: wordsParameter("phase", `The same, where a word that is a phase too means that phase alone. ${severalWords}`, [
    "busy",
  ]),
  state: wordsParameter("state", `The same, in a container platform's words first. ${severalWords}`, ["READY"]),
  session_type: texts("Only sessions of this type.", ["task"], true),
  runtime_backend: several(
    (given) => (backends.includes(given) ? given : undefined),
    `must be of ${backends.join(", ")}`,
  ).meta({
    description: `Only sessions that run there: ${backends.join(", ")}. ${severalValues}`,
    type: "array",
    items: { type: "string" },
    examples: [["kubernetes"]],
  }),
  name: text("Only sessions of exactly this name.", "Fix the modal"),
  name_prefix: text("Only sessions whose name begins so; no character stands for others.", "Fix"),
  external_id: text("Only the session that another system calls so.", "ticket-4711"),
  lease_owner: text("Only sessions that this worker holds.", "worker-1"),
  label,
  created_after: instant("Only sessions that were created then or later."),
  created_before: instant("Only sessions that were created before."),
  ended_after: instant("Only sessions that came to their end then or later."),
  ended_before: instant("Only sessions that came to their end before."),
  updated_after: instant("Only sessions that were changed then or later. Stands beside a selective filter."),
  updated_before: instant("Only sessions that have not changed since. Stands beside a selective filter."),
  metadata,
  context_contains: z
    .string({ error: "must be given once, as a JSON object" })
    .optional()
    .meta({ description: contained, examples: ['{"user":{"id":7}}'] }),
  include_deleted: truth.meta({
    description: "Whether deleted sessions are found too.",
    type: "boolean",
    examples: [true],
  }),
};

const filterSchema = z.object(filterShape);
type FilterAsked = Omit<z.output<typeof filterSchema>, "context_contains">;

const all = z
  .literal(true, { error: "must be true, or left out" })
  .optional()
  .meta({ description: "Says that every session is meant: without it a filter must be given.", examples: [true] });

/** The filter of a body that must not be misread: what it does not know is refused, and that none is given is said. */
export const strictFilterShape = {
  ...filterShape,
  // A list says where a type ends: one with a comma in it shall not mean two.
  session_type: texts("Only sessions of these types.", ["task"], false),
  context_contains: document(contained, { user: { id: 7 } }).optional(),
  all,
};

const isGiven = (body: Readonly<Record<string, unknown>>) =>
  body["all"] === true ||
  Object.keys(filterShape).some((name) => name !== "include_deleted" && body[name] !== undefined);

/** For `superRefine`. */
export function refuseNoFilter(body: Readonly<Record<string, unknown>>, context: z.RefinementCtx): void {
  if (isGiven(body)) return;
  context.addIssue({ code: "custom", path: ["all"], message: "must be true where no filter is given" });
}

const stateFilters = ["status", "phase", "state"] as const satisfies readonly WordField[];

type StateFilter = { readonly [Field in (typeof stateFilters)[number]]?: readonly Word[] | undefined };

/** The phases that hold for every filter that was given, in the order of the table; undefined when none was given. */
function phasesAsked(query: StateFilter): Phase[] | undefined {
  const asked = stateFilters.flatMap((field) => {
    const words = query[field];
    return words === undefined ? [] : [new Set(words.flatMap(({ means }) => means))];
  });
  return asked.length === 0 ? undefined : phases.filter((phase) => asked.every((set) => set.has(phase)));
}

/** @param contextContains its JSON text, as it was sent */
export function filterOf(asked: FilterAsked, contextContainsText: string | undefined): SessionFilter {
  return {
    agentIds: asked.agent_id,
    phases: phasesAsked(asked),
    sessionTypes: asked.session_type,
    runtimeBackends: asked.runtime_backend,
    name: asked.name,
    namePrefix: asked.name_prefix,
    externalId: asked.external_id,
    leaseOwner: asked.lease_owner,
    labels: asked.label,
    createdAfter: asked.created_after,
    createdBefore: asked.created_before,
    endedAfter: asked.ended_after,
    endedBefore: asked.ended_before,
    updatedAfter: asked.updated_after,
    updatedBefore: asked.updated_before,
    metadata: asked.metadata,
    contextContains: contextContainsText,
    includeDeleted: asked.include_deleted,
  };
}
