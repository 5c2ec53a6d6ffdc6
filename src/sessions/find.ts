/** Finding sessions, in pages. */

import type { Queries } from "../db/client.ts";
import { rfc3339 } from "../db/time.ts";
import type { RequestContext } from "./context.ts";
import { stepsOf } from "./find-drivers.ts";
import { type FindQuery, filterText, newestFirst, type Place } from "./find-query.ts";
import { type Form, type FoundPlace, type FoundRow, findStatement } from "./find-statement.ts";
import { fieldBytes, pageBytes } from "./read.ts";

export interface FoundPage<Row = FoundRow> {
  readonly sessions: readonly Row[];
  /** Where the next page starts; undefined on the last. */
  readonly next: Place | undefined;
}

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
  { filter, sort, limit, after }: Omit<FindQuery, "documents">,
  form: Form,
): Promise<FoundPage<Row> | undefined> {
  const sessions: Row[] = [];
  let place = after;
  let bytes = 0;
  let hasLooked = false;
  for (const { driver, look } of stepsOf(filter, sort, limit)) {
    const rows = await database.query<Row>(
      findStatement(driver, sort, form),
      [context.namespace, filterText(filter, sort, place), String(look), String(limit - sessions.length)],
      { neverWaits: true },
    );
    if (rows[0]?.overflows === true) continue;
    hasLooked = true;
    let isCut = false;
    for (const row of rows) {
      if (row.place_id === null) break;
      if (row.is_asked_for) {
        bytes += bytesOf(row, form);
        if (sessions.length === limit || isHeavy(row) || (bytes > pageBytes && sessions.length > 0)) {
          return { sessions, next: place };
        }
        sessions.push(row);
      }
      place = { key: sort.by === "name" ? row.place_key : rfc3339(row.place_key), id: row.place_id };
      isCut = row.is_cut;
      if (isCut) break;
    }
    if (!isCut) return { sessions, next: undefined };
    if (sessions.length === limit) break;
  }
  return hasLooked ? { sessions, next: place } : undefined;
}

function isHeavy(row: FoundPlace & Partial<FoundRow>): boolean {
  return row.heavy === true;
}

/** What the documents of a row weigh that were read. */
function bytesOf(row: FoundPlace & Partial<FoundRow>, form: Form): number {
  if (form === "places") return 0;
  const texts = [row.details, row.error, row.result, row.stats, row.stats_max];
  const bytes = texts.reduce((sum, text) => sum + (text?.length ?? 0), fieldBytes);
  if (form === "light") return bytes;
  return bytes + (row.context_bytes ?? 0) + (row.checkpoint_bytes ?? 0) + (row.runtime_metadata_bytes ?? 0);
}
