/** Reading the context of a session, or a part of it: what is not asked for need not leave the database. */

import type { Queries } from "../db/client.ts";
import type { RequestContext } from "./context.ts";

export interface ContextQuery {
  /** A UUID. */
  readonly id: string;
  /** The parts of an RFC 6901 pointer: of none, the whole context. */
  readonly path: readonly string[];
  /** Versions that the caller has already: the context is not read while the session is at one of them. */
  readonly known: readonly number[];
}

export interface ContextPart {
  readonly version: number;
  /** JSON text; null when there is nothing at that path, or the caller has it already. */
  readonly text: string | null;
}

const statement = `
  select version,
    case when $3::text is not null and not $4::text::jsonb @> to_jsonb(version)
      then json_at(context, array(select jsonb_array_elements_text($3::text::jsonb))) end as text
  from sessions
  where namespace = $1 and id = $2::text::uuid and deleted_at is null`;

/** @returns undefined when there is no such session */
export async function readContext(
  database: Queries,
  context: RequestContext,
  { id, path, known }: ContextQuery,
): Promise<ContextPart | undefined> {
  // A key that can't be stored is not there.
  const isStorable = path.every((part) => part.isWellFormed() && !part.includes("\0"));
  const parameters = [context.namespace, id, isStorable ? JSON.stringify(path) : null, JSON.stringify(known)];
  const [row] = await database.query<ContextPart>(statement, parameters, { neverWaits: true });
  return row;
}
