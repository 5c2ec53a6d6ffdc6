/** Sessions by what other systems call them: of those that are not deleted, one at most has an external id. */

import type { Queries } from "../db/client.ts";
import { isDuplicate } from "../db/failures.ts";
import type { RequestContext } from "./context.ts";
import type { Settings } from "./fields.ts";
import { type SessionRow, sessionColumns } from "./row.ts";

/** Nothing was done, for another session has the external id. */
export interface ExternalIdTaken {
  readonly outcome: "external_id_taken";
  readonly externalId: string;
  /** The session that has it; undefined when none has it any more. */
  readonly ownerId: string | undefined;
}

const readStatement = `
  select ${sessionColumns("s")} from sessions s
  where namespace = $1 and external_id = $2::text and deleted_at is null`;

const ownersStatement = `
  select external_id, id from sessions
  where namespace = $1 and external_id = any(array(select jsonb_array_elements_text($2::text::jsonb))) and deleted_at is null`;

/** Reads the session that has an external id; undefined when none has it. */
export async function readByExternalId(
  database: Queries,
  context: RequestContext,
  externalId: string,
): Promise<SessionRow | undefined> {
  const [row] = await database.query<SessionRow>(readStatement, [context.namespace, externalId], { neverWaits: true });
  return row;
}

/** The ids of the sessions that have these external ids, by them. */
export async function ownersOf(
  database: Queries,
  context: RequestContext,
  externalIds: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  if (externalIds.length === 0) return new Map();
  const rows = await database.query<{ readonly external_id: string; readonly id: string }>(
    ownersStatement,
    [context.namespace, JSON.stringify(externalIds)],
    { neverWaits: true },
  );
  return new Map(rows.map((row) => [row.external_id, row.id]));
}

/** What is told of an external id that was refused. */
export function takenBy(owners: ReadonlyMap<string, string>, externalId: string): ExternalIdTaken {
  return { outcome: "external_id_taken", externalId, ownerId: owners.get(externalId) };
}

/**
 * Makes a change that may set an external id.
 *
 * @param change must not be part of a transaction: one in which a statement was refused can't go on
 * @returns what it returns, or that the external id is another session's
 */
export async function unlessTaken<Result>(
  database: Queries,
  { context, settings }: { readonly context: RequestContext; readonly settings: Settings | undefined },
  change: () => Promise<Result>,
): Promise<Result | ExternalIdTaken> {
  try {
    return await change();
  } catch (error) {
    const externalId = settings?.external_id;
    if (typeof externalId !== "string" || !isDuplicate(error, "sessions_by_external_id")) throw error;
    return takenBy(await ownersOf(database, context, [externalId]), externalId);
  }
}
