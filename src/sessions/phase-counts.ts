/**
 * How many sessions there are in each phase. No index tells (one on `phase` would cost each change its HOT update), so
 * all are read; and so this is done by one process at a time, now and then, and its result kept for all.
 */

import type { Database } from "../db/client.ts";
import { type Phase, phases } from "./lifecycle.ts";

export interface PhaseCounts {
  readonly byPhase: Readonly<Record<Phase, number>>;
  /** How long ago they were counted, in seconds, by the database's clock. */
  readonly ageSeconds: number;
}

/** How long a count is good enough. */
const countEvery = "interval '30 s'";

/*
 * Who finds the row taken, or counted meanwhile, does not wait and does not count: `due` is then empty, and the sessions
 * are not even looked at. A `counted_at` of the future was written by a clock that was wrong.
 */
const statement = `
  with due as materialized (
    select name from phase_counts
    where name = 'sessions'
      and counted_at not between clock_timestamp() - ${countEvery} and clock_timestamp() + ${countEvery}
    for no key update skip locked
  ), counted as materialized (
    select phase, count(*) as sessions from sessions
    where deleted_at is null and exists (select from due)
    group by phase
  ), written as (
    update phase_counts p set
      counts = (select coalesce(jsonb_object_agg(phase, sessions), '{}') from counted),
      counted_at = clock_timestamp()
    from due where p.name = due.name
    returning p.counts, p.counted_at
  ), known as (
    select counts, counted_at from written
    union all
    select counts, counted_at from phase_counts
    where name = 'sessions' and counted_at > '-infinity' and not exists (select from written)
  )
  select counts::text as counts,
    greatest(0, extract(epoch from clock_timestamp() - counted_at))::float8 as age_seconds
  from known`;

/**
 * Gives the sessions by phase, deleted ones left out; counts them first when that was last done 30 s ago or more, and
 * nobody else is at it.
 *
 * @returns undefined while they are counted for the first time, elsewhere
 * @throws {ServiceError} database_unavailable, schema_outdated
 */
export async function readPhaseCounts(database: Database): Promise<PhaseCounts | undefined> {
  const [row] = await database.query<{ readonly counts: string; readonly age_seconds: number }>(statement);
  if (row === undefined) return undefined;
  const counts = JSON.parse(row.counts) as Partial<Record<Phase, number>>;
  const byPhase = Object.fromEntries(phases.map((phase) => [phase, counts[phase] ?? 0])) as Record<Phase, number>;
  return { byPhase, ageSeconds: row.age_seconds };
}
