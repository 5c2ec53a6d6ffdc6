CREATE TABLE "phase_counts" (
	"name" text PRIMARY KEY NOT NULL,
	"counted_at" timestamp(6) with time zone NOT NULL,
	"counts" jsonb DEFAULT '{}' NOT NULL
);
--> statement-breakpoint
CREATE TABLE "sweeps" (
	"name" text PRIMARY KEY NOT NULL,
	"swept_at" timestamp(6) with time zone NOT NULL,
	"leases_renewed_at" timestamp(6) with time zone NOT NULL
);
--> statement-breakpoint
DROP INDEX "sessions_claimable";--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "lease_seconds" integer;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "status_reason" text;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "error" jsonb;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "result" jsonb;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "stats" jsonb;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "stats_max" jsonb;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "exit_requested" boolean;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "scheduled_at" timestamp(6) with time zone;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "expires_at" timestamp(6) with time zone;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "timeout_seconds" integer;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "waiting_timeout_seconds" integer;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "idle_timeout_seconds" integer;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "pending_timeout_seconds" integer;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "auto_recover" boolean;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "auto_resume" boolean;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "max_attempts" integer;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "next_attempt_at" timestamp(6) with time zone;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "details" jsonb;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "details_bytes" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "outcome_bytes" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "last_activity_kind" text DEFAULT 'change' NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "transitions" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "phase_ms" jsonb;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "attempt_base_ms" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE INDEX "sessions_claimable_by_agent" ON "sessions" USING btree ("namespace","agent_id","claimable_at","id") WHERE "sessions"."claimable_at" is not null;--> statement-breakpoint
CREATE INDEX "sessions_by_lease_owner" ON "sessions" USING btree ("namespace","lease_owner") WHERE "sessions"."lease_owner" is not null;--> statement-breakpoint
CREATE INDEX "sessions_claimable" ON "sessions" USING btree ("namespace","claimable_at","id") WHERE "sessions"."claimable_at" is not null;--> statement-breakpoint
ALTER TABLE "sessions" ADD CONSTRAINT "sessions_error_object" CHECK (jsonb_typeof("sessions"."error") = 'object');--> statement-breakpoint
ALTER TABLE "sessions" ADD CONSTRAINT "sessions_stats_object" CHECK (jsonb_typeof("sessions"."stats") = 'object');--> statement-breakpoint
ALTER TABLE "sessions" ADD CONSTRAINT "sessions_stats_max_object" CHECK (jsonb_typeof("sessions"."stats_max") = 'object');--> statement-breakpoint
ALTER TABLE "sessions" ADD CONSTRAINT "sessions_details_object" CHECK (jsonb_typeof("sessions"."details") = 'object');--> statement-breakpoint
-- Each has one row, so that nobody needs to ask whether it is there.
INSERT INTO "sweeps" ("name", "swept_at", "leases_renewed_at") VALUES ('sessions', '-infinity', '-infinity') ON CONFLICT DO NOTHING;--> statement-breakpoint
INSERT INTO "phase_counts" ("name", "counted_at") VALUES ('sessions', '-infinity') ON CONFLICT DO NOTHING;--> statement-breakpoint
-- They are updated all the time: room for the next version on their page keeps each table at one page.
ALTER TABLE "sweeps" SET (fillfactor = 10);--> statement-breakpoint
ALTER TABLE "phase_counts" SET (fillfactor = 10);
