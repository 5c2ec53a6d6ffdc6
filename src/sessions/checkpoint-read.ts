/** Reading the checkpoints of a session: one of them, or pages, newest first. */

import type { Queries } from "../db/client.ts";
import type { CheckpointKey } from "./checkpoint-delete.ts";
import { type CheckpointRow, checkpointColumns, listedCheckpointColumns } from "./checkpoint-row.ts";
import type { CheckpointType } from "./checkpoint-types.ts";
import type { RequestContext } from "./context.ts";

/** Which checkpoint; `latest` is that of a line, the one without a name or another. */
export type CheckpointPlace = CheckpointKey | { readonly sessionId: string; readonly latest: string };

export interface CheckpointQuery {
  readonly which: CheckpointPlace;
  /** Whether those of a session that was deleted are found. */
  readonly includeDeleted: boolean;
}

export type CheckpointReading =
  | { readonly outcome: "ok"; readonly checkpoint: CheckpointRow }
  | { readonly outcome: "not_found" }
  /** The session has no such checkpoint, or none has that id. */
  | { readonly outcome: "no_checkpoint" };

export interface CheckpointListQuery {
  readonly sessionId: string;
  readonly checkpointNs?: string | undefined;
  readonly label?: string | undefined;
  /** Only of one of these types. */
  readonly types?: readonly CheckpointType[] | undefined;
  readonly withData: boolean;
  readonly withContext: boolean;
  readonly includeDeleted: boolean;
  /** How many at most; the page may end earlier when its documents are large. */
  readonly limit: number;
  /** Only those before this number. */
  readonly before?: number | undefined;
}

export type CheckpointPage =
  /** `next` is what the next page comes before; undefined on the last. */
  | { readonly outcome: "ok"; readonly checkpoints: readonly CheckpointRow[]; readonly next: number | undefined }
  | { readonly outcome: "not_found" };

/** A page ends early when it reaches this weight: an answer is bounded, whatever the limit. */
const pageBytes = 32 * 1024 * 1024;

/** What a checkpoint weighs in an answer beside its documents, about. */
const fieldBytes = 600;

const session = (includeDeleted: string) => `
    select id from sessions
    where namespace = $1 and id = $2::text::uuid and (deleted_at is null or ${includeDeleted}::text::boolean)`;

const oneStatements = {
  byNumber: `
  select s.id as found_id, ${checkpointColumns("c")}
  from (${session("$3")}
  ) s left join checkpoints c on c.namespace = $1 and c.session_id = s.id and c.number = $4::text::int`,
  latest: `
  select s.id as found_id, ${checkpointColumns("c")}
  from (${session("$3")}
  ) s left join lateral (
    select * from checkpoints
    where namespace = $1 and session_id = s.id and checkpoint_ns = $4::text
    order by number desc
    limit 1
  ) c on true`,
  byId: `
  select s.id as found_id, ${checkpointColumns("c")}
  from checkpoints c join sessions s on s.namespace = c.namespace and s.id = c.session_id
  where c.namespace = $1 and c.id = $2::text::uuid and (s.deleted_at is null or $3::text::boolean)`,
};

/*
 * One row more than the page has, to see whether there is a next one. What lies beyond the weight is only named: the
 * first one is always given.
 */
const listStatement = `
  select s.id as found_id, c.is_beyond,
    ${listedCheckpointColumns("c", "$8::text::boolean and not c.is_beyond", "$9::text::boolean and not c.is_beyond")}
  from (${session("$3")}
  ) s left join lateral (
    select *, row_number() over page > 1 and sum(weight) over page > ${pageBytes} as is_beyond
    from (
      select *, ${fieldBytes}::bigint + case when $8::text::boolean then bytes else 0 end
        + case when $9::text::boolean then context_bytes else 0 end as weight
      from checkpoints
      where namespace = $1 and session_id = s.id
        and ($5::text is null or number < $5::text::int)
        and ($6::text is null or checkpoint_ns = $6::text)
        and ($7::text is null or label = $7::text)
        and ($10::text is null or type = any($10::text::text[]))
      order by number desc
      limit $4::text::int + 1
    ) found
    window page as (order by number desc rows between unbounded preceding and current row)
  ) c on true
  order by c.number desc`;

/** Of a session that is found, and has no such checkpoint, nothing else is given. */
type FoundRow = CheckpointRow | { readonly number: null };

function isCheckpoint<Row extends FoundRow>(row: Row): row is Row & CheckpointRow {
  return row.number !== null;
}

/** Reads a checkpoint with its documents. */
export async function readCheckpoint(
  database: Queries,
  context: RequestContext,
  { which, includeDeleted }: CheckpointQuery,
): Promise<CheckpointReading> {
  const read = (statement: string, ...parameters: string[]) =>
    database.query<FoundRow>(statement, [context.namespace, ...parameters], { neverWaits: true });
  const deleted = String(includeDeleted);
  if ("id" in which) {
    const [row] = await read(oneStatements.byId, which.id, deleted);
    return row !== undefined && isCheckpoint(row) ? { outcome: "ok", checkpoint: row } : { outcome: "no_checkpoint" };
  }
  const [row] =
    "number" in which
      ? await read(oneStatements.byNumber, which.sessionId, deleted, String(which.number))
      : await read(oneStatements.latest, which.sessionId, deleted, which.latest);
  if (row === undefined) return { outcome: "not_found" };
  return isCheckpoint(row) ? { outcome: "ok", checkpoint: row } : { outcome: "no_checkpoint" };
}

/** Lists the checkpoints of a session, newest first. */
export async function listCheckpoints(
  database: Queries,
  context: RequestContext,
  query: CheckpointListQuery,
): Promise<CheckpointPage> {
  const { sessionId, checkpointNs, label, types, withData, withContext, includeDeleted, limit, before } = query;
  const rows = await database.query<FoundRow & { readonly is_beyond: boolean | null }>(
    listStatement,
    [
      context.namespace,
      sessionId,
      String(includeDeleted),
      String(limit),
      before === undefined ? null : String(before),
      checkpointNs ?? null,
      label ?? null,
      String(withData),
      String(withContext),
      types === undefined ? null : `{${types.join(",")}}`,
    ],
    { neverWaits: true },
  );
  if (rows.length === 0) return { outcome: "not_found" };
  const end = rows.findIndex((row, at) => row.is_beyond === true || at === limit);
  const checkpoints = (end < 0 ? rows : rows.slice(0, end)).filter(isCheckpoint);
  return { outcome: "ok", checkpoints, next: end < 0 ? undefined : checkpoints.at(-1)?.number };
}
