/** The tables of what is done beside sessions: bulk jobs, repeated requests, sweeps, counts. */

import { sql } from "drizzle-orm";
import { boolean, check, index, integer, pgTable, primaryKey, smallint, text, uuid } from "drizzle-orm/pg-core";
import { jsonText, time } from "./columns.ts";

/** What is done to many sessions at once: asked for by a request, done by a job, a batch at a time. */
export const bulkJobs = pgTable(
  "bulk_jobs",
  {
    namespace: text().notNull().default("default"),
    id: uuid().notNull(),
    /** `delete`, `update` or `transition`. */
    action: text().notNull(),
    /** Which sessions, and what is done to each: JSON as the request had it. */
    filter: jsonText().notNull(),
    change: jsonText().notNull(),
    state: text().notNull().default("queued"),
    /** Sessions that were made later are left alone. */
    asOf: time("as_of").notNull(),
    /** How many there were when it was asked for. */
    planned: integer().notNull(),
    changed: integer().notNull().default(0),
    unchanged: integer().notNull().default(0),
    refused: integer().notNull().default(0),
    /** How far it has come, from the newest to the oldest: the session that was looked at last. */
    placeCreatedAt: time("place_created_at"),
    placeId: uuid("place_id"),
    cancelRequested: boolean("cancel_requested").notNull().default(false),
    /** What its events carry: who asked for it. */
    metadata: jsonText().notNull().default("{}"),
    error: text(),
    createdAt: time("created_at").notNull(),
    startedAt: time("started_at"),
    finishedAt: time("finished_at"),
    /** The process that is at it, for as long as it says so. */
    holder: uuid(),
    heldUntil: time("held_until"),
  },
  (t) => [
    primaryKey({ columns: [t.namespace, t.id] }),
    index("bulk_jobs_newest").on(t.namespace, t.createdAt, t.id),
    index("bulk_jobs_to_do").on(t.createdAt).where(sql`${t.state} in ('queued', 'running')`),
    check("bulk_jobs_action", sql.raw("action in ('delete', 'update', 'transition')")),
    check("bulk_jobs_state", sql.raw("state in ('queued', 'running', 'completed', 'cancelled', 'failed')")),
  ],
);

/** What became of each session of such a job. */
export const bulkResults = pgTable(
  "bulk_results",
  {
    namespace: text().notNull().default("default"),
    jobId: uuid("job_id").notNull(),
    /** 1, 2, 3, … in the order in which it was done. */
    number: integer().notNull(),
    sessionId: uuid("session_id").notNull(),
    outcome: text().notNull(),
  },
  (t) => [primaryKey({ columns: [t.namespace, t.jobId, t.number] })],
);

/** The answers to requests that carried an Idempotency-Key, written in the transaction of what they did. */
export const idempotencyKeys = pgTable(
  "idempotency_keys",
  {
    namespace: text().notNull(),
    method: text().notNull(),
    path: text().notNull(),
    key: text().notNull(),
    /** Tells whether a second request with the key is the same request. */
    fingerprint: text().notNull(),
    status: smallint().notNull(),
    /** JSON. */
    headers: text().notNull(),
    body: text().notNull(),
    createdAt: time("created_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.namespace, t.method, t.path, t.key] }),
    index("idempotency_keys_by_time").on(t.createdAt),
  ],
);

/**
 * When due sessions were last looked for, by any replica: one row, which a migration makes. After a time in which nobody
 * looked nobody could renew a lease either, so all leases count as renewed at the first sweep that follows.
 */
export const sweeps = pgTable("sweeps", {
  name: text().primaryKey(),
  sweptAt: time("swept_at").notNull(),
  leasesRenewedAt: time("leases_renewed_at").notNull(),
});

/** How many sessions are in each phase: counted now and then by one replica, read by all. One row, made by a migration. */
export const phaseCounts = pgTable("phase_counts", {
  name: text().primaryKey(),
  countedAt: time("counted_at").notNull(),
  counts: jsonText().notNull().default("{}"),
});
