/**
 * The statements that find sessions. What is asked for is one parameter, the filter as JSON, so that there are few texts:
 * one for each index that is followed, and each order. Every other filter is looked at on the way, and only of so many
 * sessions a statement: what that leaves open, the next one goes on with.
 */

import type { Sort } from "./find-query.ts";
import {
  type Driver,
  isAskedFor,
  isOfId,
  lookedAt,
  nameOf,
  orderBy,
  type SetName,
  sets,
  type Walk,
  walks,
  withFilter,
} from "./find-sources.ts";
import { lightWeight, pageBytes, weight } from "./read.ts";
import { largeDocuments, type SessionRow, sessionColumns } from "./row.ts";

/**
 * SQL for the page of a walk: those that are asked for, `$4` at most and one more; and where it `is_cut`, the last that was
 * looked at, beyond which there may be others. Reading ends with the page.
 */
function walkedPlaces(walk: Walk, descending: boolean): string {
  const page = orderBy([...walk.keys.map((_, at) => `key${at}`), "created_at", "id"], descending);
  return `
    select w.* from f ${walk.values} cross join lateral (
      select id, created_at as place_key, is_asked_for, is_last and number = $3::text::int as is_cut
      from (
        select *, row_number() over page as number, lead(true) over page is null as is_last
        from (${lookedAt(walk, [], descending)}) looked_at
        window page as (${page})
      ) numbered
      where is_asked_for or is_last and number = $3::text::int
      ${page}
      limit $4::text::int + 1
    ) w
    ${orderBy(["place_key", "id"], descending)}
    limit $4::text::int + 1`;
}

const sortedBy: Readonly<Record<Sort["by"], { readonly key: string; readonly place: string }>> = {
  created_at: { key: "s.created_at", place: "f.place_at" },
  updated_at: { key: "s.updated_at", place: "f.place_at" },
  name: { key: `coalesce(${nameOf}, '')`, place: "coalesce(f.place_name, '')" },
};

/** The same of a set: it is read whole, and sorted. */
function sortedPlaces({ by, descending }: Sort): string {
  const { place } = sortedBy[by];
  return `
    select c.id, c.place_key, true as is_asked_for, false as is_cut
    from candidates c cross join f
    where c.is_asked_for
      and (not f.has_place or (c.place_key, c.id) ${descending ? "<" : ">"} (${place}, f.place_id))
      and (select count(*) from candidates) <= $3::text::int
    ${orderBy(["c.place_key", "c.id"], descending)}
    limit $4::text::int + 1`;
}

function candidates(set: SetName, by: Sort["by"]): string {
  return `candidates as materialized (
    select s.id, ${sortedBy[by].key} as place_key, ${isAskedFor} as is_asked_for
    from f cross join lateral (${sets[set]} limit $3::text::int + 1) s
  ), `;
}

/** What a statement that finds sessions gives of each; one row with nulls where there is none. */
export interface FoundPlace {
  /** There are more of the set than may be sorted: nothing was found. */
  readonly overflows: boolean;
  readonly place_id: string | null;
  /** What the page is ordered by, as the database writes it. */
  readonly place_key: string;
  /** False: it is only there to say how far the statement has looked. */
  readonly is_asked_for: boolean;
  /** The last that the statement has looked at, although there may be more. */
  readonly is_cut: boolean;
}

export interface FoundRow extends SessionRow, FoundPlace {
  readonly checkpoint_bytes: number;
  readonly runtime_metadata_bytes: number;
  /** Its documents are too much for the page, and were not read. */
  readonly heavy: boolean;
}

const placeColumns = "place_id, place_key, is_asked_for, is_cut";

/** With all that sessions are answered with, or without their large documents. */
function rowsOf(documents: boolean, sort: Sort): string {
  return `
    select ${placeColumns}, heavy, checkpoint_bytes, runtime_metadata_bytes,
      ${sessionColumns("s", "s.heavy", documents ? undefined : largeDocuments)}, number
    from (
      select p.id as place_id, p.place_key::text, p.is_asked_for, p.is_cut, p.number, x.*,
        coalesce(
          sum(${documents ? weight : lightWeight}) over page > ${pageBytes} and count(x.id) over page > 1, false) as heavy
      from (
        select *, row_number() over (${orderBy(["place_key", "id"], sort.descending)}) as number from places
      ) p
      left join lateral (
        select * from sessions where p.is_asked_for and ${isOfId("p.id")}
      ) x on true
      window page as (order by p.number rows between unbounded preceding and current row)
    ) s`;
}

const placesAlone = `select id as place_id, place_key::text, is_asked_for, is_cut, row_number() over () as number from places`;

export type Form = "whole" | "light" | "places";

const texts = new Map<string, string>();

/**
 * The statement that gives `FoundRow`s, or `FoundPlace`s alone, in order. Its parameters: the namespace, `filterText`, how
 * many sessions it may look at (of a set: how many this may have), how many are asked for; it gives one more.
 */
export function findStatement(driver: Driver, sort: Sort, form: Form): string {
  const key = JSON.stringify([driver, sort.by, sort.descending, form]);
  const known = texts.get(key);
  if (known !== undefined) return known;
  const isWalk = "walk" in driver;
  const places = isWalk ? walkedPlaces(walks[driver.walk], sort.descending) : sortedPlaces(sort);
  const text = `${withFilter}, ${isWalk ? "" : candidates(driver.set, sort.by)}places as materialized (${places}
  )
  select o.overflows, r.*
  from (select ${isWalk ? "false" : "(select count(*) from candidates) > $3::text::int"} as overflows) o
  left join lateral (${form === "places" ? placesAlone : rowsOf(form === "whole", sort)}
  ) r on true
  order by r.number`;
  texts.set(key, text);
  return text;
}
