-- The feed has one row, so that nobody needs to ask whether it is there.
INSERT INTO "relays" ("name", "holder", "expires_at")
VALUES ('redis', '00000000-0000-0000-0000-000000000000', '-infinity') ON CONFLICT DO NOTHING;--> statement-breakpoint
UPDATE "relays" SET "settled" = "position";--> statement-breakpoint
-- It is updated with every batch of events: room for its next version on its page keeps the table at one page.
ALTER TABLE "relays" SET (fillfactor = 10);--> statement-breakpoint
-- What happened stays as it was told. Only the place in the feed may be drawn anew, for an event that was committed late.
CREATE FUNCTION "refuse_change_of_event"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'events are never changed' USING ERRCODE = 'integrity_constraint_violation';
END $$;--> statement-breakpoint
CREATE TRIGGER "events_are_immutable" BEFORE UPDATE OF "event_id", "namespace", "session_id", "sequence",
	"session_version", "event_type", "schema_version", "payload", "metadata", "created_at" ON "events"
	FOR EACH ROW EXECUTE FUNCTION "refuse_change_of_event"();
