/** Reading sessions: by id, and in pages. */

import type { Database } from "../db/client.ts";
import { rfc3339 } from "../db/time.ts";
import type { RequestContext } from "./context.ts";
import { type SessionRow, sessionColumns } from "./row.ts";

const byIds = `
  select ${sessionColumns("s")} from sessions s
  where s.namespace = $1 and s.id = any($2::text::uuid[]) and s.deleted_at is null`;

/** Reads sessions by their ids, which must be UUIDs; those that don't exist are left out. */
export async function readSessions(
  database: Database,
  context: RequestContext,
  ids: readonly string[],
): Promise<SessionRow[]> {
  return database.query<SessionRow>(byIds, [context.namespace, `{${ids.join(",")}}`], { readOnly: true });
}

/** A place in the list: just after this session, from newest to oldest. */
export interface ListPlace {
  /** RFC 3339, with microseconds. */
  readonly createdAt: string;
  readonly id: string;
}

export interface SessionPage {
  readonly sessions: readonly SessionRow[];
  /** Where the next page starts; undefined on the last. */
  readonly next: ListPlace | undefined;
}

/** A page ends early when its documents reach this weight: an answer is bounded, whatever the limit. */
const pageBytes = 32 * 1024 * 1024;

/** What a session weighs in an answer beside its documents, about. */
const fieldBytes = 600;

/** One row more than the page is read, to see whether there is a next one; documents are read only of what is given. */
function pageStatement(filter: string): string {
  return `
  select ${sessionColumns("s")}, s.more
  from (
    select *, lead(true) over page is true as more, row_number() over page as number,
      sum(context_bytes + checkpoint_bytes + runtime_metadata_bytes + ${fieldBytes}) over page as bytes
    from sessions
    where namespace = $1 and deleted_at is null ${filter}
    window page as (order by created_at desc, id desc rows between unbounded preceding and current row)
    order by created_at desc, id desc
    limit $2::int + 1
  ) s
  where s.number <= $2::int and (s.bytes <= ${pageBytes} or s.number = 1)
  order by s.created_at desc, s.id desc`;
}

const place = "and (created_at, id) < ($3::text::timestamptz, $4::text::uuid)";
const statements = {
  all: pageStatement(""),
  allAfter: pageStatement(place),
  byAgent: pageStatement("and agent_id = $3::text::uuid"),
  byAgentAfter: pageStatement(`${place} and agent_id = $5::text::uuid`),
};

/**
 * Lists sessions, newest first.
 *
 * @param limit how many at most; the page may end earlier when its documents are large
 */
export async function listSessions(
  database: Database,
  context: RequestContext,
  { agentId, limit, after }: { agentId?: string | undefined; limit: number; after?: ListPlace | undefined },
): Promise<SessionPage> {
  const first = agentId === undefined ? statements.all : statements.byAgent;
  const later = agentId === undefined ? statements.allAfter : statements.byAgentAfter;
  const statement = after === undefined ? first : later;
  const parameters = [
    context.namespace,
    limit,
    ...(after === undefined ? [] : [after.createdAt, after.id]),
    ...(agentId === undefined ? [] : [agentId]),
  ];
  const rows = await database.query<SessionRow & { more: boolean }>(statement, parameters, { readOnly: true });
  const last = rows.at(-1);
  return {
    sessions: rows,
    next: last?.more === true ? { createdAt: rfc3339(last.created_at), id: last.id } : undefined,
  };
}
