/**
 * Which checkpoints of a session are kept, and removing the others, step by step: from the newest one to the oldest, a
 * bounded number a statement, however many there are.
 *
 * A checkpoint is kept when one rule keeps it. The last one of a line is, by any rules.
 */

import type { Config } from "../config.ts";
import type { Queries } from "../db/client.ts";
import { renewal } from "./change-assignments.ts";

/** The names are those of the settings, and of a session's `checkpoint_retention`. */
export interface KeepRules {
  /** So many of the last ones of each line; 0: all. */
  readonly keep_last: number;
  /** Those that are younger than so many days; 0: none for its age. */
  readonly keep_days: number;
  /** The last one of each day (UTC) of a line, for so many days; 0: none for that. */
  readonly keep_daily_days: number;
}

/** Those of sessions that say nothing else. */
export function keepRules(
  config: Pick<Config, "CHECKPOINT_KEEP_LAST" | "CHECKPOINT_KEEP_DAYS" | "CHECKPOINT_KEEP_DAILY_DAYS">,
): KeepRules {
  return {
    keep_last: config.CHECKPOINT_KEEP_LAST,
    keep_days: config.CHECKPOINT_KEEP_DAYS,
    keep_daily_days: config.CHECKPOINT_KEEP_DAILY_DAYS,
  };
}

export const ruleNames = ["keep_last", "keep_days", "keep_daily_days"] as const satisfies readonly (keyof KeepRules)[];

/** How far the walk over a session's checkpoints has come. */
export interface PrunePlace {
  /** All from this number on have been looked at. */
  readonly before: number;
  /** JSON text: of each line, how many have been looked at, and the day of the last of them. */
  readonly lines: string;
  /** How many of the session's checkpoints had been removed, ever: when others remove some, what is known is void. */
  readonly removedEver: number | null;
}

/** Nothing has been looked at. */
export const newestFirst: PrunePlace = { before: 2_147_483_647, lines: "[]", removedEver: null };

/** At most so much is looked at and removed in a step. */
export interface StepSize {
  /** Checkpoints that are looked at: at most `mostLooks`. */
  readonly looks: number;
  readonly removals: number;
  /** Of what is removed; one checkpoint may have more. */
  readonly bytes: number;
}

export const mostLooks = 1_000;

/**
 * Of more lines than this nothing is known from one step to the next: their checkpoints count as the last ones, and stay.
 */
const mostLines = 1_000;

/** `sweep` passes by what somebody else is changing, and does not wait for the disk. `look` removes nothing. */
export type PruneMode = "sweep" | "ask" | "look";

export interface PruneStep {
  readonly id: string;
  /** What a session says itself goes before. */
  readonly defaults: KeepRules;
  /** What goes before both. */
  readonly rules?: Partial<KeepRules> | undefined;
  readonly place: PrunePlace;
  readonly size: StepSize;
  /** The versions that If-Match names; undefined: any. */
  readonly expectedVersions?: readonly number[] | undefined;
  /** The fencing token of the lease that the caller believes to hold. */
  readonly leaseToken?: number | undefined;
}

export type PruneStepResult =
  | {
      readonly outcome: "ok";
      /** What was removed (or would be), newest first. */
      readonly numbers: readonly number[];
      readonly bytes: number;
      /** How many the session had before. */
      readonly count: number;
      readonly place: PrunePlace;
      /** Whether all of them have been looked at. */
      readonly ended: boolean;
    }
  /** There is no such session; for `sweep`, or somebody else has it locked. */
  | { readonly outcome: "not_found" }
  | { readonly outcome: "legal_hold" }
  | { readonly outcome: "lease_lost" }
  | { readonly outcome: "stale" }
  /** Others have removed checkpoints since the walk began, or at this moment: it must begin again. */
  | { readonly outcome: "disturbed"; readonly count: number };

const locks: Readonly<Record<PruneMode, string>> = {
  sweep: "for no key update skip locked",
  ask: "for no key update",
  look: "",
};

const notBefore = (days: string) => `now() - make_interval(hours => 24 * ${days})`;

/** SQL over a checkpoint that was looked at, and the rules. */
const isKept = `is_marked or keep_last = 0 or place <= keep_last
          or keep_days > 0 and created_at > ${notBefore("keep_days")}
          or keep_daily_days > 0 and ends_day and created_at > ${notBefore("keep_daily_days")}`;

/*
 * A day is told apart from the one before by the checkpoint before: within a session they are never older than those
 * before them.
 */
const judging = `placed as (
    select p.*, coalesce(l.seen, 0) + row_number() over line as place,
      p.day is distinct from lag(p.day, 1, l.day) over line as ends_day
    from page p left join lines l on l.ns = p.checkpoint_ns
    window line as (partition by p.checkpoint_ns order by p.number desc)
  ), judged as (
    select number, checkpoint_ns, bytes, day, place, not (${isKept}) as goes
    from placed cross join decided
  ), taken as materialized (
    select t.number, t.checkpoint_ns, t.bytes, t.day, t.place, t.goes
    from (
      select j.*, row_number() over so_far as looked, count(*) filter (where goes) over so_far as going,
        coalesce(sum(bytes) filter (where goes) over so_far, 0) as going_bytes
      from judged j
      window so_far as (order by number desc rows unbounded preceding)
    ) t cross join decided d
    where t.looked <= d.looks and t.going <= d.removals and (t.going <= 1 or t.going_bytes <= d.most_bytes)
  )`;

/*
 * What is decided is decided of the checkpoints as the statement found them, and done under the lock of the session's
 * row. In between others may have saved checkpoints, which makes none of these one to keep; and they may have removed
 * some, which can: `last_checkpoint - checkpoint_count`, the number of all that were ever removed, tells.
 */
function statement(mode: PruneMode): string {
  return `
  with asked as materialized (
    select * from jsonb_to_record($3::text::jsonb) as i (before int, lines jsonb, removed_ever int, rules jsonb,
      defaults jsonb, looks int, removals int, most_bytes bigint, expected jsonb, token bigint)
  ), found as materialized (
    select last_checkpoint - checkpoint_count as removed_ever
    from sessions where namespace = $1 and id = $2::text::uuid
  ), locked as materialized (
    select version, checkpoint_count, last_checkpoint - checkpoint_count as removed_ever, legal_hold, last_activity_at,
      case when lease_owner is not null then lease_token end as current_token,
      details -> 'checkpoint_retention' as own
    from sessions
    where namespace = $1 and id = $2::text::uuid and purge_requested_at is null
      ${mode === "sweep" ? "" : "and deleted_at is null"}
    ${locks[mode]}
  ), decided as materialized (
    select l.checkpoint_count, l.removed_ever, i.before, i.looks, i.removals, i.most_bytes, i.token,
      greatest(clock_timestamp(), l.last_activity_at) as now,
      ${ruleNames.map((name) => `(r.rules ->> '${name}')::numeric::int as ${name}`).join(", ")},
      case when l.legal_hold then 'legal_hold'
        when i.token is not null and l.current_token is distinct from i.token then 'lease_lost'
        when i.expected is not null and not i.expected @> to_jsonb(l.version) then 'stale'
        when l.removed_ever <> f.removed_ever or l.removed_ever <> i.removed_ever then 'disturbed'
        else 'ok'
      end as outcome
    from locked l cross join found f cross join asked i
      cross join lateral (select i.defaults || coalesce(l.own, '{}') || i.rules as rules) r
  ), lines as materialized (
    select line.* from asked i cross join lateral jsonb_to_recordset(i.lines) as line (ns text, seen int, day date)
  ), page as materialized (
    select c.*, (c.created_at at time zone 'UTC')::date as day
    from decided d cross join lateral (
      select number, checkpoint_ns, bytes::bigint + context_bytes as bytes, created_at,
        label is not null or type = 'milestone' as is_marked
      from checkpoints
      where namespace = $1 and session_id = $2::text::uuid and number < d.before
      order by number desc
      limit ${mostLooks}
    ) c
    where d.outcome = 'ok'
  ), ${judging}, removed as (${mode === "look" ? "select number, bytes from taken where goes" : removal}
  ), recounted as (${recount[mode]}), result as (
    select coalesce(json_agg(number order by number desc), '[]')::text as numbers, count(*)::int as removed,
      coalesce(sum(bytes), 0)::text as bytes
    from removed
  )
  select d.outcome, d.checkpoint_count as count, r.numbers, r.bytes,
    d.removed_ever${mode === "look" ? "" : " + r.removed"} as removed_ever, (select min(number) from taken) as before,
    (select count(*) from page) < ${mostLooks} and (select count(*) from page) = (select count(*) from taken) as ended,
    (${linesAfter}) as lines
  from decided d cross join result r`;
}

const removal = `
    delete from checkpoints
    where namespace = $1 and session_id = $2::text::uuid
      and number = any(array(select number from taken where goes))
    returning number, bytes::bigint + context_bytes as bytes`;

const renewals = Object.entries(renewal);
const uncounted = "checkpoint_count = s.checkpoint_count - r.count";
const ofSession = "s.namespace = $1 and s.id = $2::text::uuid";

const recount: Readonly<Record<PruneMode, string>> = {
  // What a crash brings back is counted again with it, and removed again: nobody was told that it is gone.
  sweep: `
    update sessions s set ${uncounted}
    from (select count(*)::int as count from removed) r
      cross join (select set_config('synchronous_commit', 'off', true) offset 0) quick
    where ${ofSession} and r.count > 0`,
  // Who names the token of the lease renews it, as by a heartbeat.
  ask: `
    update sessions s set ${uncounted}, ${renewals
      .map(
        ([column, value]) => `
      ${column} = case when i.token is not null then ${value} else s.${column} end`,
      )
      .join(",")}
    from (select count(*)::int as count from removed) r cross join decided i
    where ${ofSession} and i.outcome = 'ok' and (r.count > 0 or i.token is not null)`,
  look: "select",
};

const linesAfter = `
    select coalesce(jsonb_agg(to_jsonb(l)), '[]')::text
    from (
      select checkpoint_ns as ns, max(place) as seen, (array_agg(day order by number))[1] as day from taken
      group by checkpoint_ns
      union all
      select ns, seen, day from lines where ns not in (select checkpoint_ns from taken)
      limit ${mostLines}
    ) l`;

export const pruneStatements: Readonly<Record<PruneMode, string>> = {
  sweep: statement("sweep"),
  ask: statement("ask"),
  look: statement("look"),
};

interface StepRow {
  readonly outcome: PruneStepResult["outcome"];
  readonly count: number;
  readonly numbers: string;
  readonly bytes: string;
  readonly removed_ever: number;
  readonly before: number | null;
  readonly ended: boolean;
  readonly lines: string;
}

/**
 * Looks at the next checkpoints of a session, and removes those that no rule keeps: with the count of those that are left,
 * without a new version or an event.
 */
export async function pruneStep(
  database: Queries,
  namespace: string,
  { id, defaults, rules = {}, place, size, expectedVersions, leaseToken }: PruneStep,
  mode: PruneMode,
): Promise<PruneStepResult> {
  const asked = JSON.stringify({
    before: place.before,
    removed_ever: place.removedEver,
    rules,
    defaults,
    looks: size.looks,
    removals: size.removals,
    most_bytes: size.bytes,
    expected: expectedVersions,
    token: leaseToken,
  });
  const [row] = await database.query<StepRow>(pruneStatements[mode], [
    namespace,
    id,
    `${asked.slice(0, -1)},"lines":${place.lines}}`,
  ]);
  if (row === undefined) return { outcome: "not_found" };
  if (row.outcome === "disturbed") return { outcome: row.outcome, count: row.count };
  if (row.outcome !== "ok") return { outcome: row.outcome };
  return {
    outcome: "ok",
    numbers: JSON.parse(row.numbers) as number[],
    bytes: Number(row.bytes),
    count: row.count,
    place: { before: row.before ?? place.before, lines: row.lines, removedEver: row.removed_ever },
    ended: row.ended,
  };
}
