/**
 * What the control reads of a row and how it answers with it: columns as text, spliced in JavaScript. A copy that stands
 * still: the service's own may get faster, and the yardstick must not move with it.
 */

type Value = string | number | boolean | null;
export type Row = Readonly<Record<string, Value>>;

const plain = [
  "id",
  "agent_id",
  "session_type",
  "status",
  "phase",
  "runtime_backend",
  "version",
  "attempt",
  "context_bytes",
  "checkpoint_count",
  "status_reason",
  "exit_requested",
  "lease_owner",
  "timeout_seconds",
  "waiting_timeout_seconds",
  "idle_timeout_seconds",
  "pending_timeout_seconds",
  "auto_recover",
  "auto_resume",
  "max_attempts",
  "legal_hold",
  "external_id",
];
const documents = ["context", "checkpoint", "runtime_metadata", "error", "result", "stats", "stats_max", "details"];
const times = [
  "created_at",
  "updated_at",
  "last_activity_at",
  "started_at",
  "ended_at",
  "lease_expires_at",
  "scheduled_at",
  "expires_at",
  "next_attempt_at",
  "deleted_at",
];

const timeOf = (column: string) => `(${column} at time zone 'UTC')::text`;

/** The select list of a session, over `sessions s`. */
export const sessionColumns = [
  ...plain.map((column) => `s.${column}`),
  ...documents.map((column) => `s.${column}::text as ${column}`),
  ...times.map((column) => `${timeOf(`s.${column}`)} as ${column}`),
].join(", ");

/** That of what a heartbeat answers. */
export const leaseColumns = [
  ...["id", "status", "phase", "version", "attempt", "exit_requested", "lease_owner"].map((column) => `s.${column}`),
  ...["lease_expires_at", "last_activity_at"].map((column) => `${timeOf(`s.${column}`)} as ${column}`),
].join(", ");

/** That of an event, over `events e`. */
export const eventColumns = [
  "e.position::float8 as position",
  ...["event_id", "session_id", "sequence", "session_version", "event_type", "schema_version"].map(
    (column) => `e.${column}`,
  ),
  "e.payload::text as payload",
  "e.metadata::text as metadata",
  `${timeOf("e.created_at")} as created_at`,
].join(", ");

function rfc3339(utc: string): string {
  const fraction = utc.length === 19 ? ".000000" : utc.slice(19).padEnd(7, "0");
  return `${utc.slice(0, 10)}T${utc.slice(11, 19)}${fraction}Z`;
}

function time(utc: Value | undefined): string {
  return typeof utc === "string" ? `"${rfc3339(utc)}"` : "null";
}

function word(text: Value | undefined): string {
  return text == null ? "null" : JSON.stringify(text);
}

const noDetails =
  '"name":null,"prompt":null,"model":null,"repos":[],"agents":[],"active_agent":null,"interaction_mode":null,' +
  '"resources":null,"guardrails":null,"metadata":{},"labels":{},"created_by":null,"checkpoint_retention":null';

/** A session, in the service's fields. */
export function sessionText(row: Row): string {
  return (
    `{"id":"${row["id"]}","agent_id":"${row["agent_id"]}","session_type":${word(row["session_type"])},` +
    `"status":"${row["status"]}","phase":"${row["phase"]}","context":${row["context"]},` +
    `"checkpoint":${row["checkpoint"]},"runtime_backend":"${row["runtime_backend"]}",` +
    `"runtime_metadata":${row["runtime_metadata"]},"created_at":${time(row["created_at"])},` +
    `"updated_at":${time(row["updated_at"])},"version":${row["version"]},"attempt":${row["attempt"]},` +
    `"context_bytes":${row["context_bytes"]},"checkpoint_count":${row["checkpoint_count"]},` +
    `"started_at":${time(row["started_at"])},"ended_at":${time(row["ended_at"])},` +
    `"last_activity_at":${time(row["last_activity_at"])},${restText(row)}}`
  );
}

function restText(row: Row): string {
  return (
    `"stats":${row["stats"] ?? "{}"},"stats_max":${row["stats_max"] ?? "{}"},` +
    `"scheduled_at":${time(row["scheduled_at"])},"expires_at":${time(row["expires_at"])},` +
    `"timeout_seconds":${row["timeout_seconds"]},"waiting_timeout_seconds":${row["waiting_timeout_seconds"]},` +
    `"idle_timeout_seconds":${row["idle_timeout_seconds"]},` +
    `"pending_timeout_seconds":${row["pending_timeout_seconds"]},` +
    `"auto_recover":${row["auto_recover"] ?? false},"max_attempts":${row["max_attempts"] ?? 3},` +
    `"legal_hold":${row["legal_hold"]},"external_id":${word(row["external_id"])},${noDetails},` +
    `"status_reason":${word(row["status_reason"])},"exit_requested":${row["exit_requested"] ?? false},` +
    `"error":${row["error"]},"result":${row["result"]},"lease_owner":${word(row["lease_owner"])},` +
    `"lease_expires_at":${time(row["lease_expires_at"])},"auto_resume":${row["auto_resume"] ?? false},` +
    `"next_attempt_at":${time(row["next_attempt_at"])},"deleted_at":${time(row["deleted_at"])}`
  );
}

/** What a heartbeat is answered with. */
export function leaseText(row: Row): string {
  return (
    `{"id":"${row["id"]}","status":"${row["status"]}","phase":"${row["phase"]}","version":${row["version"]},` +
    `"attempt":${row["attempt"]},"exit_requested":${row["exit_requested"] ?? false},` +
    `"lease_owner":${word(row["lease_owner"])},"lease_token":null,` +
    `"lease_expires_at":${time(row["lease_expires_at"])},"last_activity_at":${time(row["last_activity_at"])}}`
  );
}

/** An event in its envelope. */
export function eventText(row: Row): string {
  return (
    `{"event_type":"${row["event_type"]}","aggregate_type":"session","aggregate_id":"${row["session_id"]}",` +
    `"payload":${row["payload"]},"event_id":"${row["event_id"]}","sequence":${row["sequence"]},` +
    `"session_version":${row["session_version"]},"position":"${row["position"]}",` +
    `"created_at":${time(row["created_at"])},"schema_version":${row["schema_version"]},` +
    `"metadata":${row["metadata"]}}`
  );
}
