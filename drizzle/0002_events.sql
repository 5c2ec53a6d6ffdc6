CREATE TABLE "idempotency_keys" (
	"namespace" text NOT NULL,
	"method" text NOT NULL,
	"path" text NOT NULL,
	"key" text NOT NULL,
	"fingerprint" text NOT NULL,
	"status" smallint NOT NULL,
	"headers" text NOT NULL,
	"body" text NOT NULL,
	"created_at" timestamp(6) with time zone NOT NULL,
	CONSTRAINT "idempotency_keys_namespace_method_path_key_pk" PRIMARY KEY("namespace","method","path","key")
);
--> statement-breakpoint
ALTER TABLE "relays" ADD COLUMN "settled" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "relays" ADD COLUMN "pending" "int8multirange" DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE "relays" ADD COLUMN "horizon" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "purge_requested_at" timestamp(6) with time zone;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "legal_hold" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "idempotency_keys_by_time" ON "idempotency_keys" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "events_by_type" ON "events" USING btree ("namespace","event_type","position");--> statement-breakpoint
CREATE INDEX "events_by_time" ON "events" USING btree ("namespace","created_at","position");--> statement-breakpoint
CREATE INDEX "sessions_to_purge" ON "sessions" USING btree ("purge_requested_at") WHERE "sessions"."purge_requested_at" is not null;--> statement-breakpoint
CREATE INDEX "sessions_on_hold" ON "sessions" USING btree ("namespace","id") WHERE "sessions"."legal_hold";