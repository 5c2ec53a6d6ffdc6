/** The statement that most changes are made with: of one session, one document and nothing else (see one.ts). */

import type { Queries } from "../db/client.ts";
import { appendEvents } from "../events/outbox.ts";
import { changeTime, counted, dated } from "./change-assignments.ts";
import { isAnother } from "./change-parts.ts";
import { changePayload } from "./change-statement.ts";
import { countCheckpoint, keepCheckpoints, keptColumns } from "./checkpoint-history.ts";
import { eventMetadata, newId, type RequestContext } from "./context.ts";
import { hasLease, isTheOne, setAt } from "./one.ts";
import { type SessionRow, sessionColumns } from "./row.ts";
import { type Assignments, setList } from "./transition.ts";

/** As in `SessionChange`. */
export interface DocumentChange {
  readonly id: string;
  readonly expectedVersions?: readonly number[] | undefined;
  readonly leaseToken?: number | undefined;
}

type Name = "checkpoint" | "context";

const savingOf: Readonly<Record<Name, Assignments>> = {
  checkpoint: {
    ...countCheckpoint("i.document is not null"),
    is_context_unsaved: "s.is_context_unsaved and i.document is null",
  },
  context: { is_context_unsaved: "true" },
};

const statement = (name: Name) => `
  with updated as (
    update sessions s set
      ${name} = i.document,
      ${name}_bytes = coalesce(octet_length(i.spelled), 0),
      ${setList({ ...counted, ...savingOf[name] })},
      ${setAt(changeTime("s"), dated)}
    from (
      select *, document::text as spelled
      from (
        select $3::text::uuid as event_id, $4::text::jsonb as metadata, $5::text::jsonb as document,
          $6::text::bigint as lease_token, $7::text::jsonb as expected
        offset 0 -- else it is parsed wherever it is named
      ) parsed
      offset 0
    ) i
    where ${isTheOne}
      and ${hasLease} and i.expected @> to_jsonb(s.version) is not false
      and ${isAnother(name, "i.spelled", "s")}
    returning s.namespace, s.last_sequence, s.updated_at as changed_at, i.event_id, i.metadata,
      ${changePayload(name)} as payload, ${keptColumns}, ${sessionColumns("s")}
  ), event as (${appendEvents("updated s", "'session.updated'", "s.payload", "s")}
  )${name === "checkpoint" ? `, kept as (${keepCheckpoints("updated s where s.checkpoint is not null", "s")})` : ""}
  select ${sessionColumns("u")} from updated u`;

const statements: Readonly<Record<Name, string>> = {
  checkpoint: statement("checkpoint"),
  context: statement("context"),
};

/**
 * Makes a change, and appends its event.
 *
 * @param document its JSON text; null clears it
 * @returns the session after it; undefined when nothing was done: `updateSessions` can say why
 */
export async function changeOne(
  database: Queries,
  context: RequestContext,
  name: Name,
  document: string | null,
  { id, leaseToken, expectedVersions }: DocumentChange,
): Promise<SessionRow | undefined> {
  const [row] = await database.query<SessionRow>(
    statements[name],
    [
      context.namespace,
      id,
      newId(),
      eventMetadata(context),
      document,
      leaseToken === undefined ? null : String(leaseToken),
      expectedVersions === undefined ? null : JSON.stringify(expectedVersions),
    ],
    { neverWaits: true },
  );
  return row;
}
