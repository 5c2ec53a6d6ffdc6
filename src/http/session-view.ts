/** What a list tells of each session: all, some fields, or what a table of sessions shows. */

import type { FoundRow } from "../sessions/find-statement.ts";
import { largeDocuments } from "../sessions/row.ts";
import type { Vocabulary } from "../sessions/vocabulary.ts";
import { sessionMembers } from "./session-members.ts";
import { arrayText, sessionsText } from "./session-text.ts";

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

/** What is shown of a field that is not set. */
const unset: ReadonlySet<string> = new Set(["null", "{}", "[]"]);

/** A page of sessions as JSON text: a bare array. Fields stand in the order of the Session schema. */
export function viewText(rows: readonly FoundRow[], { view = "full", fields, vocabulary }: ViewAsked): string {
  if (view === "full" && fields === undefined) return sessionsText(rows, vocabulary);
  const isSummary = view === "summary";
  const isShown = (name: string) =>
    (fields === undefined || fields.includes(name)) && !(isSummary && large.includes(name));
  const membersOf = sessionMembers(isShown, vocabulary);
  const rowText = (row: FoundRow) => {
    const members = membersOf(row).flatMap(([name, text]) =>
      isSummary && unset.has(text) ? [] : [`"${name}":${text}`],
    );
    if (isSummary && fields === undefined) {
      members.push(
        `"checkpoint_bytes":${row.checkpoint_bytes}`,
        `"runtime_metadata_bytes":${row.runtime_metadata_bytes}`,
      );
    }
    return `{${members.join(",")}}`;
  };
  return arrayText(rows.map(rowText));
}
