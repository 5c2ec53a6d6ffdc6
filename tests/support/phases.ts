/** The phases and everybody's words for them, as the design writes them: a second source to compare the service with. */

import type { Phase } from "../../src/sessions/lifecycle.ts";

const table = `
  phase          status     coding     container  operator
  pending        active     pending    INIT       Pending
  starting       active     pending    INIT       Creating
  running        active     active     READY      Running
  ready          active     active     READY      Running
  busy           active     active     BUSY       Running
  waiting_input  active     active     BUSY       Running
  stopping       active     active     READY      Stopping
  paused         paused     paused     IDLE       Stopped
  idle           paused     paused     IDLE       Stopped
  stopped        paused     paused     IDLE       Stopped
  completed      completed  completed  IDLE       Completed
  failed         crashed    failed     ERROR      Failed
  crashed        crashed    failed     ERROR      Failed
  expired        crashed    expired    ERROR      Failed
  timed_out      crashed    expired    ERROR      Timeout`;

const columns = ["phase", "status", "coding", "container", "operator"] as const;
export type DesignColumn = (typeof columns)[number];

export type DesignRow = Readonly<Record<Exclude<DesignColumn, "phase">, string>> & { readonly phase: Phase };

export const designVocabularies = ["coding", "container", "operator"] as const;

/** One row for each phase. */
export const designRows: readonly DesignRow[] = table
  .trim()
  .split("\n")
  .slice(1)
  .map(
    (line) =>
      Object.fromEntries(
        line
          .trim()
          .split(/\s+/)
          .map((word, at) => [columns[at], word]),
      ) as DesignRow,
  );

/** The phase that a word leads to, where it is not the phase of that name. */
const entries: Readonly<Record<string, Phase>> = {
  active: "running",
  INIT: "pending",
  READY: "ready",
  IDLE: "idle",
  BUSY: "busy",
  ERROR: "failed",
  Creating: "starting",
  Timeout: "timed_out",
};

/** Whose word comes first in which field. */
const order = {
  status: ["status", "phase", "coding", "operator", "container"],
  phase: ["phase", "operator", "status", "coding", "container"],
  state: ["container", "status", "phase", "coding", "operator"],
} as const satisfies Readonly<Record<string, readonly DesignColumn[]>>;

export const designFields = ["status", "phase", "state"] as const;
export type DesignField = (typeof designFields)[number];

export interface DesignWord {
  readonly word: string;
  readonly means: readonly Phase[];
  readonly entry: Phase;
}

/** Every word that a field takes, each once, whatever its case. */
export function designWords(field: DesignField): readonly DesignWord[] {
  const words = new Map<string, DesignWord>();
  for (const column of order[field]) {
    for (const { [column]: word } of designRows) {
      if (words.has(word.toLowerCase())) continue;
      const means = designRows.filter((row) => row[column] === word).map(({ phase }) => phase);
      words.set(word.toLowerCase(), { word, means, entry: entries[word] ?? (word.toLowerCase() as Phase) });
    }
  }
  return [...words.values()];
}

/** Every word of every column, each once as it is spelled. */
export const allDesignWords: readonly string[] = [
  ...new Set(designRows.flatMap((row) => columns.map((column) => row[column]))),
];
