/** Somebody else's transaction, which holds its locks until it is told to end. */

import type { TestDatabase } from "./database.ts";
import { until } from "./until.ts";

export interface HeldLock extends AsyncDisposable {
  /** Ends the transaction, if it has not ended yet. */
  release(): Promise<void>;
}

/** @param statement what takes the locks, e.g. `lock table sessions in share mode` */
export async function holdLock({ sql }: TestDatabase, statement: string): Promise<HeldLock> {
  let free = () => {};
  const freed = new Promise<void>((resolve) => {
    free = resolve;
  });
  let ended: Promise<unknown> = Promise.resolve();
  await new Promise<void>((taken, fail) => {
    ended = sql.begin(async (tx) => {
      await tx.unsafe(statement);
      taken();
      await freed;
    });
    ended.catch(fail);
  });
  const release = async () => {
    free();
    await ended;
  };
  return { release, [Symbol.asyncDispose]: release };
}

/** Locks these sessions' rows. */
export function holdSessions(database: TestDatabase, ids: readonly string[]): Promise<HeldLock> {
  return holdLock(database, `select 1 from sessions where id in ('${ids.join("','")}') order by id for update`);
}

/** Waits until so many statements wait for a lock. */
export async function untilStuck({ sql }: TestDatabase, count: number): Promise<void> {
  await until(async () => {
    const [row] = await sql<{ stuck: number }[]>`
      select count(*)::int as stuck from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`;
    return (row?.stuck ?? 0) >= count;
  }, `${count} statements that wait for a lock`);
}
