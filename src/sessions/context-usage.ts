/** What takes up room in a session's context. */

import type { Queries } from "../db/client.ts";
import type { RequestContext } from "./context.ts";

/** So many members are told, the heaviest ones. */
export const toldMembers = 100;

/** Of a key, so many characters are told. */
const longestKey = 100;

export interface ContextUsage {
  /** Of the whole context, as answers spell it, as are all bytes here. */
  readonly context_bytes: number;
  /** How many members the context has. */
  readonly members: number;
  /** The heaviest first; each is the bytes of its value. */
  readonly largest: readonly { readonly key: string; readonly bytes: number }[];
}

const statement = `
  select s.context_bytes, member.members, member.largest
  from sessions s cross join lateral (
    select coalesce(max(members), 0)::int as members,
      coalesce(json_agg(json_build_object('key', left(key, ${longestKey}), 'bytes', bytes) order by bytes desc, key), '[]')::text as largest
    from (
      select key, octet_length(value::text) as bytes, count(*) over () as members
      from jsonb_each(s.context)
      order by 2 desc, 1
      limit ${toldMembers}
    ) heaviest
  ) member
  where s.namespace = $1 and s.id = $2::text::uuid and s.deleted_at is null`;

/**
 * Weighs the members of a context.
 *
 * @param id a UUID
 * @returns undefined when there is no such session
 * @throws {ServiceError} database_unavailable, schema_outdated
 */
export async function readContextUsage(
  database: Queries,
  context: RequestContext,
  id: string,
): Promise<ContextUsage | undefined> {
  // Not among statements that share a connection: a large context takes its time.
  const [row] = await database.query<{ context_bytes: number; members: number; largest: string }>(statement, [
    context.namespace,
    id,
  ]);
  return row && { ...row, largest: JSON.parse(row.largest) as ContextUsage["largest"] };
}
