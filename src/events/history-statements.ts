/**
 * The statements that read events for a page. Each combination of filters has a constant text, and follows one index, so
 * that it costs the same however long the history is; what the index does not know is looked at on the way, and only of
 * so many events.
 */

import type { Parameter } from "../db/client.ts";
import { type EventFilter, type EventQuery, isByTime, type SessionEventQuery } from "./history-query.ts";
import { type EventRow, eventColumns } from "./row.ts";

export interface Statement {
  readonly statement: string;
  readonly parameters: readonly Parameter[];
}

/** How many events a statement looks at, at most, with filters that its index does not know. */
const mostLookedAt = 1_000;

/** What a statement gives; beside it each row carries what is known of the feed. */
export interface FoundRow extends EventRow {
  /** False: it is only there to say how far the statement has looked. */
  readonly is_asked_for: boolean;
  /** The last that the statement has looked at, although there are more. */
  readonly is_cut: boolean;
}

/** The parameters of a statement that is being put together; `$1` is the namespace. */
class Parameters {
  readonly values: Parameter[];

  constructor(namespace: string) {
    this.values = [namespace];
  }

  add(value: string | number, type: "bigint" | "int" | "text[]" | "uuid" | "uuid[]" | "timestamptz" | "jsonb"): string {
    this.values.push(value);
    return `$${this.values.length}::text::${type}`;
  }
}

/** Events after and before these; SQL. */
interface Bounds {
  readonly above: string | undefined;
  readonly below: string | undefined;
}

/** An index, as it is followed. */
interface Walk {
  /** SQL that gives rows of `events`, in order, as many as are needed at most. */
  readonly rows: string;
  /** The columns that they are ordered by. */
  readonly order: readonly string[];
  /** SQL for what the index does not know. */
  readonly conditions: readonly string[];
}

const feed = `
  select f.settled, f.pending, f.horizon, case when drawn.is_called then drawn.last_value else 0 end as drawn
  from relays f cross join events_position_seq drawn
  where f.name = 'redis'`;

/* What is not settled yet is not told: an event before it may still be committed. */
const settled = "(select settled from feed)";
const isSettled = `position <= ${settled} and not position <@ (select pending from feed)`;

/**
 * Reads the feed: what is settled, in the order of positions; in that of time when that is what is asked for.
 *
 * @param known up to where this process knows the feed to be settled, which may not have been written down yet
 */
export function feedStatement(query: EventQuery, known: number): Statement {
  const parameters = new Parameters(query.namespace);
  const limit = parameters.add(query.limit, "int");
  const statement = `
  with feed as materialized (
    select greatest(settled, ${parameters.add(known, "bigint")}) as settled, pending, horizon, drawn,
      coalesce((select position from events order by position desc limit 1), 0) as newest
    from (${feed}) f
  )
  select f.settled::float8 as settled, f.horizon::float8 as horizon, f.drawn::float8 as drawn,
    f.newest::float8 as newest, e.*
  from feed f left join lateral (${found(feedWalk(query, parameters, limit), query.descending, limit)}) e on true`;
  return { statement, parameters: parameters.values };
}

/** Reads the events of one session in the order of `sequence`, all that are committed. */
export function sessionStatement(query: SessionEventQuery): Statement {
  const { descending, place, after, includeDeleted } = query;
  const parameters = new Parameters(query.namespace);
  const limit = parameters.add(query.limit, "int");
  const id = parameters.add(query.sessionId, "uuid");
  const turned = place && `sequence ${descending ? "<" : ">"} ${parameters.add(place.at, "bigint")}`;
  const isBelow = place !== undefined && !descending;
  const start =
    after === undefined || isBelow ? undefined : `sequence >= ${firstAfter(id, parameters.add(after, "bigint"))}`;
  const conditions = [...ofTypes(query, parameters), ...ofTime(query, parameters), ...ofUpdates(query, parameters)];
  const order = ["sequence"];
  const bounds = ["namespace = $1", `session_id = ${id}`, turned, start];
  const rows = select(bounds, order, descending, mostOf(conditions, limit));
  const statement = `
  with feed as materialized (
    select f.horizon, f.drawn, first.sequence as first_sequence, first.position as first_position, exists (
      select 1 from sessions where namespace = $1 and id = ${id} ${includeDeleted ? "" : "and deleted_at is null"}
    ) as session_found
    from (${feed}) f left join lateral (
      select sequence, position from events where namespace = $1 and session_id = ${id} order by sequence limit 1
    ) first on true
  )
  select f.horizon::float8 as horizon, f.drawn::float8 as drawn, f.session_found, f.first_sequence,
    f.first_position::float8 as first_position, e.*
  from feed f left join lateral (${found({ rows, order, conditions }, descending, limit)}) e on true`;
  return { statement, parameters: parameters.values };
}

function feedWalk(query: EventQuery, parameters: Parameters, limit: string): Walk {
  if (isByTime(query)) return walkByTime(query, parameters, limit);
  const { descending, place, after } = query;
  const at = place && parameters.add(place.at, "bigint");
  const start = after === undefined || (at !== undefined && !descending) ? undefined : parameters.add(after, "bigint");
  const bounds = descending ? { above: start, below: at } : { above: at ?? start, below: undefined };
  if (query.sessionIds !== undefined) return walkBySessions(query, parameters, bounds, limit);
  if (query.types !== undefined) return walkByTypes(query, parameters, bounds, limit);
  const { above, below } = bounds;
  const conditions = ofTime(query, parameters);
  const within = ["namespace = $1", above && `position > ${above}`, below && `position < ${below}`, isSettled];
  const order = ["position"];
  return { rows: select(within, order, descending, mostOf(conditions, limit)), order, conditions };
}

function walkByTime(query: EventQuery, parameters: Parameters, limit: string): Walk {
  const { descending, place, createdAfter, createdBefore } = query;
  const order = ["created_at", "position"];
  const turned =
    place?.time &&
    `(created_at, position) ${descending ? "<" : ">"}
      (${parameters.add(place.time.createdAt, "timestamptz")}, ${parameters.add(place.at, "bigint")})
      and position <= ${parameters.add(place.time.upTo, "bigint")}`;
  // The place lies within the range, and takes the part of its end: of two bounds the index might start at the wrong one.
  const range = {
    createdAfter: turned !== undefined && !descending ? undefined : createdAfter,
    createdBefore: turned !== undefined && descending ? undefined : createdBefore,
  };
  const conditions = [...ofTypes(query, parameters), ...ofUpdates(query, parameters)];
  const within = ["namespace = $1", turned, isSettled, ...ofTime(range, parameters)];
  return { rows: select(within, order, descending, mostOf(conditions, limit)), order, conditions };
}

/*
 * Each type is read for itself, and no further than the page could need. The bounds are those of rows, and the order
 * begins with the type: only the index by type can give that, and no statistics can talk the planner out of it.
 */
function walkByTypes(query: EventQuery, parameters: Parameters, { above, below }: Bounds, limit: string): Walk {
  const { types = [], descending } = query;
  const type = "asked.event_type";
  const within = [
    "namespace = $1",
    `(event_type, position) > (${type}, ${above ?? 0})`,
    below ? `(event_type, position) < (${type}, ${below})` : `(event_type, position) <= (${type}, ${settled})`,
    isSettled,
  ];
  const conditions = [...ofTime(query, parameters), ...ofUpdates(query, parameters)];
  const most = mostOf(conditions, limit);
  const order = ["position"];
  const rows = `
    select e.* from unnest(${parameters.add(list(types), "text[]")}) as asked (event_type) cross join lateral (
      ${select(within, ["event_type", "position"], descending, most)}
    ) e
    ${orderBy(order, descending)} limit ${most}`;
  return { rows, order, conditions };
}

/* Within a session the order of positions is that of `sequence`, which has the index. */
function walkBySessions(query: EventQuery, parameters: Parameters, { above, below }: Bounds, limit: string): Walk {
  const { sessionIds = [], descending } = query;
  const id = "asked.session_id";
  const within = [
    "namespace = $1",
    `session_id = ${id}`,
    above && `sequence >= ${firstAfter(id, above)}`,
    below && `sequence < ${firstAfter(id, `${below} - 1`)}`,
    isSettled,
  ];
  const conditions = [...ofTypes(query, parameters), ...ofTime(query, parameters), ...ofUpdates(query, parameters)];
  const most = mostOf(conditions, limit);
  const order = ["position"];
  const rows = `
    select e.* from unnest(${parameters.add(list(sessionIds), "uuid[]")}) as asked (session_id) cross join lateral (
      ${select(within, ["sequence"], descending, most)}
    ) e
    ${orderBy(order, descending)} limit ${most}`;
  return { rows, order, conditions };
}

function ofTypes({ types }: EventFilter, parameters: Parameters): string[] {
  return types === undefined ? [] : [`event_type = any(${parameters.add(list(types), "text[]")})`];
}

function ofTime({ createdAfter, createdBefore }: EventFilter, parameters: Parameters): string[] {
  return [
    ...(createdAfter === undefined ? [] : [`created_at >= ${parameters.add(createdAfter, "timestamptz")}`]),
    ...(createdBefore === undefined ? [] : [`created_at < ${parameters.add(createdBefore, "timestamptz")}`]),
  ];
}

function ofUpdates({ updates }: EventFilter, parameters: Parameters): string[] {
  if (updates === undefined) return [];
  const words = `(select ${parameters.add(JSON.stringify(updates.words), "jsonb")})`;
  const word = (key: string) => `(${words} ->> (payload ->> '${key}'))`;
  const is = updates.change ? "is" : "is not";
  return [`(event_type <> 'session.updated' or (${word("from")} <> ${word("to")}) ${is} true)`];
}

/**
 * SQL for the sequence of a session's first event after a position, found by halving: positions grow with the sequence,
 * and no index has both. Beyond the last event it is the next sequence.
 */
function firstAfter(id: string, position: string): string {
  return `(
      with recursive halved (low, high) as (
        select min(sequence), max(sequence) + 1 from events where namespace = $1 and session_id = ${id}
        union all
        select case when e.position > ${position} then low else e.sequence + 1 end,
          case when e.position > ${position} then e.sequence else high end
        from halved join events e on e.namespace = $1 and e.session_id = ${id} and e.sequence = (low + high) / 2
        where low < high
      )
      select max(low) from halved)`;
}

function select(
  conditions: readonly (string | undefined)[],
  order: readonly string[],
  descending: boolean,
  limit: string,
): string {
  return `select * from events
    where ${conditions.filter((condition) => condition !== undefined).join(" and ")}
    ${orderBy(order, descending)} limit ${limit}`;
}

/** How many rows a walk gives: as many as are asked for, unless some of them may not be. */
function mostOf(conditions: readonly string[], limit: string): string {
  return conditions.length === 0 ? limit : String(mostLookedAt);
}

/** SQL for the `FoundRow`s of a walk: those that are asked for, and the last that was looked at. */
function found({ rows, order, conditions }: Walk, descending: boolean, limit: string): string {
  const sorted = orderBy(
    order.map((column) => `w.${column}`),
    descending,
  );
  if (conditions.length === 0) {
    return `select ${eventColumns("w")}, true as is_asked_for, false as is_cut from (${rows}) w ${sorted}`;
  }
  return `
    select ${eventColumns("w")}, w.is_asked_for, w.is_last and w.number = ${mostLookedAt} as is_cut
    from (
      select *, (${conditions.join(" and ")}) is true as is_asked_for, row_number() over page as number,
        lead(true) over page is null as is_last
      from (${rows}) looked_at
      window page as (${orderBy(order, descending)})
    ) w
    where w.is_asked_for or w.is_last
    ${sorted} limit ${limit}`;
}

function orderBy(columns: readonly string[], descending: boolean): string {
  return `order by ${columns.map((column) => (descending ? `${column} desc` : column)).join(", ")}`;
}

/** An array as PostgreSQL reads it; the elements need no quotes. */
function list(elements: readonly string[]): string {
  return `{${[...new Set(elements)].join(",")}}`;
}
