/** Creating sessions: rows and their events, in one statement. */

import type { Queries } from "../db/client.ts";
import { appendEvents } from "../events/outbox.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";
import { livePhases, type Phase } from "./lifecycle.ts";
import { type SessionRow, sessionColumnNames, sessionColumns } from "./row.ts";

/** What a new session starts with. Documents are JSON texts of objects. */
export interface NewSession {
  readonly agentId: string;
  readonly sessionType: string;
  readonly phase: Phase;
  readonly runtimeBackend: string;
  readonly context?: string | undefined;
  readonly checkpoint?: string | undefined;
  readonly runtimeMetadata?: string | undefined;
}

const live = livePhases.map((phase) => `'${phase}'`).join(", ");

const statement = `
  with input as materialized (
    select x.*, clock_timestamp() as now
    from jsonb_to_recordset($2::text::jsonb) as x (
      id uuid, event_id uuid, agent_id uuid, session_type text, phase text, runtime_backend text,
      context jsonb, checkpoint jsonb, runtime_metadata jsonb, metadata jsonb)
  ), created as (
    insert into sessions (namespace, id, agent_id, session_type, phase, runtime_backend,
      context, context_bytes, checkpoint, checkpoint_bytes, runtime_metadata, runtime_metadata_bytes,
      last_sequence, created_at, updated_at, last_activity_at, phase_since,
      started_at, attempt_started_at, claimable_at)
    select $1, id, agent_id, session_type, phase, runtime_backend,
      context, octet_length(context::text),
      checkpoint, coalesce(octet_length(checkpoint::text), 0),
      runtime_metadata, octet_length(runtime_metadata::text),
      1, now, now, now, now,
      case when phase in (${live}) then now end,
      case when phase in (${live}) then now end,
      case when phase = 'pending' then now end
    from input
    returning namespace, last_sequence, created_at as changed_at, ${sessionColumns("sessions")}
  ), event as (${appendEvents(
    "created s join input i using (id)",
    "'session.created'",
    `jsonb_build_object('agent_id', s.agent_id, 'session_type', s.session_type, 'runtime_backend', s.runtime_backend,
       'phase', s.phase)`,
  )})
  select ${sessionColumnNames("created")} from created`;

/**
 * Creates sessions, all or none of them, each with its `session.created` event.
 *
 * @param asked all of one namespace
 * @returns the rows, in the order of the input
 */
export async function createSessions(
  database: Queries,
  asked: readonly { readonly context: RequestContext; readonly input: NewSession }[],
): Promise<SessionRow[]> {
  const ids = asked.map(() => newId());
  const texts = asked.map(({ context, input }, at) => {
    const fields = JSON.stringify({
      id: ids[at],
      event_id: newId(),
      agent_id: input.agentId,
      session_type: input.sessionType,
      phase: input.phase,
      runtime_backend: input.runtimeBackend,
    });
    const checkpoint = input.checkpoint === undefined ? "" : `,"checkpoint":${input.checkpoint}`;
    return (
      `${fields.slice(0, -1)},"context":${input.context ?? "{}"},` +
      `"runtime_metadata":${input.runtimeMetadata ?? "{}"},"metadata":${eventMetadata(context)}${checkpoint}}`
    );
  });
  const rows = await database.query<SessionRow>(
    statement,
    [asked[0]?.context.namespace ?? "", `[${texts.join(",")}]`],
    {
      // New ids: nobody else can hold a lock on them.
      neverWaits: true,
    },
  );
  const byId = new Map(rows.map((row) => [row.id, row]));
  return ids.flatMap((id) => byId.get(id) ?? []);
}
