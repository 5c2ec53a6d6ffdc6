/**
 * The tables of sessions and events, and every index on them. drizzle-kit makes the migrations in `drizzle/` from this file
 * and schema-of-jobs.ts; what drizzle cannot say (fillfactor) stands in a migration of its own.
 */

import { type SQL, sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  check,
  index,
  integer,
  pgTable,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";
import { type Phase, phases, type Status, statuses, statusOf } from "../sessions/lifecycle.ts";
import { jsonText, positions, time } from "./columns.ts";

function quoted(words: readonly string[]): string {
  return words.map((word) => `'${word}'`).join(", ");
}

function statusFromPhase(): SQL {
  const branches = statuses.slice(0, -1).map((status: Status) => {
    const shownAs: Phase[] = phases.filter((phase) => statusOf[phase] === status);
    return `when phase in (${quoted(shownAs)}) then '${status}'`;
  });
  return sql.raw(`case ${branches.join(" ")} else '${statuses.at(-1)}' end`);
}

export const sessions = pgTable(
  "sessions",
  {
    namespace: text().notNull().default("default"),
    id: uuid().notNull(),
    agentId: uuid("agent_id").notNull(),
    sessionType: text("session_type").notNull().default("conversation"),
    phase: text().$type<Phase>().notNull().default("running"),
    status: text().$type<Status>().notNull().generatedAlwaysAs(statusFromPhase),
    context: jsonText().notNull().default("{}"),
    checkpoint: jsonText(),
    runtimeBackend: text("runtime_backend").notNull().default("unknown"),
    runtimeMetadata: jsonText("runtime_metadata").notNull().default("{}"),

    version: integer().notNull().default(1),
    lastSequence: integer("last_sequence").notNull().default(0),
    attempt: integer().notNull().default(1),

    // Bytes of the documents as answers spell them. Kept at write: a list must not read every document to weigh it.
    contextBytes: integer("context_bytes").notNull().default(2),
    checkpointBytes: integer("checkpoint_bytes").notNull().default(0),
    runtimeMetadataBytes: integer("runtime_metadata_bytes").notNull().default(2),

    createdAt: time("created_at").notNull(),
    updatedAt: time("updated_at").notNull(),
    lastActivityAt: time("last_activity_at").notNull(),
    phaseSince: time("phase_since").notNull(),
    startedAt: time("started_at"),
    attemptStartedAt: time("attempt_started_at"),
    endedAt: time("ended_at"),
    /** Milliseconds spent in live phases, up to `phase_since`. */
    activeMs: bigint("active_ms", { mode: "number" }).notNull().default(0),
    claimableAt: time("claimable_at"),
    /** The earliest time at which a sweeper has something to look at; null for never. */
    nextCheckAt: time("next_check_at"),
    deletedAt: time("deleted_at"),
    /** Since when a job removes the session and all that is its own. */
    purgeRequestedAt: time("purge_requested_at"),
    /** Nothing of the session may be deleted or pruned, by anyone. */
    legalHold: boolean("legal_hold").notNull().default(false),

    leaseOwner: text("lease_owner"),
    /** Grows with each claim and is never taken back: a late write that names an older one is refused. */
    leaseToken: bigint("lease_token", { mode: "number" }).notNull().default(0),
    leaseExpiresAt: time("lease_expires_at"),
    /** How long each heartbeat of its holder renews the lease for. */
    leaseSeconds: integer("lease_seconds"),

    // What most sessions have none of is null, and costs a reader next to nothing.
    statusReason: text("status_reason"),
    error: jsonText(),
    result: jsonText(),
    stats: jsonText(),
    statsMax: jsonText("stats_max"),
    exitRequested: boolean("exit_requested"),
    scheduledAt: time("scheduled_at"),
    expiresAt: time("expires_at"),
    timeoutSeconds: integer("timeout_seconds"),
    waitingTimeoutSeconds: integer("waiting_timeout_seconds"),
    idleTimeoutSeconds: integer("idle_timeout_seconds"),
    pendingTimeoutSeconds: integer("pending_timeout_seconds"),
    autoRecover: boolean("auto_recover"),
    /** Paused by its worker's own shutdown: it may be claimed again. */
    autoResume: boolean("auto_resume"),
    maxAttempts: integer("max_attempts"),
    /** When a crashed session that recovers by itself may be claimed again. */
    nextAttemptAt: time("next_attempt_at"),
    /** What its clients say of it, and the service only keeps: name, prompt, agents, labels, … (see sessions/details.ts). */
    details: jsonText(),
    detailsBytes: integer("details_bytes").notNull().default(0),
    /** Of `error`, `result`, `stats` and `stats_max` together, at least. */
    outcomeBytes: integer("outcome_bytes").notNull().default(0),

    /** `change`, `heartbeat` or `event`. */
    lastActivityKind: text("last_activity_kind").notNull().default("change"),
    transitions: integer().notNull().default(0),
    /** Milliseconds by phase, up to `phase_since`. */
    phaseMs: jsonText("phase_ms"),
    /** What `active_ms` was when the attempt began. */
    attemptBaseMs: bigint("attempt_base_ms", { mode: "number" }).notNull().default(0),

    /** The number of the checkpoint that was saved last. */
    lastCheckpoint: integer("last_checkpoint").notNull().default(0),
    /** How many of them are kept. */
    checkpointCount: integer("checkpoint_count").notNull().default(0),
    /** Whether the context has changed since a checkpoint was saved that keeps it. */
    isContextUnsaved: boolean("is_context_unsaved").notNull().default(false),

    /** What another system calls the session: unique among those that are not deleted. */
    externalId: text("external_id"),
  },
  (t) => [
    primaryKey({ columns: [t.namespace, t.id] }),
    // No index on updated_at, last_activity_at, phase or a document: each would cost every heartbeat or checkpoint its
    // HOT update (14,150/s against 6,600). ready ⇄ busy keeps the status, and so stays HOT too.
    // Ascending, and read backwards: drizzle would write DESC NULLS LAST, which serves no ORDER BY … DESC.
    index("sessions_newest").on(t.namespace, t.createdAt, t.id),
    index("sessions_by_agent").on(t.namespace, t.agentId, t.createdAt, t.id),
    index("sessions_by_status").on(t.namespace, t.status, t.createdAt, t.id),
    // A type alone is read status by status.
    index("sessions_by_type").on(t.namespace, t.sessionType, t.status, t.createdAt, t.id),
    index("sessions_by_backend").on(t.namespace, t.runtimeBackend, t.createdAt, t.id),
    // By code points, so that a prefix is a range.
    index("sessions_by_name")
      .on(t.namespace, sql`(${t.details} ->> 'name') collate "C"`, t.createdAt, t.id)
      .where(sql`${t.details} ? 'name'`),
    uniqueIndex("sessions_by_external_id")
      .on(t.namespace, t.externalId)
      .where(sql`${t.externalId} is not null and ${t.deletedAt} is null`),
    index("sessions_ever_by_external_id").on(t.namespace, t.externalId).where(sql`${t.externalId} is not null`),
    index("sessions_deleted").on(t.deletedAt).where(sql`${t.deletedAt} is not null`),
    index("sessions_due").on(t.nextCheckAt).where(sql`${t.nextCheckAt} is not null`),
    index("sessions_claimable").on(t.namespace, t.claimableAt, t.id).where(sql`${t.claimableAt} is not null`),
    index("sessions_claimable_by_agent")
      .on(t.namespace, t.agentId, t.claimableAt, t.id)
      .where(sql`${t.claimableAt} is not null`),
    index("sessions_by_lease_owner").on(t.namespace, t.leaseOwner).where(sql`${t.leaseOwner} is not null`),
    index("sessions_to_purge").on(t.purgeRequestedAt).where(sql`${t.purgeRequestedAt} is not null`),
    index("sessions_on_hold").on(t.namespace, t.id).where(sql`${t.legalHold}`),
    check("sessions_phase", sql.raw(`phase in (${quoted(phases)})`)),
    check("sessions_runtime_backend", sql.raw(`runtime_backend in ('local', 'kubernetes', 'unknown')`)),
    check("sessions_context_object", sql`jsonb_typeof(${t.context}) = 'object'`),
    check("sessions_checkpoint_object", sql`jsonb_typeof(${t.checkpoint}) = 'object'`),
    check("sessions_runtime_metadata_object", sql`jsonb_typeof(${t.runtimeMetadata}) = 'object'`),
    check("sessions_error_object", sql`jsonb_typeof(${t.error}) = 'object'`),
    check("sessions_stats_object", sql`jsonb_typeof(${t.stats}) = 'object'`),
    check("sessions_stats_max_object", sql`jsonb_typeof(${t.statsMax}) = 'object'`),
    check("sessions_details_object", sql`jsonb_typeof(${t.details}) = 'object'`),
  ],
);

/** The labels of sessions, to be found by: what sessions show stands in their details, and is written with these. */
export const sessionLabels = pgTable(
  "session_labels",
  {
    namespace: text().notNull().default("default"),
    sessionId: uuid("session_id").notNull(),
    key: text().notNull(),
    value: text().notNull(),
    /** The session's. */
    createdAt: time("created_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.namespace, t.sessionId, t.key] }),
    index("session_labels_by_value").on(t.namespace, t.key, t.value, t.createdAt, t.sessionId),
    index("session_labels_by_key").on(t.namespace, t.key, t.createdAt, t.sessionId),
  ],
);

/** Every checkpoint that was saved and not pruned: written in the statement that saves it, and never changed. */
export const checkpoints = pgTable(
  "checkpoints",
  {
    namespace: text().notNull().default("default"),
    sessionId: uuid("session_id").notNull(),
    /** 1, 2, 3, … over all checkpoints of the session. */
    number: integer().notNull(),
    id: uuid().notNull(),
    /** The line that it belongs to: one for each agent of a session, say. */
    checkpointNs: text("checkpoint_ns").notNull().default(""),
    type: text().notNull().default("manual"),
    label: text(),
    description: text(),
    createdBy: text("created_by"),
    data: jsonText().notNull(),
    /** Of the data, as answers spell it. */
    bytes: integer().notNull(),
    /** That of the session when it was saved; null unless that was asked for. */
    context: jsonText(),
    contextBytes: integer("context_bytes").notNull().default(0),
    sessionVersion: integer("session_version").notNull(),
    createdAt: time("created_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.namespace, t.sessionId, t.number] }),
    uniqueIndex("checkpoints_by_id").on(t.namespace, t.id),
    check("checkpoints_type", sql.raw("type in ('manual', 'milestone', 'auto', 'recovery_point')")),
  ],
);

/**
 * The history: written in the statement that makes the change, and never changed. No foreign key leads from it, for it
 * outlives its session.
 */
export const events = pgTable(
  "events",
  {
    /**
     * The order of the whole feed. Drawn while the session's row is locked, so within a session it grows with
     * `sequence`. Over all sessions it becomes visible out of order (see events/settling.ts), and rolled back changes
     * leave gaps.
     */
    position: bigint({ mode: "number" }).primaryKey().generatedByDefaultAsIdentity(),
    eventId: uuid("event_id").notNull(),
    namespace: text().notNull().default("default"),
    sessionId: uuid("session_id").notNull(),
    /** 1, 2, 3, … over all events of the session. */
    sequence: integer().notNull(),
    sessionVersion: integer("session_version").notNull(),
    eventType: text("event_type").notNull(),
    schemaVersion: smallint("schema_version").notNull().default(1),
    payload: jsonText().notNull(),
    metadata: jsonText().notNull().default("{}"),
    createdAt: time("created_at").notNull(),
  },
  (t) => [
    uniqueIndex("events_by_session").on(t.namespace, t.sessionId, t.sequence),
    index("events_by_type").on(t.namespace, t.eventType, t.position),
    index("events_by_time").on(t.namespace, t.createdAt, t.position),
    check("events_payload_object", sql`jsonb_typeof(${t.payload}) = 'object'`),
  ],
);

/**
 * The feed: who puts committed events in order and publishes them, under a lease, and how far that has come. One row,
 * which the first migration makes.
 */
export const relays = pgTable("relays", {
  name: text().primaryKey(),
  holder: uuid().notNull(),
  /** Grows with each change of holder: one that was frozen sees that its turn is over. */
  token: bigint({ mode: "number" }).notNull().default(1),
  expiresAt: time("expires_at").notNull(),
  /** Every event up to here has been published to Redis, or never came to be. */
  position: bigint({ mode: "number" }).notNull().default(0),
  /** Every event up to here can be read, or never came to be: but for those whose positions are in `pending`. */
  settled: bigint({ mode: "number" }).notNull().default(0),
  /** Positions that were passed by while the transaction that drew them was open still. */
  pending: positions().notNull().default("{}"),
  /** Up to here events have been removed because of their age. */
  horizon: bigint({ mode: "number" }).notNull().default(0),
});
