/**
 * Heartbeats: a session is at work still, and so is the holder of its lease. They move times that no index knows of, and
 * nothing else: no version, no event.
 */

import type { Queries } from "../db/client.ts";
import type { RequestContext } from "./context.ts";
import { type LeaseRow, leaseColumnNames, leaseColumns } from "./lease.ts";
import { endedPhases, type Phase } from "./lifecycle.ts";
import { hasLease, isTheOne, setAt } from "./one.ts";
import { type Assignments, phaseList, setList } from "./transition.ts";

export interface Heartbeat {
  readonly id: string;
  /** The fencing token of the lease that the sender believes to hold: it is then renewed, or the heartbeat refused. */
  readonly leaseToken?: number | undefined;
  /** For how long the lease is renewed, now and from now on; undefined: as long as before. Says nothing without a token. */
  readonly leaseSeconds?: number | undefined;
}

export type HeartbeatResult =
  | { readonly outcome: "ok"; readonly lease: LeaseRow }
  | { readonly outcome: "not_found" }
  /** The lease of that token is over. */
  | { readonly outcome: "lease_lost" }
  /** The session's work is over. */
  | { readonly outcome: "not_live"; readonly phase: Phase };

const beatTime = (row: string) => `greatest(clock_timestamp(), ${row}.updated_at, ${row}.last_activity_at)`;

/** SQL over `s`, the row before, and `i`, what is asked for. */
const heard = (now: string): Assignments => ({
  last_activity_at: now,
  last_activity_kind: "'heartbeat'",
  lease_expires_at: `case when i.lease_token is null then s.lease_expires_at
        else ${now} + make_interval(secs => coalesce(i.lease_seconds, s.lease_seconds)) end`,
  lease_seconds: `case when i.lease_token is null then s.lease_seconds
        else coalesce(i.lease_seconds, s.lease_seconds) end`,
  // A lease that ends sooner than the one before must be looked at sooner.
  next_check_at: `case when i.lease_token is not null and i.lease_seconds < s.lease_seconds
        then least(s.next_check_at, ${now} + make_interval(secs => i.lease_seconds)) else s.next_check_at end`,
});

const ended = phaseList(endedPhases);

/** @param skipLocked leaves out sessions that somebody else is changing, instead of waiting for them */
const heartbeatStatement = (skipLocked: boolean) => `
  with decided as materialized (
    select i.id, i.lease_token, i.lease_seconds, l.phase as from_phase,
      ${beatTime("l")} as now,
      case
        when l.id is null then 'not_found'
        when i.lease_token is not null and (l.lease_owner is null or l.lease_token <> i.lease_token) then 'lease_lost'
        when l.phase in (${ended}) then 'not_live'
        else 'ok'
      end as outcome
    from jsonb_to_recordset($3::text::jsonb) as i (id uuid, lease_token bigint, lease_seconds int)
    left join (
      select id, phase, lease_owner, lease_token, updated_at, last_activity_at
      from sessions
      where namespace = $1 and id = any($2::text::uuid[]) and deleted_at is null
      order by id
      for no key update ${skipLocked ? "skip locked" : ""}
    ) l using (id)
  ), heard as (
    update sessions s set
      ${setList(heard("i.now"))}
    from decided i
    where i.outcome = 'ok' and s.namespace = $1 and s.id = i.id
      and s.id = any($2::text::uuid[]) -- else the planner, which expects 100 inputs, may read the whole table
    returning ${leaseColumns("s", "i.lease_token is not null")}
  )
  select i.id as asked_id, i.outcome, i.from_phase, ${leaseColumnNames("h")}
  from decided i left join heard h using (id)`;

const statements = { waiting: heartbeatStatement(false), skipping: heartbeatStatement(true) };

/** See one.ts. */
const oneStatement = `
  update sessions s set
    ${setAt(beatTime("s"), heard)}
  from (select $3::text::bigint as lease_token, $4::text::int as lease_seconds offset 0) i
  where ${isTheOne}
    and ${hasLease} and s.phase not in (${ended})
  returning ${leaseColumns("s", "i.lease_token is not null")}`;

type ResultRow = LeaseRow & {
  readonly asked_id: string;
  readonly outcome: HeartbeatResult["outcome"];
  readonly from_phase: Phase;
};

interface Asked {
  readonly context: RequestContext;
  readonly input: Heartbeat;
}

/**
 * Notes the heartbeats of sessions, each for itself.
 *
 * @param asked of one namespace, at most one heartbeat a session
 * @param wait whether to wait for a session that somebody else is changing
 * @returns a result for each heartbeat, in their order; undefined, where it was not to wait, for a session that somebody
 * else is changing, or that does not exist, and of one heartbeat also for one that is refused
 */
export async function noteHeartbeats(
  database: Queries,
  asked: readonly Asked[],
  { wait = true }: { readonly wait?: boolean } = {},
): Promise<(HeartbeatResult | undefined)[]> {
  const [first] = asked;
  if (first === undefined) return [];
  if (asked.length === 1 && !wait) return [await noteOne(database, first)];
  const inputs = asked.map(({ input: { id, leaseToken, leaseSeconds } }) => ({
    id,
    lease_token: leaseToken,
    lease_seconds: leaseSeconds,
  }));
  const statement = wait ? statements.waiting : statements.skipping;
  const parameters = [first.context.namespace, `{${inputs.map(({ id }) => id).join(",")}}`, JSON.stringify(inputs)];
  const rows = await database.query<ResultRow>(statement, parameters, { neverWaits: !wait });
  const byId = new Map(rows.map((row) => [row.asked_id, row]));
  return asked.map(({ input }) => resultOf(byId.get(input.id.toLowerCase()), wait));
}

async function noteOne(database: Queries, { context, input }: Asked): Promise<HeartbeatResult | undefined> {
  const { id, leaseToken, leaseSeconds } = input;
  const text = (value: number | undefined) => (value === undefined ? null : String(value));
  const parameters = [context.namespace, id, text(leaseToken), text(leaseSeconds)];
  const [lease] = await database.query<LeaseRow>(oneStatement, parameters, { neverWaits: true });
  return lease && { outcome: "ok", lease };
}

function resultOf(row: ResultRow | undefined, wait: boolean): HeartbeatResult | undefined {
  switch (row?.outcome) {
    case "ok":
      return { outcome: "ok", lease: row };
    case "lease_lost":
      return { outcome: "lease_lost" };
    case "not_live":
      return { outcome: "not_live", phase: row.from_phase };
    default:
      return wait ? { outcome: "not_found" } : undefined;
  }
}
