CREATE TABLE "checkpoints" (
	"namespace" text DEFAULT 'default' NOT NULL,
	"session_id" uuid NOT NULL,
	"number" integer NOT NULL,
	"id" uuid NOT NULL,
	"checkpoint_ns" text DEFAULT '' NOT NULL,
	"type" text DEFAULT 'manual' NOT NULL,
	"label" text,
	"description" text,
	"created_by" text,
	"data" jsonb NOT NULL,
	"bytes" integer NOT NULL,
	"context" jsonb,
	"context_bytes" integer DEFAULT 0 NOT NULL,
	"session_version" integer NOT NULL,
	"created_at" timestamp(6) with time zone NOT NULL,
	CONSTRAINT "checkpoints_namespace_session_id_number_pk" PRIMARY KEY("namespace","session_id","number"),
	CONSTRAINT "checkpoints_type" CHECK (type in ('manual', 'milestone', 'auto', 'recovery_point'))
);
--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "last_checkpoint" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "checkpoint_count" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "is_context_unsaved" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "checkpoints_by_id" ON "checkpoints" USING btree ("namespace","id");--> statement-breakpoint
-- What sessions show already is the first of their history.
INSERT INTO "checkpoints" ("namespace", "session_id", "number", "id", "data", "bytes", "session_version", "created_at")
SELECT "namespace", "id", 1, gen_random_uuid(), "checkpoint", "checkpoint_bytes", "version", "updated_at"
FROM "sessions" WHERE "checkpoint" IS NOT NULL;--> statement-breakpoint
UPDATE "sessions" SET "last_checkpoint" = 1, "checkpoint_count" = 1 WHERE "checkpoint" IS NOT NULL;
