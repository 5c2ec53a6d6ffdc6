/**
 * Saving a checkpoint, and making an earlier one the current one again: look under the session's lock, decide, write the
 * session, its event and the new row of the history, in one statement.
 *
 * What is restored is appended once more, so the last checkpoint of the unnamed line is always the one that the session
 * shows: whoever reads, prunes or forks needs no second notion of which one is current, and the history tells what was
 * done.
 */

import type { Queries } from "../db/client.ts";
import { appendEvents } from "../events/outbox.ts";
import { changeTime, counted, dated } from "./change-assignments.ts";
import { isAnother } from "./change-parts.ts";
import { changePayload } from "./change-statement.ts";
import { type CheckpointRow, checkpointColumnNames, checkpointColumns } from "./checkpoint-row.ts";
import type { CheckpointType } from "./checkpoint-types.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";
import { type SessionRow, sessionColumns } from "./row.ts";
import { type Assignments, setList } from "./transition.ts";

/** What both are told; the session's id must be a UUID. */
interface CheckpointChange {
  readonly sessionId: string;
  /** The versions that If-Match names; undefined: any. */
  readonly expectedVersions?: readonly number[] | undefined;
  /** The fencing token of the lease that the writer believes to hold: it is then renewed, or the change refused. */
  readonly leaseToken?: number | undefined;
  readonly label?: string | undefined;
  readonly description?: string | undefined;
  /** Undefined: whoever the request is made for, as far as that is known. */
  readonly createdBy?: string | undefined;
}

export interface NewCheckpoint extends CheckpointChange {
  /** JSON text of an object. */
  readonly data: string;
  readonly type: CheckpointType;
  /** The line that it belongs to; the session shows the last one of the line without a name. */
  readonly checkpointNs: string;
  /** Whether the session's context of that moment is kept with it. */
  readonly includeContext: boolean;
}

export interface CheckpointRestore extends CheckpointChange {
  readonly number: number;
  /** Whether the session also gets the context that the checkpoint keeps. */
  readonly restoreContext: boolean;
}

type Refusal =
  | { readonly outcome: "not_found" }
  /** The session has a version that was not expected. */
  | { readonly outcome: "stale" }
  /** The lease of that token is over. */
  | { readonly outcome: "lease_lost" };

export type SaveResult = Refusal | { readonly outcome: "ok"; readonly checkpoint: CheckpointRow };

export type RestoreResult =
  | Refusal
  /** The session has no checkpoint of that number. */
  | { readonly outcome: "no_checkpoint" }
  /** It keeps no context that could be restored. */
  | { readonly outcome: "no_context" }
  /** `number` is that of the checkpoint that was appended. */
  | { readonly outcome: "ok"; readonly session: SessionRow; readonly number: number };

const asked = `id uuid, event_id uuid, metadata jsonb, expected jsonb, lease_token bigint, label text,
          description text, created_by text`;

interface Variant {
  /** SELECT of what is asked for, with what the new row gets. */
  readonly input: string;
  /** Columns of the locked session. */
  readonly locked: string;
  /** WHEN branches over the input `i` for what else refuses it, before and after the session's state is looked at. */
  readonly missing: string;
  readonly refused: string;
  /** SQL of the array of what changes, over `i` and the locked session `l`. */
  readonly updates: string;
  readonly assignments: Assignments;
  /** The select list of the answer over `decided i`, `updated u` and `kept k`. */
  readonly answer: string;
}

const isShown = "i.checkpoint_ns = ''";

const saving: Assignments = {
  checkpoint: `case when ${isShown} then i.data else s.checkpoint end`,
  checkpoint_bytes: `case when ${isShown} then i.bytes else s.checkpoint_bytes end`,
  last_checkpoint: "s.last_checkpoint + 1",
  checkpoint_count: "s.checkpoint_count + 1",
  ...counted,
  ...dated("i.now"),
};

const save: Variant = {
  // With an offset each is a step of its own: else a document is spelled, and parsed, wherever it is named.
  input: `
      select *, octet_length(spelled) as bytes
      from (
        select i.*, i.data::text as spelled
        from jsonb_to_record($3::text::jsonb) as i (${asked}, data jsonb, type text, checkpoint_ns text,
          keeps_context boolean)
        offset 0
      ) i
      offset 0`,
  locked: "",
  missing: "",
  refused: "",
  updates: "array['checkpoint']",
  // What another line saves is no state of the session's own, unless its context is with it.
  assignments: {
    ...saving,
    is_context_unsaved: `s.is_context_unsaved and not (${isShown} or i.keeps_context is true)`,
  },
  answer: checkpointColumns("k"),
};

const restore: Variant = {
  input: `
      select i.id, i.event_id, i.metadata, i.expected, i.lease_token, i.label,
        coalesce(i.description, 'restored from ' || i.number) as description, i.created_by, 'manual' as type, c.checkpoint_ns, c.data, c.bytes, i.restores_context as keeps_context,
        c.number is not null as is_there,
        case when i.restores_context then c.context end as context,
        case when i.restores_context then c.context_bytes end as context_bytes
      from jsonb_to_record($3::text::jsonb) as i (${asked}, number int, restores_context boolean)
      left join checkpoints c on c.namespace = $1 and c.session_id = $2::text::uuid and c.number = i.number
      offset 0`,
  locked: "context, context_bytes,",
  missing: "when not i.is_there then 'no_checkpoint'",
  refused: "when i.keeps_context and i.context is null then 'no_context'",
  updates: `array_remove(array[
          case when i.keeps_context and ${isAnother("context", "i.context::text", "l")} then 'context' end,
          'checkpoint'], null)`,
  assignments: {
    ...saving,
    context: "case when i.keeps_context then i.context else s.context end",
    context_bytes: "case when i.keeps_context then i.context_bytes else s.context_bytes end",
    is_context_unsaved: "s.is_context_unsaved and not i.keeps_context",
  },
  answer: `u.last_checkpoint as number, ${sessionColumns("u")}`,
};

const kept: Assignments = {
  namespace: "s.namespace",
  id: "s.event_id",
  session_id: "s.id",
  number: "s.last_checkpoint",
  checkpoint_ns: "s.checkpoint_ns",
  type: "s.kept_type",
  label: "s.kept_label",
  description: "s.kept_description",
  created_by: "coalesce(s.kept_by, s.metadata ->> 'actor')",
  created_at: "s.changed_at",
  session_version: "s.version",
  bytes: "s.kept_bytes",
  context_bytes: "case when s.keeps_context then s.context_bytes else 0 end",
  data: "s.kept_data",
  context: "case when s.keeps_context then s.context end",
};

function statement(variant: Variant): string {
  return `
  with decided as materialized (
    select i.*, ${variant.updates} as updates, ${changeTime("l")} as now,
      case
        when l.id is null then 'not_found'
        ${variant.missing}
        when i.lease_token is not null and (l.lease_owner is null or l.lease_token <> i.lease_token) then 'lease_lost'
        when not i.expected @> to_jsonb(l.version) then 'stale'
        ${variant.refused}
        else 'ok'
      end as outcome
    from (${variant.input}
    ) i
    left join (
      select id, version, lease_owner, lease_token, ${variant.locked} updated_at, last_activity_at
      from sessions
      where namespace = $1 and id = $2::text::uuid and deleted_at is null
      for no key update
    ) l using (id)
  ), updated as (
    update sessions s set
      ${setList(variant.assignments)}
    from decided i
    where i.outcome = 'ok' and s.namespace = $1 and s.id = $2::text::uuid
    returning s.namespace, s.last_sequence, s.updated_at as changed_at, s.last_checkpoint, i.event_id, i.metadata,
      ${changePayload("documents")} as payload, i.checkpoint_ns, i.type as kept_type, i.label as kept_label,
      i.description as kept_description, i.created_by as kept_by, i.data as kept_data, i.bytes as kept_bytes,
      i.keeps_context, ${sessionColumns("s")}
  ), event as (${appendEvents("updated s", "'session.updated'", "s.payload", "s")}
  ), kept as (
    insert into checkpoints (${Object.keys(kept).join(", ")})
    select ${Object.values(kept).join(", ")}
    from updated s
    returning ${checkpointColumnNames.join(", ")}
  )
  select i.outcome, ${variant.answer}
  from decided i left join updated u on true left join kept k on true`;
}

const statements = { save: statement(save), restore: statement(restore) };

/** Saves a checkpoint, and appends a `session.updated` event that has the checkpoint's id. */
export async function saveCheckpoint(
  database: Queries,
  context: RequestContext,
  checkpoint: NewCheckpoint,
): Promise<SaveResult> {
  const { sessionId, data, type, checkpointNs, includeContext } = checkpoint;
  const input = inputText(
    context,
    checkpoint,
    { type, checkpoint_ns: checkpointNs, keeps_context: includeContext },
    data,
  );
  const [row] = await database.query<CheckpointRow & { readonly outcome: SaveResult["outcome"] }>(statements.save, [
    context.namespace,
    sessionId,
    input,
  ]);
  if (row === undefined) return { outcome: "not_found" };
  return row.outcome === "ok" ? { outcome: "ok", checkpoint: row } : { outcome: row.outcome };
}

/** Makes an earlier checkpoint the current one of its line, as a new one, and appends a `session.updated` event. */
export async function restoreCheckpoint(
  database: Queries,
  context: RequestContext,
  asked: CheckpointRestore,
): Promise<RestoreResult> {
  const { sessionId, number, restoreContext } = asked;
  const input = inputText(context, asked, { number, restores_context: restoreContext });
  const [row] = await database.query<
    SessionRow & { readonly outcome: RestoreResult["outcome"]; readonly number: number }
  >(statements.restore, [context.namespace, sessionId, input]);
  if (row === undefined) return { outcome: "not_found" };
  return row.outcome === "ok" ? { outcome: "ok", session: row, number: row.number } : { outcome: row.outcome };
}

function inputText(context: RequestContext, change: CheckpointChange, more: object, data?: string): string {
  const fields = JSON.stringify({
    id: change.sessionId,
    event_id: newId(),
    expected: change.expectedVersions,
    lease_token: change.leaseToken,
    label: change.label,
    description: change.description,
    created_by: change.createdBy,
    ...more,
  });
  const document = data === undefined ? "" : `,"data":${data}`;
  return `${fields.slice(0, -1)},"metadata":${eventMetadata(context)}${document}}`;
}
