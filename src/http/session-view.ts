/** What a list tells of each session: all, some fields, or what a table of sessions shows. */

import { textsWithin } from "../json.ts";
import type { FoundRow } from "../sessions/find-statement.ts";
import { largeDocuments } from "../sessions/row.ts";
import type { Vocabulary } from "../sessions/vocabulary.ts";
import { sessionText } from "./session-text.ts";

export interface ViewAsked {
  readonly view?: "full" | "summary" | undefined;
  readonly fields?: readonly string[] | undefined;
  readonly vocabulary?: Vocabulary | undefined;
}

const large: readonly string[] = largeDocuments;

/** Whether the large documents of sessions are needed for it. */
export function showsDocuments({ view, fields }: ViewAsked): boolean {
  return view !== "summary" && (fields === undefined || fields.some((name) => large.includes(name)));
}

/** A page of sessions as JSON text: a bare array. Fields stand in the order of the Session schema. */
export function viewText(rows: readonly FoundRow[], asked: ViewAsked): string {
  return `[${rows.map((row) => rowText(row, asked)).join(",")}]`;
}

/** What is shown of a field that is not set. */
const unset: ReadonlySet<string> = new Set(["null", "{}", "[]"]);

function rowText(row: FoundRow, { view = "full", fields, vocabulary }: ViewAsked): string {
  const text = sessionText(row, vocabulary);
  if (view === "full" && fields === undefined) return text;
  const isShown = (name: string, value: string) =>
    (fields === undefined || fields.includes(name)) &&
    (view === "full" || (!large.includes(name) && !unset.has(value)));
  const shown = [...textsWithin(text)].filter(([name, value]) => isShown(name, value));
  if (view === "summary" && fields === undefined) {
    shown.push(
      ["checkpoint_bytes", `${row.checkpoint_bytes}`],
      ["runtime_metadata_bytes", `${row.runtime_metadata_bytes}`],
    );
  }
  return `{${shown.map(([name, value]) => `"${name}":${value}`).join(",")}}`;
}
