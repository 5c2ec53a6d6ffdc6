/**
 * Changing sessions: what a request wants of a session, and what came of it. Nothing is read first and written later, so no
 * two writers can undo each other (see change-statement.ts).
 */

import type { Queries } from "../db/client.ts";
import { errors } from "../errors.ts";
import { inputText, type SessionChange } from "./change-input.ts";
import { changeOne } from "./change-one.ts";
import { type Variant, variants } from "./change-parts.ts";
import { changeStatement, leanChangeStatement } from "./change-statement.ts";
import { eventMetadata, type RequestContext } from "./context.ts";
import { type EditRefusal, editRefusal } from "./context-edit.ts";
import type { ExternalIdTaken } from "./external-id.ts";
import { overtaken } from "./labels.ts";
import type { Phase } from "./lifecycle.ts";
import { readSessions } from "./read.ts";
import type { SessionRow } from "./row.ts";

export type ChangeResult =
  /**
   * `changed` is false when everything was as asked already: no new version, no event. `from` is the phase that the
   * session had before.
   */
  | { readonly outcome: "ok"; readonly changed: boolean; readonly from: Phase; readonly session: SessionRow }
  | { readonly outcome: "not_found" }
  /** The session has a version that was not expected. */
  | { readonly outcome: "stale" }
  /** The lease of that token is over. */
  | { readonly outcome: "lease_lost" }
  /** The session would have more of these than it may. */
  | { readonly outcome: "too_many_stats" | "too_many_gauges" | "too_many_labels" }
  /** What was to be done to the context can't be, or what a merge would make is too large. */
  | EditRefusal
  | ExternalIdTaken
  /** The session's phase does not lead to the one asked for. */
  | { readonly outcome: "conflict"; readonly from: Phase };

type Form = "whole" | "wholeSkipping" | "lean";

/** Of the statement, the least that does what a change asks for; changes that share a batch need the same. */
export function variantOf(change: SessionChange): Variant {
  if (change.details?.has("labels") === true) return "labels";
  const { contextEdit, changeSummary, merges } = change;
  if (contextEdit !== undefined || changeSummary !== undefined || merges === true) return "edit";
  if (more.some((name) => change[name] !== undefined)) return "all";
  if (change.state !== undefined || change.autoResume !== undefined) return "state";
  const { context, checkpoint, runtimeBackend, runtimeMetadata } = change;
  if (runtimeBackend !== undefined || runtimeMetadata !== undefined) return "documents";
  if (context === undefined) return "checkpoint";
  return checkpoint === undefined ? "context" : "documents";
}

/** What the lean statements do not do. */
const more = [
  "foundBy",
  "settings",
  "details",
  "error",
  "result",
  "stats",
  "statsSet",
  "statsMax",
  "clearStats",
] as const satisfies readonly (keyof SessionChange)[];

/** Whether it gives the session an external id, which another one may have. */
export function setsExternalId({ settings }: SessionChange): boolean {
  return settings?.external_id != null;
}

const statements = Object.fromEntries(
  variants.map((variant) => [
    variant,
    {
      whole: changeStatement(variant, false),
      wholeSkipping: changeStatement(variant, true),
      lean: leanChangeStatement(variant),
    },
  ]),
) as Readonly<Record<Variant, Readonly<Record<Form, string>>>>;

type ResultRow = SessionRow & {
  readonly asked_id: string;
  readonly outcome: Exclude<ChangeResult["outcome"], "external_id_taken"> | typeof overtaken;
  readonly changed: boolean;
  readonly from_phase: Phase;
  /** JSON text, where the session is edited and that fails. */
  readonly context_failure?: string | null;
};

interface Asked {
  readonly context: RequestContext;
  readonly input: SessionChange;
}

/**
 * Changes sessions, each for itself, and appends a `session.updated` event for each that really changed.
 *
 * @param asked of one namespace and one variant, at most one change a session
 * @param wait whether to wait for a session that somebody else is changing
 * @returns a result for each change, in their order; undefined, where it was not to wait, for a session that somebody
 * else is changing, or has just changed the labels of, or that does not exist
 * @throws database_unavailable, where it was to wait, when others change the labels of a session again and again
 */
export async function updateSessions(
  database: Queries,
  asked: readonly Asked[],
  { wait = true }: { readonly wait?: boolean } = {},
): Promise<(ChangeResult | undefined)[]> {
  const [first] = asked;
  if (first === undefined) return [];
  const rows = await (wait ? runUntilDone(database, asked) : run(database, asked, "wholeSkipping"));
  const unchanged = await readUnchanged(database, first.context, [...rows.values()]).catch((error: unknown) => {
    // The others of the set have been changed, and are to be told so.
    if (wait) throw error;
    return undefined;
  });
  return asked.map(({ input }) => {
    const row = rows.get(input.id.toLowerCase());
    if (!wait && (row?.outcome === "not_found" || row?.outcome === overtaken)) return undefined;
    if (row?.outcome === "ok" && !row.changed && unchanged === undefined) return undefined;
    return resultOf(row, unchanged?.get(row?.asked_id ?? "") ?? row);
  });
}

/**
 * Makes those of the changes that are to be made, in a statement that costs less and waits for nobody.
 *
 * @param asked as for `updateSessions`
 * @returns a result for each change that was made, in their order. Undefined for the others, which did nothing: they must
 * wait, or are refused, or change nothing, as `updateSessions` can say.
 */
export async function makeChanges(database: Queries, asked: readonly Asked[]): Promise<(ChangeResult | undefined)[]> {
  const [first] = asked;
  if (first === undefined) return [];
  const variant = variantOf(first.input);
  if (asked.length === 1 && (variant === "checkpoint" || variant === "context")) {
    const { context, input } = first;
    const document = input[variant];
    if (document !== undefined) {
      const session = await changeOne(database, context, variant, document, input);
      return [session && { outcome: "ok", changed: true, from: session.phase, session }];
    }
  }
  const rows = await run(database, asked, "lean");
  return asked.map(({ input }) => {
    const row = rows.get(input.id.toLowerCase());
    return row && resultOf(row, row);
  });
}

/** Whoever overtakes has changed the labels, so this many were faster, one after the other: in a transaction it is once. */
const mostOvertakings = 100;

async function runUntilDone(database: Queries, asked: readonly Asked[]): Promise<ReadonlyMap<string, ResultRow>> {
  const rows = new Map(await run(database, asked, "whole"));
  const isOvertaken = ({ input }: Asked) => rows.get(input.id.toLowerCase())?.outcome === overtaken;
  for (let times = 1; ; times++) {
    const again = asked.filter(isOvertaken);
    if (again.length === 0) return rows;
    if (times > mostOvertakings) throw errors.databaseUnavailable("Too many changes of the same labels at once.");
    for (const [id, row] of await run(database, again, "whole")) rows.set(id, row);
  }
}

async function run(database: Queries, asked: readonly Asked[], form: Form): Promise<ReadonlyMap<string, ResultRow>> {
  const [first] = asked;
  if (first === undefined) return new Map();
  const parameters = [
    first.context.namespace,
    `{${asked.map(({ input }) => input.id).join(",")}}`,
    `[${asked.map(({ context, input }) => inputText(input, eventMetadata(context))).join(",")}]`,
  ];
  // Who sets the same external id is waited for.
  const neverWaits = form !== "whole" && !asked.some(({ input }) => setsExternalId(input));
  const rows = await database.query<ResultRow>(statements[variantOf(first.input)][form], parameters, { neverWaits });
  return new Map(rows.map((row) => [row.asked_id, row]));
}

/** What did not change is read after it was looked at: it may have been changed, or deleted, by then. */
async function readUnchanged(
  database: Queries,
  context: RequestContext,
  rows: readonly ResultRow[],
): Promise<ReadonlyMap<string, SessionRow>> {
  const ids = rows.filter(({ outcome, changed }) => outcome === "ok" && !changed).map((row) => row.asked_id);
  const sessions = ids.length === 0 ? [] : await readSessions(database, context, ids);
  return new Map(sessions.map((session) => [session.id, session]));
}

function resultOf(row: ResultRow | undefined, session: SessionRow | undefined): ChangeResult {
  switch (row?.outcome) {
    case "ok":
      if (session?.id == null) return { outcome: "not_found" };
      return { outcome: "ok", changed: row.changed, from: row.from_phase, session };
    case "stale":
    case "lease_lost":
    case "too_many_stats":
    case "too_many_gauges":
    case "too_many_labels":
      return { outcome: row.outcome };
    case "context_too_large":
    case "document_too_large":
    case "json_patch_failed":
    case "json_patch_test_failed":
    case "not_a_number":
    case "too_many_numbers":
    case "number_out_of_range":
      return editRefusal(row.context_failure);
    case "conflict":
      return { outcome: "conflict", from: row.from_phase };
    default:
      return { outcome: "not_found" };
  }
}
