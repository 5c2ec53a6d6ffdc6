CREATE TABLE "session_labels" (
	"namespace" text DEFAULT 'default' NOT NULL,
	"session_id" uuid NOT NULL,
	"key" text NOT NULL,
	"value" text NOT NULL,
	"created_at" timestamp(6) with time zone NOT NULL,
	CONSTRAINT "session_labels_namespace_session_id_key_pk" PRIMARY KEY("namespace","session_id","key")
);
--> statement-breakpoint
CREATE TABLE "bulk_jobs" (
	"namespace" text DEFAULT 'default' NOT NULL,
	"id" uuid NOT NULL,
	"action" text NOT NULL,
	"filter" jsonb NOT NULL,
	"change" jsonb NOT NULL,
	"state" text DEFAULT 'queued' NOT NULL,
	"as_of" timestamp(6) with time zone NOT NULL,
	"planned" integer NOT NULL,
	"changed" integer DEFAULT 0 NOT NULL,
	"unchanged" integer DEFAULT 0 NOT NULL,
	"refused" integer DEFAULT 0 NOT NULL,
	"place_created_at" timestamp(6) with time zone,
	"place_id" uuid,
	"cancel_requested" boolean DEFAULT false NOT NULL,
	"metadata" jsonb DEFAULT '{}' NOT NULL,
	"error" text,
	"created_at" timestamp(6) with time zone NOT NULL,
	"started_at" timestamp(6) with time zone,
	"finished_at" timestamp(6) with time zone,
	"holder" uuid,
	"held_until" timestamp(6) with time zone,
	CONSTRAINT "bulk_jobs_namespace_id_pk" PRIMARY KEY("namespace","id"),
	CONSTRAINT "bulk_jobs_action" CHECK (action in ('delete', 'update', 'transition')),
	CONSTRAINT "bulk_jobs_state" CHECK (state in ('queued', 'running', 'completed', 'cancelled', 'failed'))
);
--> statement-breakpoint
CREATE TABLE "bulk_results" (
	"namespace" text DEFAULT 'default' NOT NULL,
	"job_id" uuid NOT NULL,
	"number" integer NOT NULL,
	"session_id" uuid NOT NULL,
	"outcome" text NOT NULL,
	CONSTRAINT "bulk_results_namespace_job_id_number_pk" PRIMARY KEY("namespace","job_id","number")
);
--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "external_id" text;--> statement-breakpoint
CREATE INDEX "session_labels_by_value" ON "session_labels" USING btree ("namespace","key","value","created_at","session_id");--> statement-breakpoint
CREATE INDEX "session_labels_by_key" ON "session_labels" USING btree ("namespace","key","created_at","session_id");--> statement-breakpoint
CREATE INDEX "bulk_jobs_newest" ON "bulk_jobs" USING btree ("namespace","created_at","id");--> statement-breakpoint
CREATE INDEX "bulk_jobs_to_do" ON "bulk_jobs" USING btree ("created_at") WHERE "bulk_jobs"."state" in ('queued', 'running');--> statement-breakpoint
CREATE INDEX "sessions_by_type" ON "sessions" USING btree ("namespace","session_type","status","created_at","id");--> statement-breakpoint
CREATE INDEX "sessions_by_backend" ON "sessions" USING btree ("namespace","runtime_backend","created_at","id");--> statement-breakpoint
CREATE INDEX "sessions_by_name" ON "sessions" USING btree ("namespace",("details" ->> 'name') collate "C","created_at","id") WHERE "sessions"."details" ? 'name';--> statement-breakpoint
CREATE UNIQUE INDEX "sessions_by_external_id" ON "sessions" USING btree ("namespace","external_id") WHERE "sessions"."external_id" is not null and "sessions"."deleted_at" is null;--> statement-breakpoint
CREATE INDEX "sessions_ever_by_external_id" ON "sessions" USING btree ("namespace","external_id") WHERE "sessions"."external_id" is not null;--> statement-breakpoint
CREATE INDEX "sessions_deleted" ON "sessions" USING btree ("deleted_at") WHERE "sessions"."deleted_at" is not null;--> statement-breakpoint
-- What sessions show already can be found.
INSERT INTO "session_labels" ("namespace", "session_id", "key", "value", "created_at")
SELECT s."namespace", s."id", label.key, label.value, s."created_at"
FROM "sessions" s CROSS JOIN LATERAL jsonb_each_text(s."details" -> 'labels') label
WHERE s."details" ? 'labels';
