/** Finding the sessions that may have too many checkpoints, a bounded number a statement. */

import type { Queries } from "../db/client.ts";
import type { KeepRules } from "./checkpoint-retention.ts";

/** Just before this session, in the order of namespaces and ids, backwards. */
export interface WalkPlace {
  readonly namespace: string;
  readonly sessionId: string;
}

export interface FoundSessions {
  /** Those that have more checkpoints than the rules keep for their number alone. */
  readonly sessions: readonly WalkPlace[];
  /** Undefined: there are no more. */
  readonly place: WalkPlace | undefined;
}

/** A statement that looks at as many takes some 10 ms. */
const sessionsLooked = 1_000;

/*
 * From one session that has checkpoints to the next one, by the primary key of these: the others are not looked at. And
 * backwards, so as to come upon the newest checkpoint of each: the oldest ones may have been removed just now, and stay in
 * the index until the next vacuum.
 */
const nextSession = (bound: string) => `
      select namespace, session_id from checkpoints where ${bound}
      order by namespace desc, session_id desc, number desc
      limit 1`;

/** For tests of what it costs, as `pruneStatements` is. */
export const findStatement = `
  with recursive walk as (
    select first.*, 1 as nth
    from (
      (${nextSession("$1::text is null")})
      union all
      (${nextSession("$1::text is not null and (namespace, session_id) < ($1::text, $2::text::uuid)")})
    ) first
    union all
    select next.*, w.nth + 1
    from walk w cross join lateral (${nextSession("(namespace, session_id) < (w.namespace, w.session_id)")}) next
    where w.nth < ${sessionsLooked}
  )
  select w.namespace, w.session_id, coalesce(s.may_have_more, false) as may_have_more
  from walk w left join lateral (
    select case when checkpoint_count < 2 or legal_hold or purge_requested_at is not null then false
      else checkpoint_count > limits.keep_last and limits.keep_last > 0 end as may_have_more
    from sessions cross join lateral (
      select coalesce((details -> 'checkpoint_retention' ->> 'keep_last')::numeric::int, $3::text::int) as keep_last
      offset 0
    ) limits
    where namespace = w.namespace and id = w.session_id
    offset 0
  ) s on true
  where s.may_have_more or w.nth = (select max(nth) from walk)
  order by w.nth`;

interface FoundRow {
  readonly namespace: string;
  readonly session_id: string;
  readonly may_have_more: boolean;
}

/**
 * Looks at the next 1,000 sessions that have checkpoints, in all namespaces.
 *
 * @param place from the look before; undefined: from the newest id on
 */
export async function findSessionsToPrune(
  database: Queries,
  defaults: KeepRules,
  place?: WalkPlace | undefined,
): Promise<FoundSessions> {
  const rows = await database.query<FoundRow>(
    findStatement,
    [place?.namespace ?? null, place?.sessionId ?? null, defaults.keep_last],
    { neverWaits: true },
  );
  const placed = rows.map((row) => ({ namespace: row.namespace, sessionId: row.session_id, more: row.may_have_more }));
  return { sessions: placed.filter(({ more }) => more), place: placed.at(-1) };
}
