/** Which sessions a list is of, on the wire. */

import { z } from "zod";
import { type Phase, phases } from "../../sessions/lifecycle.ts";
import type { Word, WordField } from "../../sessions/vocabulary.ts";
import { exampleAgent } from "./session-examples.ts";
import { vocabularyParameter, wordsParameter } from "./state-words.ts";

const severalWords = "Several are repeated, or separated by commas; given with another such filter, both must hold.";

const stateFilterShape = {
  status: wordsParameter(
    "status",
    `Only sessions in these states, each a status, a phase, or another word that bodies take too. ${severalWords}`,
    ["crashed"],
  ),
  phase: wordsParameter("phase", `The same, where a word that is a phase too means that phase alone. ${severalWords}`, [
    "busy",
  ]),
  state: wordsParameter("state", `The same, in a container platform's words first. ${severalWords}`, ["READY"]),
};

const largestPage = 1_000;

export const listQuerySchema = z
  .object({
    agent_id: z
      .guid({ error: "must be a UUID" })
      .optional()
      .meta({
        description: "Only this agent's sessions.",
        format: "uuid",
        examples: [exampleAgent],
      }),
    ...stateFilterShape,
    vocabulary: vocabularyParameter,
    limit: z
      .string({ error: "must be given once" })
      .refine((text) => /^\d+(e\d+)?$/i.test(text) && Number(text) > 0, {
        error: `must be a whole number from 1 to ${largestPage}`,
      })
      .transform((text) => Math.min(Number(text), largestPage))
      .optional()
      .meta({
        // It comes as text; clients that are generated shall pass a number. No maximum: more is served as the largest page.
        type: "integer",
        minimum: 1,
        default: 100,
        description: `How many sessions at most. More than ${largestPage} is served as ${largestPage}; the next page is linked.`,
        examples: [10],
      }),
    cursor: z
      .string({ error: "must be given once" })
      .optional()
      .meta({
        description: "Where the page starts: from the Link header of the page before.",
        examples: ["eyJhIjoxfQ"],
      }),
  })
  .meta({ id: "ListSessionsQuery" });

export const recoverableQuerySchema = listQuerySchema
  .pick({ agent_id: true, vocabulary: true, limit: true, cursor: true })
  .meta({ id: "ListRecoverableSessionsQuery" });

const stateFilters = ["status", "phase", "state"] as const satisfies readonly WordField[];

type StateFilter = { readonly [Field in (typeof stateFilters)[number]]?: readonly Word[] | undefined };

/** The phases that hold for every filter that was given, in the order of the table; undefined when none was given. */
export function phasesAsked(query: StateFilter): Phase[] | undefined {
  const asked = stateFilters.flatMap((field) => {
    const words = query[field];
    return words === undefined ? [] : [new Set(words.flatMap(({ means }) => means))];
  });
  return asked.length === 0 ? undefined : phases.filter((phase) => asked.every((set) => set.has(phase)));
}

/** The filters as a link repeats them. */
export function wordsAsked(query: StateFilter): Record<(typeof stateFilters)[number], string | undefined> {
  const text = (words: readonly Word[] | undefined) => words?.map(({ word }) => word).join();
  return { status: text(query.status), phase: text(query.phase), state: text(query.state) };
}
