/**
 * The statements that find sessions. What is asked for is one parameter, the filter as JSON, so that there are few texts:
 * one for each index that is followed, and each order. Every other filter is looked at on the way, and only of so many
 * sessions a statement: what that leaves open, the next one goes on with.
 */

import { filterColumns, type Sort } from "./find-query.ts";
import { lightWeight, pageBytes, weight } from "./read.ts";
import { largeDocuments, type SessionRow, sessionColumns } from "./row.ts";

/** SQL over `s`: the name of the session, as its index has it. */
const nameOf = `((s.details ->> 'name') collate "C")`;

/** An index that begins with columns that are the same for all that is read from it, and goes on in the order of time. */
interface Walk {
  /** A FROM clause that gives each of the values, beside `f`. */
  readonly values: string;
  /** The columns, of a relation, that the index begins with after the namespace, and the value of each. */
  readonly keys: readonly { readonly column: string; readonly value: string }[];
  /** What the index is of; sessions, unless said otherwise. */
  readonly isOfLabels?: true;
  /** SQL over `s`: the index has only those. */
  readonly partial?: string;
}

const unnested = (columns: string, names: string) => `cross join unnest(${columns}) as asked (${names})`;

const walks = {
  value: {
    values: "",
    keys: [
      { column: "s.key", value: "f.label_key" },
      { column: "s.value", value: "f.label_value" },
    ],
    isOfLabels: true,
  },
  label: { values: "", keys: [{ column: "s.key", value: "f.label_key" }], isOfLabels: true },
  name: { values: "", keys: [{ column: nameOf, value: "f.name" }], partial: "s.details ? 'name'" },
  agent: { values: unnested("f.agent_ids", "agent"), keys: [{ column: "s.agent_id", value: "asked.agent" }] },
  type: {
    values: `${unnested("f.session_types", "type")} cross join unnest(f.statuses) as shown (status)`,
    keys: [
      { column: "s.session_type", value: "asked.type" },
      { column: "s.status", value: "shown.status" },
    ],
  },
  status: { values: unnested("f.statuses", "status"), keys: [{ column: "s.status", value: "asked.status" }] },
  backend: {
    values: unnested("f.runtime_backends", "backend"),
    keys: [{ column: "s.runtime_backend", value: "asked.backend" }],
  },
  time: { values: "", keys: [] },
} as const satisfies Readonly<Record<string, Walk>>;

type WalkName = keyof typeof walks;

const sessionsThat = (condition: string) => `select s.* from sessions s where s.namespace = $1 and ${condition}`;

const sessionsOfLabels = (condition: string) => `
      select s.* from session_labels l cross join lateral (
        select * from sessions where namespace = $1 and id = l.session_id offset 0
      ) s
      where l.namespace = $1 and ${condition}`;

/** Few sessions each, in no order, so that all are read: SELECTs of `s` that an index serves. */
const sets = {
  externalId: sessionsThat("s.external_id = f.external_id"),
  value: sessionsOfLabels("l.key = f.label_key and l.value = f.label_value"),
  label: sessionsOfLabels("l.key = f.label_key"),
  name: sessionsThat(`s.details ? 'name' and ${nameOf} = f.name`),
  leaseOwner: sessionsThat("s.lease_owner = f.lease_owner"),
  agent: sessionsThat("s.agent_id = any(f.agent_ids)"),
  namePrefix: sessionsThat(`s.details ? 'name' and ${nameOf} >= f.name_prefix
        and (f.name_end is null or ${nameOf} < f.name_end)`),
};

type SetName = keyof typeof sets;

/** SQL over `s` and `f` (see `withFilter`): every filter that there is. */
export const isAskedFor = `(
        (f.include_deleted or s.deleted_at is null)
        and (f.agent_ids is null or s.agent_id = any(f.agent_ids))
        and (f.phases is null or s.phase = any(f.phases))
        and (f.session_types is null or s.session_type = any(f.session_types))
        and (f.runtime_backends is null or s.runtime_backend = any(f.runtime_backends))
        and (f.external_id is null or s.external_id = f.external_id)
        and (f.lease_owner is null or s.lease_owner = f.lease_owner)
        and (f.name is null or s.details ->> 'name' = f.name)
        and (f.name_prefix is null or starts_with(s.details ->> 'name', f.name_prefix))
        and (f.created_after is null or s.created_at >= f.created_after)
        and (f.created_before is null or s.created_at < f.created_before)
        and (f.ended_after is null or s.ended_at >= f.ended_after)
        and (f.ended_before is null or s.ended_at < f.ended_before)
        and (f.updated_after is null or s.updated_at >= f.updated_after)
        and (f.updated_before is null or s.updated_at < f.updated_before)
        and (f.label_key is null or s.details -> 'labels' @> f.labels and s.details -> 'labels' ?& f.label_keys)
        and (f.metadata is null or (
          select bool_and(
            (s.details -> 'metadata') #>> array(select jsonb_array_elements_text(m -> 'path')) = m ->> 'value')
          from jsonb_array_elements(f.metadata) m))
        and (f.context_contains is null or s.context @> f.context_contains::jsonb)
      ) is true`;

/** The beginning of a statement whose second parameter is `filterText`: `f`, what is asked for. */
export const withFilter = `
  with f as materialized (
    select * from jsonb_to_record($2::text::jsonb) as f (${filterColumns})
  )`;

/**
 * SQL for the sessions that a walk looks at, in order: `id`, `created_at` and the other columns, and whether each
 * `is_asked_for`; from each value at most as many as `$3` says.
 *
 * The bounds are those of rows, and the order begins with the index's first column: only that index can give it, and no
 * statistics can talk the planner out of it.
 */
function lookedAt({ keys, isOfLabels, partial }: Walk, columns: readonly string[], descending: boolean): string {
  const id = isOfLabels === undefined ? "s.id" : "s.session_id";
  const named = keys.map(({ column }) => column);
  const values = keys.map(({ value }) => value);
  const begin = `(${[...named, "s.created_at", id]}) ${descending ? "<" : ">"} (${[...values, "f.place_at", "f.place_id"]})`;
  const end = descending
    ? `(${[...named, "s.created_at"]}) >= (${[...values, "coalesce(f.created_after, '-infinity')"]})`
    : `(${[...named, "s.created_at"]}) < (${[...values, "coalesce(f.created_before, 'infinity')"]})`;
  const where = ["s.namespace = $1", begin, end, ...(partial === undefined ? [] : [partial])].join(" and ");
  const ordered = `${orderBy([...named, "s.created_at", id], descending)} limit $3::text::int`;
  const spelled = [...keys.map(({ column }, at) => `${column} as key${at}`), "s.created_at"];
  const rest = columns.map((column) => `s.${column}`);
  if (isOfLabels === undefined) {
    return `select ${[...spelled, "s.id", ...rest, `${isAskedFor} as is_asked_for`]} from sessions s where ${where} ${ordered}`;
  }
  return `
        select ${["l.*", ...rest, "s.is_asked_for"]}
        from (select ${[...spelled, "s.session_id as id"]} from session_labels s where ${where} ${ordered}) l
        cross join lateral (
          select ${[...rest, `${isAskedFor} as is_asked_for`]} from sessions s where s.namespace = $1 and s.id = l.id offset 0
        ) s`;
}

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

function orderBy(columns: readonly string[], descending: boolean): string {
  return `order by ${columns.map((column) => (descending ? `${column} desc` : column)).join(", ")}`;
}

/** How sessions are found: by an index that gives them in order, or as a set that is sorted. */
export type Driver = { readonly walk: WalkName } | { readonly set: SetName };

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
        select * from sessions where namespace = $1 and id = p.id and p.is_asked_for offset 0
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

const facets = ["status", "phase", "session_type", "runtime_backend"] as const;

/** How many sessions there are of each; of as many as `$3` says, and of an index in order the newest of each value. */
export function facetsStatement(driver: Driver): string {
  const looked =
    "walk" in driver
      ? `select w.* from f ${walks[driver.walk].values} cross join lateral (${lookedAt(walks[driver.walk], facets, true)}) w`
      : `select ${facets}, ${isAskedFor} as is_asked_for from f cross join lateral (${sets[driver.set]} limit $3::text::int) s`;
  const counts = facets.map(
    (facet) => `(
      select coalesce(jsonb_object_agg(${facet}, count), '{}') from (select ${facet}, count(*) from asked group by 1) c
    ) as ${facet}`,
  );
  return `${withFilter}, looked as materialized (${looked}
  ), asked as materialized (select ${facets} from looked where is_asked_for)
  select (select count(*)::int from asked) as total, (select count(*) from looked) < $3::text::int as complete, ${counts}`;
}

/** How many sessions there are, however long it takes to count them. */
export function countStatement(driver: Driver): string {
  const isOfValue = ({ keys }: Walk) => keys.map(({ column, value }) => `${column} = ${value}`).join(" and ") || "true";
  const values = "walk" in driver ? walks[driver.walk].values : "";
  const found = "walk" in driver ? sessionsThat(isOfValue(walks[driver.walk])) : sets[driver.set];
  return `${withFilter}
  select count(*)::int as count from f ${values} cross join lateral (${found}) s where ${isAskedFor}`;
}
