/** Figures: of one session, and of the many that were created in a stretch of time. */

import type { Queries } from "../db/client.ts";
import { utcText } from "../db/time.ts";
import type { RequestContext } from "./context.ts";
import { livePhases, type Phase } from "./lifecycle.ts";
import { phaseList } from "./transition.ts";

/** Of a session's events so many are counted by type, the newest ones: it may have any number. */
export const countedEventsOfSession = 200_000;

/** Times are as `utcText` gives them. */
export interface SessionMetrics {
  readonly id: string;
  readonly phase: Phase;
  readonly attempt: number;
  readonly checked_at: string;
  readonly started_at: string | null;
  readonly ended_at: string | null;
  /** From the first start to the end, or to now; null when it never started. */
  readonly duration_ms: number | null;
  /** Time in live phases. */
  readonly active_duration_ms: number;
  readonly current_phase_ms: number;
  /** JSON text: milliseconds by phase, up to when it entered the phase that it is in; null when it never left one. */
  readonly phase_ms: string | null;
  readonly transitions: number;
  /** How many events were counted: all that are kept, or the newest `countedEventsOfSession`. */
  readonly events: number;
  /** JSON text: how many of them by type. */
  readonly events_by_type: string;
  /** JSON text of numbers by name, as is `stats_max`. */
  readonly stats: string | null;
  readonly stats_max: string | null;
  readonly context_bytes: number;
  readonly checkpoint_bytes: number;
  readonly runtime_metadata_bytes: number;
  readonly details_bytes: number;
}

function milliseconds(interval: string): string {
  return `round(extract(epoch from ${interval}) * 1000)::float8`;
}

const ofSession = `
  with w as materialized (select clock_timestamp() as now)
  select s.id, s.phase, s.attempt, ${utcText("w.now")} as checked_at,
    ${utcText("s.started_at")} as started_at, ${utcText("s.ended_at")} as ended_at,
    ${milliseconds("coalesce(s.ended_at, w.now) - s.started_at")} as duration_ms,
    s.active_ms + case when s.phase in (${phaseList(livePhases)}) then ${milliseconds("w.now - s.phase_since")} else 0 end
      as active_duration_ms,
    ${milliseconds("w.now - s.phase_since")} as current_phase_ms,
    s.phase_ms::text as phase_ms, s.transitions, e.counted as events, e.by_type as events_by_type,
    s.stats::text as stats, s.stats_max::text as stats_max,
    s.context_bytes, s.checkpoint_bytes, s.runtime_metadata_bytes, s.details_bytes
  from w cross join sessions s cross join lateral (
    select coalesce(jsonb_object_agg(event_type, number order by event_type), '{}')::text as by_type,
      coalesce(sum(number), 0)::int as counted
    from (
      select event_type, count(*) as number
      from (
        select event_type from events
        where namespace = s.namespace and session_id = s.id
        order by sequence desc
        limit (select ${countedEventsOfSession})
      ) newest
      group by event_type
    ) by_type
  ) e
  where s.namespace = $1 and s.id = $2::text::uuid and s.deleted_at is null`;

/**
 * Gives the figures of a session.
 *
 * @param id a UUID
 * @returns undefined when there is no such session
 * @throws {ServiceError} database_unavailable, schema_outdated
 */
export async function readSessionMetrics(
  database: Queries,
  context: RequestContext,
  id: string,
): Promise<SessionMetrics | undefined> {
  // Not among statements that share a connection: they would wait for the events to be counted.
  const [row] = await database.query<SessionMetrics>(ofSession, [context.namespace, id]);
  return row;
}

/** What sessions can be grouped by, each with the column of `sessions`. */
const groupColumns = { status: "status", phase: "phase", session_type: "session_type", agent_id: "agent_id" } as const;
export type GroupName = keyof typeof groupColumns;
export const groupNames = Object.keys(groupColumns) as readonly GroupName[];

/** So many groups are told, the largest ones: agents and session types may be any number. */
export const toldGroups = 100;

/*
 * What a request for figures may cost. A session takes about 2 µs, an event half of that: these take 0.7 s together, and
 * the deadline of a statement is 2.5 s.
 */
export const countedSessions = 200_000;
export const countedEvents = 500_000;

/** How far back figures go. */
export const longestStretchDays = 366;

export interface FiguresQuery {
  /** Sessions that were created since then: a time (RFC 3339), or so many seconds ago. */
  readonly since: { readonly at: string } | { readonly secondsAgo: number };
  readonly groupBy: GroupName;
  readonly agentId?: string | undefined;
}

/** Figures of the sessions that were created in a stretch of time, and are not deleted. */
export interface Figures {
  readonly since: string;
  readonly checked_at: string;
  /** Longer than `longestStretchDays`: then nothing was counted. */
  readonly is_too_long: boolean;
  readonly total: number;
  /** JSON text: an array of value, count and share. */
  readonly groups: string;
  readonly more_groups: number;
  readonly ended: number;
  readonly expired: number;
  /** Of those that started and ended: null when there are none. */
  readonly mean_ms: number | null;
  readonly p50_ms: number | null;
  readonly p95_ms: number | null;
  /** How many sessions were read, deleted ones included. */
  readonly sessions_read: number;
  /** When the oldest of them was created. */
  readonly sessions_since: string | null;
  readonly events: number;
  /** JSON text: how many events by type. */
  readonly events_by_type: string;
  /** When the oldest of them was; of an agent, when the oldest session was created whose events were counted. */
  readonly events_since: string | null;
}

/*
 * Read by index from the newest on, and no further than is counted. The limits are subqueries: of a number that it knows
 * the planner thinks, where it has no statistics, that sorting all there is would come cheaper.
 */
function newestSessions(filter: string): string {
  return `
    select id, phase, status, session_type, agent_id, created_at, started_at, ended_at, deleted_at
    from sessions
    where namespace = $1 ${filter} and created_at >= (select since from stretch)
    order by created_at desc, id desc
    limit (select ${countedSessions})`;
}

const eventsOfAll = `
    select event_type, created_at from events
    where namespace = $1 and created_at >= (select since from stretch)
    order by created_at desc, position desc
    limit (select ${countedEvents})`;

const eventsOfCounted = `
    select e.event_type, s.created_at
    from newest s cross join lateral (
      select event_type from events where namespace = $1 and session_id = s.id
      offset 0 -- session by session: a join would read the whole table
    ) e
    where s.deleted_at is null
    limit (select ${countedEvents})`;

/** In hours: a day of some time zone may have 23. */
const earliest = `now - make_interval(hours => 24 * ${longestStretchDays})`;

function figuresStatement(group: string, ofAgent: boolean): string {
  return `
  with w as materialized (
    select clock_timestamp() as now,
      coalesce($2::text::timestamptz, clock_timestamp() - make_interval(secs => $3::text::float8)) as asked
  ), stretch as materialized (
    select now, asked, asked < ${earliest} as is_too_long,
      case when asked < ${earliest} then 'infinity' else asked end as since
    from w
  ), newest as materialized (${newestSessions(ofAgent ? "and agent_id = $4::text::uuid" : "")}
  ), groups as materialized (
    select ${group}::text as value, count(*) as count from newest where deleted_at is null group by ${group}
  ), told as (
    select value, count from groups order by count desc, value limit ${toldGroups}
  ), volume as materialized (
    select event_type, count(*) as count, min(created_at) as oldest
    from (${ofAgent ? eventsOfCounted : eventsOfAll}
    ) e group by event_type
  ), totals as (
    select count(*) filter (where deleted_at is null) as total,
      count(*) filter (where deleted_at is null and ended_at is not null) as ended,
      count(*) filter (where deleted_at is null and phase in ('expired', 'timed_out')) as expired,
      count(*) as sessions_read,
      min(created_at) as sessions_since
    from newest
  ), durations as (
    select round(avg(ms)) as mean_ms, percentile_cont(array[0.5, 0.95]) within group (order by ms) as parts
    from (
      select (extract(epoch from ended_at - started_at) * 1000)::float8 as ms
      from newest where deleted_at is null and ended_at is not null and started_at is not null
    ) d
  )
  select ${utcText("s.asked")} as since, ${utcText("s.now")} as checked_at, s.is_too_long,
    t.total::float8 as total, t.ended::float8 as ended, t.expired::float8 as expired,
    t.sessions_read::float8 as sessions_read, ${utcText("t.sessions_since")} as sessions_since,
    d.mean_ms::float8 as mean_ms, round(d.parts[1])::float8 as p50_ms, round(d.parts[2])::float8 as p95_ms,
    (select coalesce(jsonb_agg(jsonb_build_object('value', value, 'count', count,
       'share', round(count::numeric / t.total, 6)::float8) order by count desc, value), '[]')::text from told) as groups,
    (select greatest(0, count(*) - ${toldGroups})::float8 from groups) as more_groups,
    (select coalesce(sum(count), 0)::float8 from volume) as events,
    (select coalesce(jsonb_object_agg(event_type, count), '{}')::text from volume) as events_by_type,
    (select ${utcText("min(oldest)")} from volume) as events_since
  from stretch s cross join totals t cross join durations d`;
}

const figuresStatements = Object.fromEntries(
  groupNames.map((name) => [
    name,
    { ofAll: figuresStatement(groupColumns[name], false), ofAgent: figuresStatement(groupColumns[name], true) },
  ]),
) as Readonly<Record<GroupName, { readonly ofAll: string; readonly ofAgent: string }>>;

/**
 * Gives figures of the sessions that were created since a time: the newest `countedSessions`, if there are more. Costs
 * what these are, and the newest `countedEvents` events, whatever the tables hold.
 *
 * @returns with `is_too_long` and nothing else where the stretch is longer than figures go back
 * @throws {ServiceError} database_unavailable, schema_outdated
 */
export async function readFigures(
  database: Queries,
  context: RequestContext,
  { since, groupBy, agentId }: FiguresQuery,
): Promise<Figures> {
  const { ofAll, ofAgent } = figuresStatements[groupBy];
  const [row] = await database.query<Figures>(agentId === undefined ? ofAll : ofAgent, [
    context.namespace,
    "at" in since ? since.at : null,
    "at" in since ? null : since.secondsAgo,
    ...(agentId === undefined ? [] : [agentId]),
  ]);
  if (row === undefined) throw new Error("a statement for figures gave no row");
  return row;
}

/**
 * `readFigures`, where those who ask for the same at the same time share one answer: it takes a connection for a while,
 * and a dashboard may be open in many windows.
 */
export function sharedFigures(database: Queries): (context: RequestContext, query: FiguresQuery) => Promise<Figures> {
  const running = new Map<string, Promise<Figures>>();
  return (context, query) => {
    const key = JSON.stringify([context.namespace, query]);
    const known = running.get(key);
    if (known !== undefined) return known;
    const asked = readFigures(database, context, query).finally(() => running.delete(key));
    running.set(key, asked);
    return asked;
  };
}
