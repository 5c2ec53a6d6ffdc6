/** Counting sessions. */

import type { Queries } from "../db/client.ts";
import { rfc3339 } from "../db/time.ts";
import type { RequestContext } from "./context.ts";
import { setsOf, valueCount, walksOf } from "./find-drivers.ts";
import { filterText, newestFirst, type Place, type SessionFilter } from "./find-query.ts";
import { type Driver, isAskedFor, lookedAt, orderBy, sets, walks, withFilter } from "./find-sources.ts";

/** So many are looked at by each index that serves the filter, for one that leaves no more. */
const fewCounted = 10_000;

/** So many are counted by state, type and backend. */
const mostCounted = 200_000;

/** So many a statement counts: it is over long before its deadline, and the next goes on from there. */
const countedAtOnce = 50_000;

const facets = ["status", "phase", "session_type", "runtime_backend"] as const;

interface Counts extends Readonly<Record<(typeof facets)[number], Readonly<Record<string, number>>>> {
  readonly total: number;
}

export interface Facets extends Counts {
  /** False: there are too many, and the newest alone were looked at. */
  readonly complete: boolean;
}

/** Of the sessions that a statement has looked at. */
interface CountRow extends Readonly<Record<(typeof facets)[number], string>> {
  readonly looked: number;
  readonly total: number;
  /** Of a set: there are more. */
  readonly overflows: boolean;
  /** How far it has looked, where there may be more. */
  readonly place_at: string | null;
  readonly place_id: string | null;
}

/** Of each value of a walk at most `$3`: newest first, and what comes after the first of these ends is not counted. */
function countStatement(driver: Driver): string {
  const { from, overflows } =
    "walk" in driver
      ? {
          from: `f ${walks[driver.walk].values} cross join lateral (
      select *, row_number() over () as number from (${lookedAt(walks[driver.walk], facets, true)}) looked_at
    ) s`,
          overflows: "false",
        }
      : {
          from: `f cross join lateral (
      select *, 0 as number, ${isAskedFor} as is_asked_for from (${sets[driver.set]} limit $3::text::int + 1) s
    ) s`,
          overflows: "(select count(*) from looked) > $3::text::int",
        };
  const counts = facets.map(
    (facet) => `(
    select coalesce(jsonb_object_agg(${facet}, count), '{}')::text from (select ${facet}, count(*) from asked group by 1) c
  ) as ${facet}`,
  );
  return `${withFilter}, looked as materialized (
    select ${["s.created_at", "s.id", "s.number", "s.is_asked_for", ...facets.map((facet) => `s.${facet}`)]} from ${from}
  ), cut as materialized (
    select created_at, id from looked where number = $3::text::int ${orderBy(["created_at", "id"], true)} limit 1
  ), within as materialized (
    select l.* from looked l left join cut on true
    where cut.id is null or (l.created_at, l.id) >= (cut.created_at, cut.id)
  ), asked as materialized (select ${facets} from within where is_asked_for)
  select (select count(*)::int from within) as looked, (select count(*)::int from asked) as total,
    ${overflows} as overflows, cut.created_at::text as place_at, cut.id as place_id, ${counts}
  from (select) one left join cut on true`;
}

/** How many sessions there are of each state, type and backend. */
export async function countFacets(database: Queries, context: RequestContext, filter: SessionFilter): Promise<Facets> {
  return (await fewOf(database, context, filter)) ?? manyOf(database, context, filter, mostCounted);
}

/** How many sessions there are. Many are counted bit by bit, newest first, each as it is then. */
export async function countSessions(
  database: Queries,
  context: RequestContext,
  filter: SessionFilter,
): Promise<number> {
  const counted =
    (await fewOf(database, context, filter)) ?? (await manyOf(database, context, filter, Number.POSITIVE_INFINITY));
  return counted.total;
}

/** Undefined where no index leaves few of them. */
async function fewOf(database: Queries, context: RequestContext, filter: SessionFilter): Promise<Facets | undefined> {
  const walked = walksOf(filter);
  const drivers: Driver[] = [
    ...setsOf(filter)
      .filter((set) => !walked.some((walk) => walk === set))
      .map((set) => ({ set })),
    ...walked.filter((walk) => walk !== "time").map((walk) => ({ walk })),
  ];
  // Where there is no choice, many are as good as few.
  if (drivers.length === 1 && "walk" in (drivers[0] ?? {})) return undefined;
  for (const driver of drivers) {
    const row = await counted(database, context, filter, driver, { most: fewCounted });
    if (!row.overflows && row.place_id === null) return { ...countsOf(row), complete: true };
  }
  return undefined;
}

async function manyOf(
  database: Queries,
  context: RequestContext,
  filter: SessionFilter,
  most: number,
): Promise<Facets> {
  const driver = { walk: walksOf(filter)[0] };
  let sum: Counts = { total: 0, status: {}, phase: {}, session_type: {}, runtime_backend: {} };
  let place: Place | undefined;
  for (let looked = 0; looked < most; ) {
    const row = await counted(database, context, filter, driver, { most: countedAtOnce, after: place });
    looked += row.looked;
    sum = added(sum, countsOf(row));
    if (row.place_at === null || row.place_id === null) return { ...sum, complete: true };
    place = { key: rfc3339(row.place_at), id: row.place_id };
  }
  return { ...sum, complete: false };
}

async function counted(
  database: Queries,
  context: RequestContext,
  filter: SessionFilter,
  driver: Driver,
  { most, after }: { readonly most: number; readonly after?: Place | undefined },
): Promise<CountRow> {
  const look = "walk" in driver ? Math.ceil(most / valueCount(driver.walk, filter)) : most;
  const parameters = [context.namespace, filterText(filter, newestFirst, after), String(look)];
  // It would hold up what shares its connection.
  const [row] = await database.query<CountRow>(countStatement(driver), parameters);
  if (row === undefined) throw new Error("a statement that counts gave no row");
  return row;
}

function countsOf(row: CountRow): Counts {
  const read = (facet: (typeof facets)[number]): Readonly<Record<string, number>> => JSON.parse(row[facet]);
  return {
    total: row.total,
    status: read("status"),
    phase: read("phase"),
    session_type: read("session_type"),
    runtime_backend: read("runtime_backend"),
  };
}

function added(a: Counts, b: Counts): Counts {
  const sum = (facet: (typeof facets)[number]) => {
    const counts = new Map(Object.entries(a[facet]));
    for (const [word, count] of Object.entries(b[facet])) counts.set(word, (counts.get(word) ?? 0) + count);
    return Object.fromEntries(counts);
  };
  return {
    total: a.total + b.total,
    status: sum("status"),
    phase: sum("phase"),
    session_type: sum("session_type"),
    runtime_backend: sum("runtime_backend"),
  };
}
