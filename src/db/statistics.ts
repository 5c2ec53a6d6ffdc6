/**
 * What the planner knows of the tables that grow. A connection plans each statement once and keeps the plan until
 * PostgreSQL analyzes the table anew, which it sees to once a minute. Planned for a table with nothing or a few rows in it, a
 * read by id scans the table, or walks an index from end to end: with 20,000 sessions it took 43 ms in place of 0.05.
 */

import type { Queries } from "./client.ts";

const analyzing = {
  // Where somebody else analyzes or vacuums the table, that will do.
  sessions: "analyze (skip_locked) sessions",
  events: "analyze (skip_locked) events",
  checkpoints: "analyze (skip_locked) checkpoints",
  idempotency_keys: "analyze (skip_locked) idempotency_keys",
  session_labels: "analyze (skip_locked) session_labels",
};

export type GrowingTable = keyof typeof analyzing;

/** Below it plans are bad whatever is known, and cost little: the whole table is some 40 blocks, or 120 of 600-byte contexts. */
const leastRows = 500;

/**
 * All of it is read without a lock: the size in blocks would be waited for while the table is locked. The rows are those
 * that are alive as PostgreSQL counts them for its autovacuum, so what is updated again and again does not grow. A table
 * that was restored from a dump has been counted, and was never analyzed. Where autovacuum is switched off for a table, its
 * owner wants to choose the time.
 */
const statement = `
  select c.relname as name, pg_has_role(c.relowner, 'usage') as is_ours
  from pg_class c, lateral (
    select pg_stat_get_live_tuples(c.oid) as live,
      coalesce(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) as analyzed_at
  ) counted
  where c.oid = any(array[${Object.keys(analyzing)
    .map((table) => `to_regclass('${table}')::oid`)
    .join(", ")}])
    and live >= ${leastRows} and (live >= 2 * c.reltuples or analyzed_at is null)
    and not exists (
      select from pg_options_to_table(c.reloptions) o
      where o.option_name = 'autovacuum_enabled' and not o.option_value::boolean
    )`;

export interface OutgrownTable {
  readonly name: GrowingTable;
  /** Whether the database's user may analyze it. */
  readonly is_ours: boolean;
}

/**
 * The tables whose statistics are of half as many rows as they have by now, or fewer, or of none; tables of a few hundred
 * rows don't count.
 *
 * @throws {ServiceError} database_unavailable
 */
export function outgrownTables(database: Queries): Promise<OutgrownTable[]> {
  return database.query(statement, [], { neverWaits: true });
}

/**
 * Makes new statistics of the table; from then on statements are planned for it as it is. Takes 10 to 600 ms, however large
 * the table, where it is in memory: it looks at 30,000 rows at most. Does nothing where the table is locked.
 *
 * @throws {ServiceError} database_unavailable
 */
export async function analyzeTable(database: Queries, table: GrowingTable): Promise<void> {
  await database.query(analyzing[table]);
}
