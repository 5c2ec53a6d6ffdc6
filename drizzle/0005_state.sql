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
--> statement-breakpoint
-- RFC 7396. Of an object only the members that the patch names are looked at: the others are taken over as they are.
CREATE FUNCTION "merge_patch"("target" jsonb, "patch" jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  written jsonb;
  removed text[];
BEGIN
  IF jsonb_typeof(patch) IS DISTINCT FROM 'object' THEN
    RETURN patch;
  END IF;
  -- Read once: a large one is stored out of line, and would be read again by each operator.
  target := target #> '{}';
  IF jsonb_typeof(target) IS DISTINCT FROM 'object' THEN
    target := '{}';
  END IF;
  SELECT
    jsonb_object_agg(key, CASE
      WHEN jsonb_typeof(value) <> 'object' THEN value
      -- A call costs 10 us, and most small objects need none: nothing is removed in them, and nothing merged.
      WHEN pg_column_size(value) < 1000 AND value::text !~ 'null|.[{]' THEN
        CASE WHEN jsonb_typeof(target -> key) = 'object' THEN (target -> key) || value ELSE value END
      ELSE merge_patch(target -> key, value)
    END) FILTER (WHERE value <> 'null'),
    array_agg(key) FILTER (WHERE value = 'null')
  INTO written, removed
  FROM jsonb_each(patch);
  IF cardinality(removed) > 100 THEN
    -- The operator compares each key of the one with each of the other.
    SELECT coalesce(jsonb_object_agg(key, value), '{}') INTO target
    FROM jsonb_each(target) WHERE (patch -> key) IS DISTINCT FROM 'null';
  ELSIF removed IS NOT NULL THEN
    target := target - removed;
  END IF;
  RETURN target || coalesce(written, '{}');
END
$$;
--> statement-breakpoint
-- What an RFC 6901 pointer names, given its parts; null where there is nothing. An array's index is written one way: the
-- operator takes -1, 01 and +1 too.
CREATE FUNCTION "json_at"("target" jsonb, "path" text[]) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  FOR at IN 1 .. cardinality(path) LOOP
    IF path[at] ~ '^[\s+-]*[0-9]+$' AND path[at] !~ '^(0|[1-9][0-9]*)$'
      AND jsonb_typeof(target #> path[:at - 1]) = 'array' THEN
      RETURN NULL;
    END IF;
  END LOOP;
  RETURN target #> path;
END
$$;
--> statement-breakpoint
-- RFC 6902, of operations whose `path` and `from` are arrays of a pointer's parts. What refuses the patch is told in
-- `failure`: the index of the operation, and why.
CREATE FUNCTION "json_patch"("target" jsonb, "operations" jsonb, OUT "patched" jsonb, OUT "failure" jsonb)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  operation jsonb;
  index int := -1;
  verb text;
  path text[];
  source text[];
  value jsonb;
  parent jsonb;
  step text;
  copied bigint := 0;
  written bigint := 0;
  why text;
BEGIN
  patched := target #> '{}';
  FOR operation IN SELECT * FROM jsonb_array_elements(operations) LOOP
    index := index + 1;
    verb := operation ->> 'op';
    path := ARRAY(SELECT jsonb_array_elements_text(operation -> 'path'));
    source := ARRAY(SELECT jsonb_array_elements_text(operation -> 'from'));
    value := operation -> 'value';
    -- Each writes the whole anew: 1.5 to 6 ms a megabyte.
    written := written + pg_column_size(patched);
    IF written > 134217728 AND index > 0 THEN
      why := 'too_many';
    ELSIF verb IN ('move', 'copy') THEN
      value := json_at(patched, source);
      IF value IS NULL THEN
        why := 'missing_from';
      ELSIF verb = 'move' AND cardinality(path) > cardinality(source) AND path[:cardinality(source)] = source THEN
        why := 'into_itself';
      ELSIF verb = 'copy' THEN
        -- Each could double what there is.
        copied := copied + octet_length(value::text);
        IF copied > 8388608 THEN
          why := 'too_large';
        END IF;
      END IF;
    ELSIF verb IN ('remove', 'replace') AND json_at(patched, path) IS NULL THEN
      why := 'missing';
    ELSIF verb = 'test' AND json_at(patched, path) IS DISTINCT FROM value THEN
      failure := jsonb_build_object('outcome', 'json_patch_test_failed', 'index', index);
      RETURN;
    END IF;
    IF why IS NULL AND verb IN ('remove', 'move') THEN
      IF verb = 'remove' THEN
        source := path;
      END IF;
      patched := CASE WHEN cardinality(source) > 0 THEN patched #- source END;
    END IF;
    IF why IS NULL AND verb IN ('add', 'replace', 'move', 'copy') THEN
      IF cardinality(path) = 0 THEN
        patched := value;
      ELSIF verb = 'replace' THEN
        patched := jsonb_set(patched, path, value);
      ELSE
        parent := json_at(patched, path[:cardinality(path) - 1]);
        IF jsonb_typeof(parent) = 'object' THEN
          patched := jsonb_set(patched, path, value);
        ELSIF jsonb_typeof(parent) = 'array' THEN
          step := path[cardinality(path)];
          IF step = '-' THEN
            step := jsonb_array_length(parent)::text;
          END IF;
          IF step !~ '^(0|[1-9][0-9]{0,8})$' OR step::int > jsonb_array_length(parent) THEN
            why := 'bad_index';
          ELSE
            patched := jsonb_insert(patched, path[:cardinality(path) - 1] || step, value);
          END IF;
        ELSE
          why := 'no_parent';
        END IF;
      END IF;
      -- Of what a request holds it is known before.
      IF why IS NULL AND verb IN ('move', 'copy') AND cardinality(path) > cardinality(source)
        AND jsonb_path_exists(value, format('strict $.**{%s} ? (@.type() == "object" || @.type() == "array")',
          128 - cardinality(path))::jsonpath) THEN
        why := 'too_deep';
      END IF;
    END IF;
    IF why IS NOT NULL THEN
      failure := jsonb_build_object('outcome', 'json_patch_failed', 'index', index, 'why', why);
      RETURN;
    END IF;
  END LOOP;
END
$$;
--> statement-breakpoint
-- Adds to the numbers that the paths name, each an array of a pointer's parts. A last member that is not there counts as 0.
CREATE FUNCTION "add_numbers"("target" jsonb, "amounts" jsonb, OUT "added" jsonb, OUT "failure" jsonb)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  one jsonb;
  path text[];
  found jsonb;
  total numeric;
BEGIN
  added := target #> '{}';
  -- Each writes the whole anew.
  IF (jsonb_array_length(amounts) - 1) * pg_column_size(added)::bigint > 134217728 THEN
    failure := jsonb_build_object('outcome', 'too_many_numbers', 'most', 1 + 134217728 / pg_column_size(added));
    RETURN;
  END IF;
  FOR one IN SELECT * FROM jsonb_array_elements(amounts) LOOP
    path := ARRAY(SELECT jsonb_array_elements_text(one -> 'path'));
    found := json_at(added, path);
    IF found IS NULL AND jsonb_typeof(json_at(added, path[:cardinality(path) - 1])) = 'object' THEN
      found := '0';
    END IF;
    IF jsonb_typeof(found) IS DISTINCT FROM 'number' THEN
      failure := jsonb_build_object('outcome', 'not_a_number', 'pointer', one -> 'pointer');
      RETURN;
    END IF;
    total := found::numeric + (one -> 'amount')::numeric;
    IF length(translate(total::text, '-.', '')) > 400 THEN
      failure := jsonb_build_object('outcome', 'number_out_of_range', 'pointer', one -> 'pointer');
      RETURN;
    END IF;
    added := jsonb_set(added, path, to_jsonb(total));
  END LOOP;
END
$$;
--> statement-breakpoint
-- A context after what a change asks of it: it is replaced, merged into, patched, and added to. All null, and it stays.
CREATE FUNCTION "edited_context"("target" jsonb, "replacement" jsonb, "merge" jsonb, "operations" jsonb, "amounts" jsonb,
  OUT "context" jsonb, OUT "failure" jsonb)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  context := replacement;
  IF target IS NULL THEN
    RETURN;
  END IF;
  IF merge IS NOT NULL THEN
    context := merge_patch(coalesce(context, target), merge);
  END IF;
  IF operations IS NOT NULL THEN
    SELECT p.patched, p.failure INTO context, failure FROM json_patch(coalesce(context, target), operations) p;
    IF failure IS NULL AND jsonb_typeof(context) IS DISTINCT FROM 'object' THEN
      failure := jsonb_build_object('outcome', 'json_patch_failed', 'index', jsonb_array_length(operations) - 1,
        'why', 'not_an_object');
    END IF;
  END IF;
  IF failure IS NULL AND amounts IS NOT NULL THEN
    SELECT a.added, a.failure INTO context, failure FROM add_numbers(coalesce(context, target), amounts) a;
  END IF;
  IF failure IS NOT NULL THEN
    context := NULL;
  END IF;
END
$$;
