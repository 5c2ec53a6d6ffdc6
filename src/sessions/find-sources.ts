/**
 * Where sessions are found: the indexes that are followed, in the order of time or as sets, and what is looked at on the
 * way. SQL over `f`, the filter as one row.
 */

import { filterColumns } from "./find-query.ts";

/** SQL over `s`: the name of the session, as its index has it. */
export const nameOf = `((s.details ->> 'name') collate "C")`;

/** An index that begins with columns that are the same for all that is read from it, and goes on in the order of time. */
export interface Walk {
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

export const walks = {
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

export type WalkName = keyof typeof walks;

const sessionsThat = (condition: string) => `select s.* from sessions s where s.namespace = $1 and ${condition}`;

/** After a WHERE: the one of this id. That it asks for an order leaves one index, whatever else has the id in it. */
export const isOfId = (id: string) => `namespace = $1 and id >= ${id} and id <= ${id} order by id limit 1`;

/** All that a walk comes by. */
function everyOf({ values, keys, isOfLabels, partial }: Walk): string {
  // In order of the last key alone the index is the only one, too, and a scan ends where that is passed.
  const among = keys.flatMap(({ column, value }, at) =>
    at < keys.length - 1 ? [`${column} = ${value}`] : [`${column} >= ${value}`, `${column} <= ${value}`],
  );
  const where = ["s.namespace = $1", ...among, ...(partial === undefined ? [] : [partial])].join(" and ");
  const order = orderBy(
    keys.map(({ column }) => column),
    false,
  );
  const table = isOfLabels === undefined ? "sessions" : "session_labels";
  const every = `(select) one ${values} cross join lateral (select s.* from ${table} s where ${where} ${order})`;
  if (isOfLabels === undefined) return `select s.* from ${every} s`;
  return `select s.* from ${every} l cross join lateral (select * from sessions where ${isOfId("l.session_id")}) s`;
}

/** Few sessions each, in no order, so that all are read: SELECTs of `s` that an index serves. */
export const sets = {
  externalId: sessionsThat("s.external_id = f.external_id"),
  value: everyOf(walks.value),
  label: everyOf(walks.label),
  name: everyOf(walks.name),
  leaseOwner: sessionsThat("s.lease_owner = f.lease_owner"),
  agent: everyOf(walks.agent),
  namePrefix: `${sessionsThat(`s.details ? 'name' and ${nameOf} >= f.name_prefix and ${nameOf} < f.name_end`)}
    order by ${nameOf}`,
};

export type SetName = keyof typeof sets;

/** SQL over `s` and `f`: every filter that there is. */
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
            (s.details -> 'metadata') #>> array(select jsonb_array_elements_text(m -> 'path'))
              is not distinct from m ->> 'value')
          from jsonb_array_elements(f.metadata) m))
        and (f.context_contains is null or s.context @> f.context_contains::jsonb)
      ) is true`;

export const withFilter = `
  with f as materialized (
    select * from jsonb_to_record($2::text::jsonb) as f (${filterColumns})
  )`;

/**
 * SQL for the sessions that a walk looks at, in order: `id`, `created_at` and the other columns, and whether each
 * `is_asked_for`; from each value at most as many as `$3` says.
 *
 * Where it begins is a bound of rows, and the order begins with the index's first column: only that index can give it, and
 * no statistics can talk the planner out of it. Where it ends is told by a count of what is beyond, for PostgreSQL stops
 * where that leaves 0. At a second bound of rows it does not before version 18: it reads on for as long as the first column
 * stays the same.
 */
export function lookedAt({ keys, isOfLabels, partial }: Walk, columns: readonly string[], descending: boolean): string {
  const [table, id] = isOfLabels === undefined ? ["sessions", "s.id"] : ["session_labels", "s.session_id"];
  const named = keys.map(({ column }) => column);
  const values = keys.map(({ value }) => value);
  const begin = `(${[...named, "s.created_at", id]}) ${descending ? "<" : ">"} (${[...values, "f.place_at", "f.place_id"]})`;
  const where = ["s.namespace = $1", begin, ...(partial === undefined ? [] : [partial])].join(" and ");
  const isBeyond = [
    ...keys.map(({ column, value }) => `${column} <> ${value}`),
    descending ? "s.created_at < f.created_after" : "s.created_at >= f.created_before",
  ].join(" or ");
  const inOrder = orderBy([...named, "s.created_at", id], descending);
  const beyond = `count(*) filter (where ${isBeyond}) over (${inOrder} rows unbounded preceding) as beyond`;
  const order = keys.map(({ column }, at) => `${column} as key${at}`);
  const rest = columns.map((column) => `s.${column}`);
  const asked = isOfLabels === undefined ? [...rest, `${isAskedFor} as is_asked_for`] : [];
  const within = `
        select * from (
          select ${[...order, "s.created_at", `${id} as id`, ...asked, beyond]} from ${table} s where ${where}
        ) s
        where beyond < 1
        ${orderBy([...keys.map((_, at) => `key${at}`), "created_at", "id"], descending)}
        limit $3::text::int`;
  if (isOfLabels === undefined) return within;
  return `
        select ${["l.*", ...rest, "s.is_asked_for"]}
        from (${within}) l
        left join lateral (
          select ${[...rest, `${isAskedFor} as is_asked_for`]} from sessions s where ${isOfId("l.id")}
        ) s on true`;
}

export function orderBy(columns: readonly string[], descending: boolean): string {
  return `order by ${columns.map((column) => (descending ? `${column} desc` : column)).join(", ")}`;
}

/** How sessions are found: by an index that gives them in order, or as a set that is sorted. */
export type Driver = { readonly walk: WalkName } | { readonly set: SetName };
