/** The statements that create sessions: they insert rows, append an event for each, and give the rows. */

import { appendEvents } from "../events/outbox.ts";
import { keepCheckpoints } from "./checkpoint-history.ts";
import { keptSetting, settingNames, settingTypes } from "./fields.ts";
import { keepLabels } from "./labels.ts";
import { livePhases } from "./lifecycle.ts";
import { sessionColumns } from "./row.ts";
import { earliestCheck } from "./timers.ts";
import { type Assignments, phaseList } from "./transition.ts";

/**
 * `all`: with a checkpoint, settings, details and figures; those that come without are not made to pay for them.
 * `external`: with an external id too, which another session may have.
 */
export type Variant = "plain" | "all" | "external";

/** What is given back of each session. */
export type Shown = "session" | "id";

const live = phaseList(livePhases);

const plainColumns: Assignments = {
  id: "id",
  agent_id: "agent_id",
  session_type: "session_type",
  phase: "phase",
  runtime_backend: "runtime_backend",
  context: "context",
  context_bytes: "octet_length(context::text)",
  runtime_metadata: "runtime_metadata",
  runtime_metadata_bytes: "octet_length(runtime_metadata::text)",
  is_context_unsaved: "context <> '{}'",
  last_sequence: "1",
  created_at: "now",
  updated_at: "now",
  last_activity_at: "now",
  phase_since: "now",
  started_at: `case when phase in (${live}) then now end`,
  attempt_started_at: `case when phase in (${live}) then now end`,
  claimable_at: "case when phase = 'pending' then now end",
};

const beginnings: Assignments = {
  ...Object.fromEntries(settingNames.map((name) => [name, keptSetting(name, name)])),
  checkpoint: "checkpoint",
  checkpoint_bytes: "coalesce(octet_length(checkpoint::text), 0)",
  last_checkpoint: "(checkpoint is not null)::int",
  checkpoint_count: "(checkpoint is not null)::int",
  is_context_unsaved: "checkpoint is null and context <> '{}'",
  stats: "nullif(stats, '{}')",
  stats_max: "nullif(stats_max, '{}')",
  outcome_bytes: "coalesce(octet_length(stats::text), 0) + coalesce(octet_length(stats_max::text), 0)",
  details: "nullif(details, '{}')",
  details_bytes: "coalesce(octet_length(nullif(details, '{}')::text), 0)",
  claimable_at: "case when phase = 'pending' then greatest(now, scheduled_at) end",
};

const before: Assignments = {
  active_ms: "0",
  attempt_base_ms: "0",
  lease_owner: "null",
  lease_expires_at: "null::timestamptz",
  legal_hold: keptSetting("legal_hold", "legal_hold"),
  next_check_at: "null::timestamptz",
  phase_since: "now",
  claimable_at: "case when phase = 'pending' then greatest(now, scheduled_at) end",
};

const allColumns: Assignments = {
  ...plainColumns,
  ...beginnings,
  next_check_at: earliestCheck("now", (column) => before[column] ?? column),
};

const createdPayload = `jsonb_build_object('agent_id', s.agent_id, 'session_type', s.session_type,
       'runtime_backend', s.runtime_backend, 'phase', s.phase)`;

const plainInput =
  "id uuid, event_id uuid, agent_id uuid, session_type text, phase text, runtime_backend text, context jsonb, " +
  "runtime_metadata jsonb, metadata jsonb";
const allInput = [
  plainInput,
  "checkpoint jsonb, stats jsonb, stats_max jsonb, details jsonb",
  ...settingNames.map((name) => `${name} ${settingTypes[name]}`),
].join(", ");

const inputOf = (columns: string) => `
    select x.*, clock_timestamp() as now from jsonb_to_recordset($2::text::jsonb) as x (${columns})`;

/** A parameter for each value: one document of all would have to be taken apart. */
const oneInput = `
    select $2::text::uuid as id, $3::text::uuid as event_id, $4::text::uuid as agent_id, $5::text as session_type,
      $6::text as phase, $7::text as runtime_backend, $8::text::jsonb as context, $9::text::jsonb as runtime_metadata,
      $10::text::jsonb as metadata, clock_timestamp() as now`;

/**
 * Such a session is what was asked for: its event needs to know no more than that, and the rows are given by the INSERT
 * itself. By way of another step all of each row would be copied.
 */
const plainStatement = (input: string, shown: Shown) => `
  with input as materialized (${input}
  ), event as (${appendEvents(
    "(select $1::text as namespace, 1 as last_sequence, 1 as version, now as changed_at, * from input) s",
    "'session.created'",
    createdPayload,
    "s",
  )}
  )
  insert into sessions (namespace, version, ${Object.keys(plainColumns).join(", ")})
  select $1, 1, ${Object.values(plainColumns).join(", ")} from input
  returning ${shown === "id" ? "sessions.id" : sessionColumns("sessions")}`;

/** In one order, or two that create the same would wait for each other. */
const unlessTaken = `
    order by external_id
    on conflict (namespace, external_id) where external_id is not null and deleted_at is null do nothing`;

const fullStatement = (variant: "all" | "external", shown: Shown) => `
  with input as materialized (${inputOf(allInput)}
  ), created as (
    insert into sessions (namespace, ${Object.keys(allColumns).join(", ")})
    select $1, ${Object.values(allColumns).join(", ")}
    from input${variant === "external" ? unlessTaken : ""}
    returning namespace, last_sequence, created_at as changed_at, last_checkpoint, checkpoint_bytes,
      ${sessionColumns("sessions")}
  ), event as (${appendEvents("created s join input i using (id)", "'session.created'", createdPayload)}
  ), kept as (${keepCheckpoints("created s join input i using (id) where s.checkpoint is not null")}
  ), labelled as (${keepLabels("created")}
  )
  select ${shown === "id" ? "created.id" : sessionColumns("created")} from created`;

const statementsOf = (shown: Shown): Readonly<Record<Variant, string>> => ({
  plain: plainStatement(inputOf(plainInput), shown),
  all: fullStatement("all", shown),
  external: fullStatement("external", shown),
});

/** For sessions of one variant: `$1` is their namespace, `$2` a JSON array of what each starts with. */
export const createStatements: Readonly<Record<Shown, Readonly<Record<Variant, string>>>> = {
  session: statementsOf("session"),
  id: statementsOf("id"),
};

/**
 * For one plain session: its namespace, its id, that of its event, agent, type, phase, backend, context, runtime metadata,
 * and the event's metadata.
 */
export const createOneStatement = plainStatement(oneInput, "session");
