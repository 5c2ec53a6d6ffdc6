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

/** What a coding-session manager calls each phase. */
const codingWords = {
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
} as const satisfies Readonly<Record<Phase, string>>;

/** What a container platform calls each phase. */
const containerWords = {
  pending: "INIT",
  starting: "INIT",
  running: "READY",
  ready: "READY",
  busy: "BUSY",
  waiting_input: "BUSY",
  stopping: "READY",
  paused: "IDLE",
  idle: "IDLE",
  stopped: "IDLE",
  completed: "IDLE",
  failed: "ERROR",
  crashed: "ERROR",
  expired: "ERROR",
  timed_out: "ERROR",
} as const satisfies Readonly<Record<Phase, string>>;

/** What a Kubernetes operator calls each phase. */
const operatorWords = {
  pending: "Pending",
  starting: "Creating",
  running: "Running",
  ready: "Running",
  busy: "Running",
  waiting_input: "Running",
  stopping: "Stopping",
  paused: "Stopped",
  idle: "Stopped",
  stopped: "Stopped",
  completed: "Completed",
  failed: "Failed",
  crashed: "Failed",
  expired: "Failed",
  timed_out: "Timeout",
} as const satisfies Readonly<Record<Phase, string>>;

/** The vocabularies that a reader may ask for, each with its word for every phase. */
export const vocabularies = {
  coding: codingWords,
  container: containerWords,
  operator: operatorWords,
} as const satisfies Record<string, Readonly<Record<Phase, string>>>;

export type Vocabulary = keyof typeof vocabularies;

const coding = readable(codingWords, {
  pending: "pending",
  active: "running",
  paused: "paused",
  completed: "completed",
  failed: "failed",
  expired: "expired",
});

const container = readable(containerWords, {
  INIT: "pending",
  READY: "ready",
  BUSY: "busy",
  IDLE: "idle",
  ERROR: "failed",
});

const operator = readable(operatorWords, {
  Pending: "pending",
  Creating: "starting",
  Running: "running",
  Stopping: "stopping",
  Stopped: "stopped",
  Completed: "completed",
  Failed: "failed",
  Timeout: "timed_out",
});

/** The words of a vocabulary as clients may write them, each with its entry: a word without one does not compile. */
function readable<Text extends string>(
  words: Readonly<Record<Phase, Text>>,
  entries: Readonly<Record<Text, Phase>>,
): readonly Word[] {
  return Object.entries<Phase>(entries).map(([word, entry]) => ({
    word,
    means: phases.filter((phase) => words[phase] === word),
    entry,
  }));
}

/**
 * Every field takes every word. Where a word means something in two vocabularies, the first that is listed decides:
 * `crashed` as a status is four phases and as a phase one, READY as a state is the container platform's.
 */
const wordsOf = {
  status: merge(statusWords, phaseWords, coding, operator, container),
  phase: merge(phaseWords, operator, statusWords, coding, container),
  state: merge(container, statusWords, phaseWords, coding, operator),
} as const;

export type WordField = keyof typeof wordsOf;

function merge(...lists: readonly (readonly Word[])[]): ReadonlyMap<string, Word> {
  const words = new Map<string, Word>();
  for (const word of lists.flat()) {
    const key = word.word.toLowerCase();
    if (!words.has(key)) words.set(key, word);
  }
  return words;
}

/**
 * What a client's word means in a field, in any case and with surrounding space cut; undefined when it means nothing.
 */
export function readWord(field: WordField, text: string): Word | undefined {
  return wordsOf[field].get(text.trim().toLowerCase());
}

/** Every word that a field takes, as its vocabulary spells it, for the answer to a client that used another one. */
export function knownWords(field: WordField): string[] {
  return [...wordsOf[field].values()].map(({ word }) => word);
}
