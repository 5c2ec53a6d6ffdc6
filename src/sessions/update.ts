/**
 * Changing sessions: what a request wants of a session, and what came of it. Nothing is read first and written later, so no
 * two writers can undo each other (see change-statement.ts).
 */

import type { Queries } from "../db/client.ts";
import { errors } from "../errors.ts";
import type { Target } from "./actions.ts";
import { changeOne } from "./change-one.ts";
import { type Variant, variants } from "./change-parts.ts";
import { changeStatement, leanChangeStatement } from "./change-statement.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";
import { type ContextEdit, type EditRefusal, editRefusal } from "./context-edit.ts";
import type { ExternalIdTaken } from "./external-id.ts";
import type { Details, Outcome, Settings } from "./fields.ts";
import { overtaken } from "./labels.ts";
import { type Phase, phasesThatMayEnter } from "./lifecycle.ts";
import { readSessions } from "./read.ts";
import type { SessionRow } from "./row.ts";

/** What to change; what is undefined stays. Documents are JSON texts of objects. */
export interface SessionChange extends Outcome {
  readonly id: string;
  /** By which it was found: a session that does not have it any more is not the one that was meant. */
  readonly foundBy?: string | undefined;
  /** The versions that If-Match names; undefined: any. */
  readonly expectedVersions?: readonly number[] | undefined;
  /** The fencing token of the lease that the writer believes to hold: it is then renewed, or the change refused. */
  readonly leaseToken?: number | undefined;
  readonly state?: Target | undefined;
  /** Why the session goes to another phase; says nothing when it does not. */
  readonly reason?: string | undefined;
  /** The phases in which it leaves a last checkpoint, where its context has changed since the one before. */
  readonly finalPhases?: readonly Phase[] | undefined;
  /** Whether a session that is paused by this, or has been set aside already, may be claimed again. */
  readonly autoResume?: boolean | undefined;
  readonly context?: string | undefined;
  readonly contextEdit?: ContextEdit | undefined;
  /** How many bytes it may make of the context. */
  readonly contextLimit?: number | undefined;
  /** What the change of the context is about, for its event. */
  readonly changeSummary?: string | undefined;
  /** null clears it. */
  readonly checkpoint?: string | null | undefined;
  readonly runtimeBackend?: string | undefined;
  readonly runtimeMetadata?: string | undefined;
  readonly settings?: Settings | undefined;
  readonly details?: Details | undefined;
}

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
  /** The session would have more of these figures than it may. */
  | { readonly outcome: "too_many_stats" | "too_many_gauges" }
  /** What was to be done to the context can't be. */
  | EditRefusal
  | ExternalIdTaken
  /** The session's phase does not lead to the one asked for. */
  | { readonly outcome: "conflict"; readonly from: Phase };

type Form = "whole" | "wholeSkipping" | "lean";

/** Of the statement, the least that does what a change asks for; changes that share a batch need the same. */
export function variantOf(change: SessionChange): Variant {
  if (change.details?.has("labels") === true) return "labels";
  if (change.contextEdit !== undefined || change.changeSummary !== undefined) return "edit";
  if (hasMore(change)) return "all";
  if (change.state !== undefined || change.autoResume !== undefined) return "state";
  const { context, checkpoint, runtimeBackend, runtimeMetadata } = change;
  if (runtimeBackend !== undefined || runtimeMetadata !== undefined) return "documents";
  if (context === undefined) return "checkpoint";
  return checkpoint === undefined ? "context" : "documents";
}

function hasMore({
  foundBy,
  settings,
  details,
  error,
  result,
  stats,
  statsSet,
  statsMax,
  clearStats,
}: SessionChange): boolean {
  return !(
    foundBy === undefined &&
    settings === undefined &&
    details === undefined &&
    error === undefined &&
    result === undefined &&
    stats === undefined &&
    statsSet === undefined &&
    statsMax === undefined &&
    clearStats === undefined
  );
}

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
  /** JSON text, where the context is edited and that fails. */
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

function inputText(change: SessionChange, metadata: string): string {
  const { state, details } = change;
  const fields = JSON.stringify({
    id: change.id,
    found_by: change.foundBy,
    event_id: newId(),
    expected: change.expectedVersions,
    lease_token: change.leaseToken,
    enter: state?.entry,
    unless_held: state?.entryUnlessHeld,
    means: state?.means,
    allowed: state && (state.allowed ?? phasesThatMayEnter(state.entryUnlessHeld ?? state.entry)),
    new_attempt: state?.newAttempt,
    reason: change.reason,
    auto_resume: change.autoResume,
    final_phases: change.finalPhases,
    set_checkpoint: change.checkpoint !== undefined,
    runtime_backend: change.runtimeBackend,
    settings: change.settings,
    details_cleared: details && [...details].filter(([, text]) => text === "null").map(([name]) => name),
    set_error: change.error !== undefined,
    set_result: change.result !== undefined,
    clear_stats: change.clearStats,
    change_summary: change.changeSummary,
    context_limit: change.contextLimit,
  });
  const documents = {
    metadata,
    context: change.context,
    ...change.contextEdit,
    checkpoint: change.checkpoint,
    runtime_metadata: change.runtimeMetadata,
    details: details && detailsText(details),
    error: change.error,
    result: change.result,
    stats: change.stats,
    stats_set: change.statsSet,
    stats_max: change.statsMax,
  };
  const members = Object.entries(documents)
    .filter(([, text]) => text !== undefined)
    .map(([name, text]) => `"${name}":${text}`);
  return `${fields.slice(0, -1)},${members.join(",")}}`;
}

/** Details that are set, as JSON text of one object; those that are cleared are left out. */
export function detailsText(details: Details): string {
  const members = [...details].filter(([, text]) => text !== "null").map(([name, text]) => `"${name}":${text}`);
  return `{${members.join(",")}}`;
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
      return { outcome: row.outcome };
    case "context_too_large":
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
