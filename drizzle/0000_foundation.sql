CREATE TABLE "events" (
	"position" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "events_position_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"event_id" uuid NOT NULL,
	"namespace" text DEFAULT 'default' NOT NULL,
	"session_id" uuid NOT NULL,
	"sequence" integer NOT NULL,
	"session_version" integer NOT NULL,
	"event_type" text NOT NULL,
	"schema_version" smallint DEFAULT 1 NOT NULL,
	"payload" jsonb NOT NULL,
	"metadata" jsonb DEFAULT '{}' NOT NULL,
	"created_at" timestamp(6) with time zone NOT NULL,
	CONSTRAINT "events_payload_object" CHECK (jsonb_typeof("events"."payload") = 'object')
);
--> statement-breakpoint
CREATE TABLE "relays" (
	"name" text PRIMARY KEY NOT NULL,
	"holder" uuid NOT NULL,
	"token" bigint DEFAULT 1 NOT NULL,
	"expires_at" timestamp(6) with time zone NOT NULL,
	"position" bigint DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "sessions" (
	"namespace" text DEFAULT 'default' NOT NULL,
	"id" uuid NOT NULL,
	"agent_id" uuid NOT NULL,
	"session_type" text DEFAULT 'conversation' NOT NULL,
	"phase" text DEFAULT 'running' NOT NULL,
	"status" text GENERATED ALWAYS AS (case when phase in ('pending', 'starting', 'running', 'ready', 'busy', 'waiting_input', 'stopping') then 'active' when phase in ('paused', 'idle', 'stopped') then 'paused' when phase in ('completed') then 'completed' else 'crashed' end) STORED NOT NULL,
	"context" jsonb DEFAULT '{}' NOT NULL,
	"checkpoint" jsonb,
	"runtime_backend" text DEFAULT 'unknown' NOT NULL,
	"runtime_metadata" jsonb DEFAULT '{}' NOT NULL,
	"version" integer DEFAULT 1 NOT NULL,
	"last_sequence" integer DEFAULT 0 NOT NULL,
	"attempt" integer DEFAULT 1 NOT NULL,
	"context_bytes" integer DEFAULT 2 NOT NULL,
	"checkpoint_bytes" integer DEFAULT 0 NOT NULL,
	"runtime_metadata_bytes" integer DEFAULT 2 NOT NULL,
	"created_at" timestamp(6) with time zone NOT NULL,
	"updated_at" timestamp(6) with time zone NOT NULL,
	"last_activity_at" timestamp(6) with time zone NOT NULL,
	"phase_since" timestamp(6) with time zone NOT NULL,
	"started_at" timestamp(6) with time zone,
	"attempt_started_at" timestamp(6) with time zone,
	"ended_at" timestamp(6) with time zone,
	"active_ms" bigint DEFAULT 0 NOT NULL,
	"claimable_at" timestamp(6) with time zone,
	"next_check_at" timestamp(6) with time zone,
	"deleted_at" timestamp(6) with time zone,
	"lease_owner" text,
	"lease_token" bigint DEFAULT 0 NOT NULL,
	"lease_expires_at" timestamp(6) with time zone,
	CONSTRAINT "sessions_namespace_id_pk" PRIMARY KEY("namespace","id"),
	CONSTRAINT "sessions_phase" CHECK (phase in ('pending', 'starting', 'running', 'ready', 'busy', 'waiting_input', 'stopping', 'paused', 'idle', 'stopped', 'completed', 'failed', 'crashed', 'expired', 'timed_out')),
	CONSTRAINT "sessions_runtime_backend" CHECK (runtime_backend in ('local', 'kubernetes', 'unknown')),
	CONSTRAINT "sessions_context_object" CHECK (jsonb_typeof("sessions"."context") = 'object'),
	CONSTRAINT "sessions_checkpoint_object" CHECK (jsonb_typeof("sessions"."checkpoint") = 'object'),
	CONSTRAINT "sessions_runtime_metadata_object" CHECK (jsonb_typeof("sessions"."runtime_metadata") = 'object')
);
--> statement-breakpoint
CREATE UNIQUE INDEX "events_by_session" ON "events" USING btree ("namespace","session_id","sequence");--> statement-breakpoint
CREATE INDEX "sessions_newest" ON "sessions" USING btree ("namespace","created_at","id");--> statement-breakpoint
CREATE INDEX "sessions_by_agent" ON "sessions" USING btree ("namespace","agent_id","created_at","id");--> statement-breakpoint
CREATE INDEX "sessions_by_status" ON "sessions" USING btree ("namespace","status","created_at","id");--> statement-breakpoint
CREATE INDEX "sessions_due" ON "sessions" USING btree ("next_check_at") WHERE "sessions"."next_check_at" is not null;--> statement-breakpoint
CREATE INDEX "sessions_claimable" ON "sessions" USING btree ("namespace","claimable_at") WHERE "sessions"."claimable_at" is not null;