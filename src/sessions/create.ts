/** Creating sessions: rows and their events, in one statement (see create-statement.ts). */

import type { Queries } from "../db/client.ts";
import { duplicateOf } from "../db/failures.ts";
import { detailsText } from "./change-input.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";
import { createOneStatement, createStatements, type Shown, type Variant } from "./create-statement.ts";
import { type ExternalIdTaken, ownersOf, takenBy } from "./external-id.ts";
import type { Details, Settings } from "./fields.ts";
import type { Phase } from "./lifecycle.ts";
import type { SessionRow } from "./row.ts";

/** What a new session starts with. Documents are JSON texts of objects. */
export interface NewSession {
  readonly agentId: string;
  readonly sessionType: string;
  readonly phase: Phase;
  readonly runtimeBackend: string;
  readonly context?: string | undefined;
  readonly checkpoint?: string | undefined;
  readonly runtimeMetadata?: string | undefined;
  readonly settings?: Settings | undefined;
  readonly details?: Details | undefined;
  readonly stats?: string | undefined;
  readonly statsMax?: string | undefined;
}

export type Creation = { readonly outcome: "ok"; readonly session: SessionRow } | ExternalIdTaken;

/** Of the statement, the least that does what is asked for; sessions that share a batch need the same. */
export function creationVariantOf({ checkpoint, settings, details, stats, statsMax }: NewSession): Variant {
  if (settings?.external_id != null) return "external";
  return [checkpoint, settings, details, stats, statsMax].every((part) => part === undefined) ? "plain" : "all";
}

interface Asked {
  readonly context: RequestContext;
  readonly input: NewSession;
}

/**
 * Creates sessions, each with its `session.created` event: all of them, but those whose external id another session has.
 *
 * @param asked all of one namespace and one variant
 * @returns what came of each, in the order of the input
 */
export async function createSessions(database: Queries, asked: readonly Asked[]): Promise<Creation[]> {
  const [first] = asked;
  if (first === undefined) return [];
  const variant = creationVariantOf(first.input);
  if (asked.length === 1 && variant === "plain") return createOne(database, first);
  // New ids: nobody else can hold a lock on them. Who creates the same external id is waited for.
  const rows = await insert<SessionRow>(database, asked, {
    variant,
    shown: "session",
    neverWaits: variant !== "external",
  });
  const refused = await takenOf(database, first.context, asked, rows);
  return rows.flatMap((session, at) => (session === undefined ? (refused[at] ?? []) : { outcome: "ok", session }));
}

async function createOne(database: Queries, { context, input }: Asked): Promise<Creation[]> {
  const { agentId, sessionType, phase, runtimeBackend, runtimeMetadata = "{}" } = input;
  const parameters = [
    context.namespace,
    newId(),
    newId(),
    agentId,
    sessionType,
    phase,
    runtimeBackend,
    input.context ?? "{}",
    runtimeMetadata,
    eventMetadata(context),
  ];
  const rows = await database.query<SessionRow>(createOneStatement, parameters, { neverWaits: true });
  return rows.map((session) => ({ outcome: "ok", session }));
}

/** What came of one of the sessions of a batch. */
export type BatchResult =
  | {
      readonly outcome: "ok";
      readonly id: string;
      /** Unless only the ids were asked for. */
      readonly session?: SessionRow;
    }
  | ExternalIdTaken;

/** Sessions that one request asks for. */
export interface Batch {
  readonly sessions: readonly NewSession[];
  /** Whether all are to be created or none. */
  readonly isAtomic: boolean;
  /** Whether nothing but the ids is wanted. */
  readonly idsOnly: boolean;
}

/**
 * Creates the sessions of a batch in one statement, which does all of its work or none where it fails.
 *
 * @returns a result for each, in their order; of an atomic batch with an external id that another session has, for those
 * that name such a one alone: none was created then
 */
export async function createBatch(
  database: Queries,
  context: RequestContext,
  { sessions, isAtomic, idsOnly }: Batch,
): Promise<BatchResult[]> {
  const asked = sessions.map((input) => ({ context, input }));
  const variants = new Set(sessions.map(creationVariantOf));
  const named = sessions.flatMap(({ settings }) => settings?.external_id ?? []).map(String);
  const repeated = isAtomic ? named.filter((one, at) => named.indexOf(one) < at) : [];
  if (repeated.length > 0) return repeated.map((one) => takenBy(new Map(), one));
  // Without words on what to do then, an external id that is taken undoes the statement.
  const fullest = isAtomic ? "all" : "external";
  const variant = variants.has("external") ? fullest : variants.has("all") ? "all" : "plain";
  const shown = idsOnly ? "id" : "session";
  try {
    // So much work is nothing that others should wait behind, on a connection that they share.
    const rows = await insert<SessionRow>(database, asked, { variant, shown, neverWaits: false });
    const refused = await takenOf(database, context, asked, rows);
    return rows.flatMap((row, at): BatchResult | [] => {
      if (row === undefined) return refused[at] ?? [];
      return { outcome: "ok", id: row.id, ...(idsOnly ? {} : { session: row }) };
    });
  } catch (error) {
    const taken = duplicateOf(error, "sessions_by_external_id");
    if (taken === undefined) throw error;
    // A transaction that was undone answers nothing more.
    const owners = await ownersOf(database, context, named).catch(() => new Map<string, string>());
    const those = owners.size === 0 ? [taken] : named.filter((one) => owners.has(one));
    return those.map((one) => takenBy(owners, one));
  }
}

/** @returns the rows, in the order of the input; undefined where another session has the external id */
async function insert<Row extends { readonly id: string }>(
  database: Queries,
  asked: readonly Asked[],
  { variant, shown, neverWaits }: { readonly variant: Variant; readonly shown: Shown; readonly neverWaits: boolean },
): Promise<(Row | undefined)[]> {
  const ids = asked.map(() => newId());
  const texts = asked.map((one, at) => inputText(one, ids[at] ?? ""));
  const parameters = [asked[0]?.context.namespace ?? "", `[${texts.join(",")}]`];
  const rows = await database.query<Row>(createStatements[shown][variant], parameters, { neverWaits });
  const byId = new Map(rows.map((row) => [row.id, row]));
  return ids.map((id) => byId.get(id));
}

function inputText({ context, input }: Asked, id: string): string {
  const fields = JSON.stringify({
    id,
    event_id: newId(),
    agent_id: input.agentId,
    session_type: input.sessionType,
    phase: input.phase,
    runtime_backend: input.runtimeBackend,
    ...input.settings,
  });
  const optional = {
    checkpoint: input.checkpoint,
    stats: input.stats,
    stats_max: input.statsMax,
    details: input.details && detailsText(input.details),
  };
  const given = Object.entries(optional).filter(([, text]) => text !== undefined);
  return (
    `${fields.slice(0, -1)},"context":${input.context ?? "{}"},` +
    `"runtime_metadata":${input.runtimeMetadata ?? "{}"},"metadata":${eventMetadata(context)}` +
    `${given.map(([name, text]) => `,"${name}":${text}`).join("")}}`
  );
}

/** Of those that were not created, whose their external ids are. */
async function takenOf(
  database: Queries,
  context: RequestContext,
  asked: readonly Asked[],
  rows: readonly unknown[],
): Promise<(ExternalIdTaken | undefined)[]> {
  const ids = asked.map(({ input }, at) => (rows[at] === undefined ? input.settings?.external_id : undefined));
  const named = ids.filter((one) => typeof one === "string");
  // What has been created is to be told, whatever becomes of this.
  const owners = await ownersOf(database, context, named).catch(() => new Map<string, string>());
  return ids.map((one) => (typeof one === "string" ? takenBy(owners, one) : undefined));
}
