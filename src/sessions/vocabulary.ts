/**
 * Clients' words for the state of a session, and the phases they stand for. Pure.
 *
 * A word names a set of phases: a session that is in the set stays as it is, another one goes to the word's entry.
 */

import { type Phase, phases, type Status, statuses, statusOf } from "./lifecycle.ts";

export interface Word {
  /** The word as the answer spells it. */
  readonly word: string;
  /** The phases in which a session already is what the word says. */
  readonly means: readonly Phase[];
  /** The phase that a session enters which is in none of them. */
  readonly entry: Phase;
}

const entryOfStatus: Readonly<Record<Status, Phase>> = {
  active: "running",
  paused: "paused",
  completed: "completed",
  crashed: "crashed",
};

const statusWords: readonly Word[] = statuses.map((status) => ({
  word: status,
  means: phases.filter((phase) => statusOf[phase] === status),
  entry: entryOfStatus[status],
}));

const phaseWords: readonly Word[] = phases.map((phase) => ({ word: phase, means: [phase], entry: phase }));

/** The words a field takes, each once; where two agree the first one wins, so `status=crashed` is the status. */
const wordsOf = {
  status: merge(statusWords, phaseWords),
  phase: merge(phaseWords),
} as const;

export type WordField = keyof typeof wordsOf;

function merge(...lists: readonly (readonly Word[])[]): ReadonlyMap<string, Word> {
  const words = new Map<string, Word>();
  for (const word of lists.flat()) {
    if (!words.has(word.word)) words.set(word.word, word);
  }
  return words;
}

/**
 * What a client's word means in a field, in any case and with surrounding space cut; undefined when it means nothing.
 */
export function readWord(field: WordField, text: string): Word | undefined {
  return wordsOf[field].get(text.trim().toLowerCase());
}

/** Every word that a field takes, for the answer to a client that used another one. */
export function knownWords(field: WordField): string[] {
  return [...wordsOf[field].keys()];
}

/** What a coding-session manager calls each phase. */
const codingWords: Readonly<Record<Phase, string>> = {
  pending: "pending",
  starting: "pending",
  running: "active",
  ready: "active",
  busy: "active",
  waiting_input: "active",
  stopping: "active",
  paused: "paused",
  idle: "paused",
  stopped: "paused",
  completed: "completed",
  failed: "failed",
  crashed: "failed",
  expired: "expired",
  timed_out: "expired",
};

/** The vocabularies that a reader may ask for, each with its word for every phase. */
export const vocabularies = { coding: codingWords } as const satisfies Record<string, Readonly<Record<Phase, string>>>;

export type Vocabulary = keyof typeof vocabularies;
