/** Finding sessions, in pages; and counting them. */

import type { Queries } from "../db/client.ts";
import { rfc3339 } from "../db/time.ts";
import type { RequestContext } from "./context.ts";
import {
  type FindQuery,
  filterText,
  isOfEnded,
  mostSelective,
  newestFirst,
  ordered,
  type Place,
  type SessionFilter,
  type Sort,
} from "./find-query.ts";
import {
  countStatement,
  type Driver,
  type FoundPlace,
  type FoundRow,
  facetsStatement,
  findStatement,
} from "./find-statement.ts";
import { pageBytes } from "./read.ts";

export interface FoundPage<Row = FoundRow> {
  readonly sessions: readonly Row[];
  /** Where the next page starts; undefined on the last. */
  readonly next: Place | undefined;
}

/** So many sessions the statements of a page look at, one after the other: most pages are done with the first. */
const looks = [1_000, 4_000, 16_000, 16_000, 16_000, 16_000];

/** So many sessions are sorted for a page. */
export const mostSorted = 10_000;

/** So many are counted by state, type and backend. */
const mostCounted = 200_000;

/**
 * Finds sessions. A page ends early, or stays empty, when so many had to be looked at that it would take too long, or when
 * its documents would be too much; `next` leads on.
 *
 * @returns undefined where the sessions would have to be sorted, and are more than `mostSorted`; or where nothing is
 * given that leaves few
 */
export async function findSessions(
  database: Queries,
  context: RequestContext,
  query: FindQuery,
): Promise<FoundPage | undefined> {
  return firstPage<FoundRow>(database, context, query, query.documents ? "whole" : "light");
}

/** The same of what is asked for, by ids and places alone: newest first. */
export async function findPlaces(
  database: Queries,
  context: RequestContext,
  query: Pick<FindQuery, "filter" | "limit" | "after">,
): Promise<FoundPage<FoundPlace>> {
  const page = await firstPage<FoundPlace>(database, context, { ...query, sort: newestFirst }, "places");
  if (page === undefined) throw new Error("newest first, nothing is sorted");
  return page;
}

async function firstPage<Row extends FoundPlace>(
  database: Queries,
  context: RequestContext,
  query: Omit<FindQuery, "documents">,
  form: "whole" | "light" | "places",
): Promise<FoundPage<Row> | undefined> {
  for (const driver of driversOf(query.filter, query.sort)) {
    const statement = findStatement(driver, query.sort, form);
    const read = (place: Place | undefined, look: number, limit: number) =>
      database.query<Row>(
        statement,
        [context.namespace, filterText(query.filter, query.sort, place), String(look), String(limit)],
        { neverWaits: true },
      );
    const page = await readPage(query, "set" in driver ? [mostSorted] : looks, read);
    if (page !== undefined) return page;
  }
  return undefined;
}

async function readPage<Row extends FoundPlace>(
  { limit, after, sort }: Omit<FindQuery, "documents">,
  lookAt: readonly number[],
  read: (place: Place | undefined, look: number, limit: number) => Promise<readonly Row[]>,
): Promise<FoundPage<Row> | undefined> {
  const sessions: Row[] = [];
  let place = after;
  let bytes = 0;
  for (const look of lookAt) {
    let isCut = false;
    for (const row of await read(place, look, limit - sessions.length)) {
      if (row.overflows) return undefined;
      if (row.place_id === null) break;
      if (row.is_asked_for) {
        if (sessions.length === limit || isHeavy(row)) return { sessions, next: place };
        sessions.push(row);
        bytes += bytesOf(row);
      }
      place = { key: sort.by === "name" ? row.place_key : rfc3339(row.place_key), id: row.place_id };
      isCut = row.is_cut;
      if (isCut) break;
    }
    if (!isCut) return { sessions, next: undefined };
    if (sessions.length === limit || bytes > pageBytes) break;
  }
  return { sessions, next: place };
}

function isHeavy(row: FoundPlace & Partial<FoundRow>): boolean {
  return row.heavy === true;
}

function bytesOf(row: FoundPlace & Partial<FoundRow>): number {
  return (row.context_bytes ?? 0) + (row.checkpoint_bytes ?? 0) + (row.runtime_metadata_bytes ?? 0);
}

/** How many sessions there are. */
export async function countSessions(
  database: Queries,
  context: RequestContext,
  filter: SessionFilter,
): Promise<number> {
  const statement = countStatement(setOf(filter) ?? walkOf(filter));
  const parameters = [context.namespace, filterText(filter, newestFirst, undefined)];
  const [row] = await database.query<{ readonly count: number }>(statement, parameters, { neverWaits: true });
  return row?.count ?? 0;
}

export interface Facets {
  readonly total: number;
  /** False: there are too many, and the newest alone were counted. */
  readonly complete: boolean;
  /** JSON texts: how many by each word. */
  readonly status: string;
  readonly phase: string;
  readonly session_type: string;
  readonly runtime_backend: string;
}

/** How many sessions there are of each state, type and backend. */
export async function countFacets(database: Queries, context: RequestContext, filter: SessionFilter): Promise<Facets> {
  const statement = facetsStatement(setOf(filter) ?? walkOf(filter));
  const parameters = [context.namespace, filterText(filter, newestFirst, undefined), String(mostCounted)];
  const [row] = await database.query<Facets>(statement, parameters, { neverWaits: true });
  if (row === undefined) throw new Error("a statement that counts gave no row");
  return row;
}

/** How the page may be found, the best first: one that is a set may turn out to be too large. */
function driversOf(filter: SessionFilter, sort: Sort): Driver[] {
  const set = setOf(filter);
  if (sort.by !== "created_at") return set === undefined ? [] : [set];
  const isUnordered = ["externalId", "leaseOwner", "namePrefix"].includes(mostSelective(filter) ?? "");
  return set !== undefined && isUnordered ? [set, walkOf(filter)] : [walkOf(filter)];
}

function setOf(filter: SessionFilter): Driver | undefined {
  switch (mostSelective(filter)) {
    case undefined:
      return undefined;
    case "labels":
      return { set: labelDriver(filter) };
    case "agentIds":
      return { set: "agent" };
    case "externalId":
      return { set: "externalId" };
    case "name":
      return { set: "name" };
    case "leaseOwner":
      return { set: "leaseOwner" };
    case "namePrefix":
      return { set: "namePrefix" };
  }
}

function walkOf(filter: SessionFilter): { readonly walk: Extract<Driver, { walk: unknown }>["walk"] } {
  if (filter.labels !== undefined) return { walk: labelDriver(filter) };
  if (filter.name !== undefined) return { walk: "name" };
  if (filter.agentIds !== undefined) return { walk: "agent" };
  if (filter.sessionTypes !== undefined) return { walk: "type" };
  if (filter.phases !== undefined || isOfEnded(filter)) return { walk: "status" };
  if (filter.runtimeBackends !== undefined) return { walk: "backend" };
  return { walk: "time" };
}

function labelDriver({ labels = [] }: SessionFilter): "value" | "label" {
  return ordered(labels)[0]?.value === undefined ? "label" : "value";
}
