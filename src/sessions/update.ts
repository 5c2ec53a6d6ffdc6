/**
 * Changing sessions: look under the row's lock, decide, write, and append the event, in one statement for a set of
 * sessions. Nothing is read first and written later, so no two writers can undo each other.
 */

import type { Queries } from "../db/client.ts";
import { appendEvents } from "../events/outbox.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";
import { endedPhases, livePhases, type Phase, phases, phasesThatMayEnter, statusOf } from "./lifecycle.ts";
import { readSessions } from "./read.ts";
import { type SessionRow, sessionColumnNames, sessionColumns } from "./row.ts";
import type { Word } from "./vocabulary.ts";

/** What to change; what is undefined stays. Documents are JSON texts of objects. */
export interface SessionChange {
  readonly id: string;
  /** The versions that If-Match names; undefined: any. */
  readonly expectedVersions?: readonly number[] | undefined;
  /** What the session shall be: it stays as it is in one of the word's phases, else it enters the word's entry phase. */
  readonly state?: Word | undefined;
  readonly context?: string | undefined;
  /** null clears it. */
  readonly checkpoint?: string | null | undefined;
  readonly runtimeBackend?: string | undefined;
  readonly runtimeMetadata?: string | undefined;
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
  /** The session's phase does not lead to the one asked for. */
  | { readonly outcome: "conflict"; readonly from: Phase };

function list(words: readonly Phase[]): string {
  return words.map((word) => `'${word}'`).join(", ");
}

const live = list(livePhases);
const ended = list(endedPhases);
const paused = list(phases.filter((phase) => statusOf[phase] === "paused"));
const crashed = list(phases.filter((phase) => statusOf[phase] === "crashed"));

/*
 * "Changed" means changed as text: jsonb thinks 1 and 1.0 equal, clients don't.
 *
 * `now` is read after the lock was waited for, and never lies before the last change, nor before what was reported since:
 * now() is the transaction's start, and would run backwards.
 *
 * Each step carries the columns that the next one needs and no more: setting up the others for one row cost as much as
 * the update itself. So a session that did not change is not given back here either.
 */
/** @param skipLocked leaves out sessions that somebody else is changing, instead of waiting for them */
const updateStatement = (skipLocked: boolean) => `
  with decided as materialized (
    select *,
      to_phase <> from_phase as moves,
      from_phase in (${crashed}) and to_phase not in (${ended}) as recovers,
      outcome = 'ok' and (to_phase <> from_phase or sets_context or sets_checkpoint or sets_backend or sets_metadata)
        as changes
    from (
      select i.id, i.event_id, i.metadata, i.context, i.checkpoint, i.runtime_backend, i.runtime_metadata,
        l.phase as from_phase, l.status as from_status,
        case when i.enter is null or i.means ? l.phase then l.phase else i.enter end as to_phase,
        case
          when l.id is null then 'not_found'
          when not i.expected @> to_jsonb(l.version) then 'stale'
          when i.enter is not null and not i.means ? l.phase and not i.allowed ? l.phase then 'conflict'
          else 'ok'
        end as outcome,
        i.context is not null and i.context::text is distinct from l.context::text as sets_context,
        i.set_checkpoint and i.checkpoint::text is distinct from l.checkpoint::text as sets_checkpoint,
        i.runtime_backend <> l.runtime_backend is true as sets_backend,
        i.runtime_metadata is not null and i.runtime_metadata::text is distinct from l.runtime_metadata::text
          as sets_metadata,
        greatest(clock_timestamp(), l.updated_at + interval '1 microsecond', l.last_activity_at) as now
      from jsonb_to_recordset($3::text::jsonb) as i (
        id uuid, event_id uuid, metadata jsonb, expected jsonb, enter text, means jsonb, allowed jsonb,
        context jsonb, set_checkpoint boolean, checkpoint jsonb, runtime_backend text, runtime_metadata jsonb)
      left join (
        select id, phase, status, version, context, checkpoint, runtime_backend, runtime_metadata, updated_at,
          last_activity_at
        from sessions
        where namespace = $1 and id = any($2::text::uuid[]) and deleted_at is null
        order by id
        for no key update ${skipLocked ? "skip locked" : ""}
      ) l using (id)
    ) looked
  ), updated as (
    update sessions s set
      phase = i.to_phase,
      context = case when i.sets_context then i.context else s.context end,
      context_bytes = case when i.sets_context then octet_length(i.context::text) else s.context_bytes end,
      checkpoint = case when i.sets_checkpoint then i.checkpoint else s.checkpoint end,
      checkpoint_bytes = case when i.sets_checkpoint then coalesce(octet_length(i.checkpoint::text), 0)
        else s.checkpoint_bytes end,
      runtime_backend = coalesce(i.runtime_backend, s.runtime_backend),
      runtime_metadata = case when i.sets_metadata then i.runtime_metadata else s.runtime_metadata end,
      runtime_metadata_bytes = case when i.sets_metadata then octet_length(i.runtime_metadata::text)
        else s.runtime_metadata_bytes end,
      version = s.version + 1,
      last_sequence = s.last_sequence + 1,
      updated_at = i.now,
      last_activity_at = i.now,
      phase_since = case when i.moves then i.now else s.phase_since end,
      active_ms = s.active_ms + case when i.moves and s.phase in (${live})
        then (extract(epoch from i.now - s.phase_since) * 1000)::bigint else 0 end,
      attempt = s.attempt + i.recovers::int,
      started_at = coalesce(s.started_at, case when i.to_phase in (${live}) then i.now end),
      attempt_started_at = case
        when i.to_phase in (${live}) and (i.recovers or s.attempt_started_at is null) then i.now
        when i.recovers then null
        else s.attempt_started_at end,
      ended_at = case when not i.moves then s.ended_at when i.to_phase in (${ended}) then i.now end,
      claimable_at = case
        when not i.moves then s.claimable_at
        when i.recovers or i.to_phase = 'pending' then i.now end,
      lease_owner = case when i.moves and i.to_phase in (${paused}, ${ended}) then null else s.lease_owner end,
      lease_expires_at = case when i.moves and i.to_phase in (${paused}, ${ended}) then null
        else s.lease_expires_at end
    from decided i
    where i.changes and s.namespace = $1 and s.id = i.id
      and s.id = any($2::text::uuid[]) -- else the planner, which expects 100 inputs, may read the whole table
    returning s.namespace, s.last_sequence, s.updated_at as changed_at, ${sessionColumns("s")}
  ), event as (${appendEvents(
    "updated s join decided i using (id)",
    "'session.updated'",
    `jsonb_build_object('agent_id', s.agent_id, 'status', s.status, 'phase', s.phase, 'updates', to_jsonb(array_remove(
       array[case when s.status <> i.from_status then 'status' end, case when i.moves then 'phase' end,
         case when i.sets_context then 'context' end, case when i.sets_checkpoint then 'checkpoint' end,
         case when i.sets_backend then 'runtime_backend' end, case when i.sets_metadata then 'runtime_metadata' end],
       null)))
     || case when i.moves then jsonb_build_object('from', i.from_phase, 'to', s.phase) else '{}' end`,
  )})
  select i.id as asked_id, i.outcome, i.changes as changed, i.from_phase, ${sessionColumnNames("u")}
  from decided i left join updated u using (id)`;

const statements = { waiting: updateStatement(false), skipping: updateStatement(true) };

type ResultRow = SessionRow & {
  readonly asked_id: string;
  readonly outcome: ChangeResult["outcome"];
  readonly changed: boolean;
  readonly from_phase: Phase;
};

/**
 * Changes sessions, each for itself, and appends a `session.updated` event for each that really changed.
 *
 * @param asked of one namespace, at most one change a session
 * @param wait whether to wait for a session that somebody else is changing
 * @returns a result for each change, in their order; undefined, where it was not to wait, for a session that somebody
 * else is changing, or that does not exist
 */
export async function updateSessions(
  database: Queries,
  asked: readonly { readonly context: RequestContext; readonly input: SessionChange }[],
  { wait = true }: { readonly wait?: boolean } = {},
): Promise<(ChangeResult | undefined)[]> {
  const [first] = asked;
  if (first === undefined) return [];
  const rows = await database.query<ResultRow>(wait ? statements.waiting : statements.skipping, [
    first.context.namespace,
    `{${asked.map(({ input }) => input.id).join(",")}}`,
    `[${asked.map(({ context, input }) => inputText(input, eventMetadata(context))).join(",")}]`,
  ]);
  const byId = new Map(rows.map((row) => [row.asked_id, row]));
  const unchanged = await readUnchanged(database, first.context, rows).catch((error: unknown) => {
    // The others of the set have been changed, and are to be told so.
    if (wait) throw error;
    return undefined;
  });
  return asked.map(({ input }) => {
    const row = byId.get(input.id.toLowerCase());
    if (!wait && row?.outcome === "not_found") return undefined;
    if (row?.outcome === "ok" && !row.changed && unchanged === undefined) return undefined;
    return resultOf(row, unchanged?.get(row?.asked_id ?? "") ?? row);
  });
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
  const fields = JSON.stringify({
    id: change.id,
    event_id: newId(),
    expected: change.expectedVersions,
    enter: change.state?.entry,
    means: change.state?.means,
    allowed: change.state && phasesThatMayEnter(change.state.entry),
    set_checkpoint: change.checkpoint !== undefined,
    runtime_backend: change.runtimeBackend,
  });
  const documents = [
    `"metadata":${metadata}`,
    change.context === undefined ? "" : `"context":${change.context}`,
    change.checkpoint === undefined ? "" : `"checkpoint":${change.checkpoint}`,
    change.runtimeMetadata === undefined ? "" : `"runtime_metadata":${change.runtimeMetadata}`,
  ];
  return `${fields.slice(0, -1)},${documents.filter((text) => text !== "").join(",")}}`;
}

function resultOf(row: ResultRow | undefined, session: SessionRow | undefined): ChangeResult {
  switch (row?.outcome) {
    case "ok":
      if (session?.id == null) return { outcome: "not_found" };
      return { outcome: "ok", changed: row.changed, from: row.from_phase, session };
    case "stale":
      return { outcome: "stale" };
    case "conflict":
      return { outcome: "conflict", from: row.from_phase };
    default:
      return { outcome: "not_found" };
  }
}
