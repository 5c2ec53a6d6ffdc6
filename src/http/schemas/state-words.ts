/** The words for a session's state on the wire: those that answers say, and those that bodies and filters take. */

import { z } from "zod";
import { initialPhases, type Phase, phaseMeaning, phases, statuses, statusMeaning } from "../../sessions/lifecycle.ts";
import {
  knownWords,
  readWord,
  type Vocabulary,
  vocabularies,
  type Word,
  type WordField,
} from "../../sessions/vocabulary.ts";
import { enumMeta, oneOf } from "./common.ts";
import { several } from "./several.ts";

export const statusSchema = z
  .enum(statuses)
  .meta({ id: "SessionStatus", ...enumMeta("What has become of the session.", statusMeaning) });

export const phaseSchema = z
  .enum(phases, { error: oneOf(phases) })
  .meta({ id: "SessionPhase", ...enumMeta("Where the session is, finer than its status.", phaseMeaning) });

const meaningOfStatus: Readonly<Record<string, string>> = statusMeaning;

/** What a word means to people. */
function meaningOf({ word, means, entry }: Word): string {
  if (means.length === 1) return phaseMeaning[entry];
  return meaningOfStatus[word] ?? `any of ${means.join(", ")}`;
}

/** A client's word for a state, in any case, read into the phases that it stands for. */
function word(field: WordField, id: string, what: string, isTaken: (word: Word) => boolean = () => true) {
  const words = knownWords(field).flatMap((text) => readWord(field, text) ?? []);
  const taken = words.filter(isTaken);
  const texts = taken.map(({ word: text }) => text);
  const meanings = Object.fromEntries(taken.map((known) => [known.word, meaningOf(known)]));
  const spelled = (text: unknown) => (typeof text === "string" ? (readWord(field, text)?.word ?? text) : text);
  const schema = z.enum(texts, { error: oneOf(texts) }).meta({ id, ...enumMeta(what, meanings) });
  return z.preprocess(spelled, schema).transform((known) => readWord(field, known) as Word);
}

const startsIn = ({ entry }: Word) => (initialPhases as readonly Phase[]).includes(entry);

/** How a new session may say what it starts as. */
export const initialStateShape = {
  status: word(
    "status",
    "InitialStatus",
    "What a session starts as, in any case: `active`, unless said otherwise. The words of `phase` and `state` are taken too.",
    startsIn,
  ).nullish(),
  phase: word(
    "phase",
    "InitialPhase",
    "What a session starts as, finer than its status: `running`, unless said otherwise.",
    startsIn,
  ).nullish(),
  state: word(
    "state",
    "InitialState",
    "What a session starts as, in a container platform's words; those of `status` and `phase` are taken too.",
    startsIn,
  ).nullish(),
};

/** How a change may say what a session shall be. */
export const targetStateShape = {
  status: word(
    "status",
    "TargetStatus",
    "What a session shall be, in any case. The words of `phase` and `state` are taken too.",
  ).nullish(),
  phase: word(
    "phase",
    "TargetPhase",
    "What a session shall be, finer than its status, in any case. The words of `status` and `state` are taken too.",
  ).nullish(),
  state: word(
    "state",
    "TargetState",
    "What a session shall be, in a container platform's words, in any case; those of `status` and `phase` are taken too.",
  ).nullish(),
};

/** A body that may say in three ways what a session shall be. */
export interface AsksForState {
  readonly status?: Word | null | undefined;
  readonly phase?: Word | null | undefined;
  readonly state?: Word | null | undefined;
}

const finestFirst = ["phase", "state", "status"] as const;

/** What a body asks a session to be: the finest of what it says. Undefined when it says nothing. */
export function askedState(body: AsksForState): Word | undefined {
  return body.phase ?? body.state ?? body.status ?? undefined;
}

/** Adds an issue for each word of the body that the finest one contradicts. For `superRefine`. */
export function refuseContradiction(body: AsksForState, context: z.RefinementCtx): void {
  const [finest, ...others] = finestFirst.flatMap((field) => {
    const said = body[field];
    return said ? [{ field, said }] : [];
  });
  for (const { field, said } of others) {
    if (finest === undefined || said.means.includes(finest.said.entry)) continue;
    const message = `is not within the ${field} ${said.word}`;
    context.addIssue({ code: "custom", path: [finest.field], message });
  }
}

/** A filter by the words of a field: a session passes that is in a phase of any of them. */
export function wordsParameter(field: WordField, description: string, example: readonly string[]) {
  return several((text) => readWord(field, text), `must be of ${knownWords(field).join(", ")}`).meta({
    description,
    type: "array",
    items: { type: "string" },
    examples: [example],
  });
}

const vocabularyNames = Object.keys(vocabularies) as [Vocabulary, ...Vocabulary[]];

export const vocabularySchema = z.enum(vocabularyNames, { error: oneOf(vocabularyNames) }).meta({
  id: "Vocabulary",
  ...enumMeta("Whose words for the state of a session.", {
    coding: "a coding-session manager's: pending, active, paused, completed, failed, expired",
    container: "a container platform's: INIT, READY, BUSY, IDLE, ERROR",
    operator: "a Kubernetes operator's: Pending, Creating, Running, Stopping, Stopped, Completed, Failed, Timeout",
  }),
});

/** For the query of a route that answers with sessions. */
export const vocabularyParameter = vocabularySchema.optional().meta({
  description: "Adds `state`: this vocabulary's word for the phase.",
  examples: ["container"],
});

export const vocabularyQuerySchema = z.object({ vocabulary: vocabularyParameter }).meta({ id: "SessionViewQuery" });

/** The word of an answer for who asked for a vocabulary. */
export const stateSchema = z.string().meta({
  description: "With `?vocabulary=` only: that vocabulary's word for the phase.",
  examples: ["READY"],
});
