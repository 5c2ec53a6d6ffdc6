/** A session as the database gives it: documents and times as text, ready to be spliced into an answer. */

import type { Phase, Status } from "./lifecycle.ts";

export interface SessionRow {
  readonly id: string;
  readonly agent_id: string;
  readonly session_type: string;
  readonly status: Status;
  readonly phase: Phase;
  /** JSON text, as are all documents. */
  readonly context: string;
  readonly checkpoint: string | null;
  readonly runtime_backend: string;
  readonly runtime_metadata: string;
  readonly version: number;
  readonly attempt: number;
  /** Of the context, as answers spell it. */
  readonly context_bytes: number;
  /** How many checkpoints are kept. */
  readonly checkpoint_count: number;
  /** As the database writes it, as are all times: for `rfc3339`. */
  readonly created_at: string;
  readonly updated_at: string;
  readonly last_activity_at: string;
  readonly started_at: string | null;
  readonly ended_at: string | null;
  readonly status_reason: string | null;
  readonly exit_requested: boolean | null;
  readonly error: string | null;
  readonly result: string | null;
  readonly stats: string | null;
  readonly stats_max: string | null;
  readonly lease_owner: string | null;
  readonly lease_expires_at: string | null;
  readonly scheduled_at: string | null;
  readonly expires_at: string | null;
  readonly timeout_seconds: number | null;
  readonly waiting_timeout_seconds: number | null;
  readonly idle_timeout_seconds: number | null;
  readonly pending_timeout_seconds: number | null;
  readonly auto_recover: boolean | null;
  readonly auto_resume: boolean | null;
  readonly max_attempts: number | null;
  readonly external_id: string | null;
  readonly next_attempt_at: string | null;
  readonly legal_hold: boolean;
  readonly deleted_at: string | null;
  /** An object with the keys of `detailDefaults` that are set. */
  readonly details: string | null;
}

const documents = [
  "context",
  "checkpoint",
  "runtime_metadata",
  "error",
  "result",
  "stats",
  "stats_max",
  "details",
] as const satisfies readonly (keyof SessionRow)[];

/** Those that have no bounds but the body's. */
export const largeDocuments = [
  "context",
  "checkpoint",
  "runtime_metadata",
] as const satisfies readonly (keyof SessionRow)[];

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
  "created_at",
  "updated_at",
  "last_activity_at",
  "started_at",
  "ended_at",
  "status_reason",
  "exit_requested",
  "lease_owner",
  "lease_expires_at",
  "scheduled_at",
  "expires_at",
  "timeout_seconds",
  "waiting_timeout_seconds",
  "idle_timeout_seconds",
  "pending_timeout_seconds",
  "auto_recover",
  "auto_resume",
  "max_attempts",
  "external_id",
  "next_attempt_at",
  "legal_hold",
  "deleted_at",
] as const satisfies readonly (keyof SessionRow)[];

/**
 * The select list that gives a `SessionRow` from a relation with the columns of `sessions`. They are given as they are: an
 * expression for each costs a list as much as reading it does.
 *
 * @param unless where this is true the documents are not read, and null
 * @param without documents that are not read at all, and null
 */
export function sessionColumns(relation: string, unless?: string, without: readonly string[] = []): string {
  const document = (column: string) =>
    without.includes(column)
      ? `null as ${column}`
      : unless === undefined
        ? `${relation}.${column}`
        : `case when ${unless} then null else ${relation}.${column} end as ${column}`;
  return [...plain.map((column) => `${relation}.${column}`), ...documents.map(document)].join(", ");
}
