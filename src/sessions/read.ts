/** Reading sessions by their ids. */

import type { Queries } from "../db/client.ts";
import type { RequestContext } from "./context.ts";
import { type SessionRow, sessionColumns } from "./row.ts";

/** What a session weighs in an answer beside its documents, about. */
export const fieldBytes = 1_300;

/** SQL over the columns of sessions: what a session weighs in an answer. */
export const weight = `context_bytes::bigint + checkpoint_bytes + runtime_metadata_bytes + details_bytes + outcome_bytes +
  ${fieldBytes}`;

/** The same without `largeDocuments`. */
export const lightWeight = `details_bytes::bigint + outcome_bytes + ${fieldBytes}`;

/** A page ends early when its documents reach this weight: an answer is bounded, whatever the limit. */
export const pageBytes = 32 * 1024 * 1024;

/** Sessions heavier than this are not read among others: the light ones would wait for them. */
const heavyBytes = 256 * 1024;

/** SQL over the columns of sessions: whether its documents are large, and must not be read together with many others'. */
export const isHeavy = `${weight} > ${heavyBytes}`;

const deletedToo = `select ${sessionColumns("s")} from sessions s where namespace = $1 and id = any($2::text::uuid[])`;

const asked = "namespace = $1 and id = any($2::text::uuid[]) and deleted_at is null";

const readStatements = {
  evenHeavy: `select ${sessionColumns("s")}, false as heavy from sessions s where ${asked}`,
  // A subquery with an offset stays one: what is heavy is worked out once, and not for each document.
  light: `
  select ${sessionColumns("s", "s.heavy")}, s.heavy
  from (select *, ${isHeavy} as heavy from sessions where ${asked} offset 0) s`,
};

/**
 * Reads sessions by their ids, which must be UUIDs; those that don't exist are left out.
 *
 * @param evenHeavy false: the documents of large sessions are left out, and `heavy` says so
 */
export async function readSessions(
  database: Queries,
  context: RequestContext,
  ids: readonly string[],
  { evenHeavy = true }: { readonly evenHeavy?: boolean } = {},
): Promise<(SessionRow & { readonly heavy: boolean })[]> {
  const statement = evenHeavy ? readStatements.evenHeavy : readStatements.light;
  return database.query(statement, [context.namespace, `{${ids.join(",")}}`], { neverWaits: true });
}

/** Reads sessions by their ids, which must be UUIDs, also those that were deleted; those that don't exist are left out. */
export async function readEvenDeleted(
  database: Queries,
  context: RequestContext,
  ids: readonly string[],
): Promise<SessionRow[]> {
  return database.query(deletedToo, [context.namespace, `{${ids.join(",")}}`], { neverWaits: true });
}
