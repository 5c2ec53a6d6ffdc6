/** What sessions are looked for by, and in which order. */

import { phases as allPhases, endedPhases, type Phase, type Status, statusOf } from "./lifecycle.ts";

/** All that is given must hold; of several words one must. Times are RFC 3339, `…After` inclusive, `…Before` not. */
export interface SessionFilter {
  readonly agentIds?: readonly string[] | undefined;
  readonly phases?: readonly Phase[] | undefined;
  readonly sessionTypes?: readonly string[] | undefined;
  readonly runtimeBackends?: readonly string[] | undefined;
  readonly name?: string | undefined;
  readonly namePrefix?: string | undefined;
  readonly externalId?: string | undefined;
  readonly leaseOwner?: string | undefined;
  readonly createdAfter?: string | undefined;
  readonly createdBefore?: string | undefined;
  readonly endedAfter?: string | undefined;
  readonly endedBefore?: string | undefined;
  readonly labels?: readonly LabelFilter[] | undefined;
  /** Also those that were deleted, and are not removed yet. */
  readonly includeDeleted?: boolean | undefined;

  // No index knows these: they are looked at in what another filter leaves.
  readonly updatedAfter?: string | undefined;
  readonly updatedBefore?: string | undefined;
  readonly metadata?: readonly MetadataFilter[] | undefined;
  /** JSON text of an object: what the context contains, as PostgreSQL's `@>` has it. */
  readonly contextContains?: string | undefined;
}

/** Without a value, whatever it is. */
export interface LabelFilter {
  readonly key: string;
  readonly value?: string | undefined;
}

/** The value at the path within `metadata`, as text. */
export interface MetadataFilter {
  readonly path: readonly string[];
  readonly value: string;
}

export const sortKeys = ["created_at", "updated_at", "name"] as const;

export interface Sort {
  readonly by: (typeof sortKeys)[number];
  readonly descending: boolean;
}

export const newestFirst: Sort = { by: "created_at", descending: true };

/** Just after this session, in the order of the page. */
export interface Place {
  /** What the order goes by: a time (RFC 3339, with microseconds), or a name, which may be none. */
  readonly key: string | null;
  readonly id: string;
}

export interface FindQuery {
  readonly filter: SessionFilter;
  readonly sort: Sort;
  readonly limit: number;
  readonly after?: Place | undefined;
  /** False: context, checkpoint and runtime_metadata are not read, and null. */
  readonly documents: boolean;
}

/** The filters that leave few sessions: each has an index of its own. In the order in which they are tried. */
export const selective = [
  "externalId",
  "leaseOwner",
  "agentIds",
  "name",
  "labels",
  "namePrefix",
] as const satisfies readonly (keyof SessionFilter)[];

/** Whether some filter leaves few sessions, so that these may be looked at one by one. */
export function isSelective(filter: SessionFilter): boolean {
  return selective.some((name) => filter[name] !== undefined);
}

/** The parameter of every statement that finds sessions: JSON for `filterColumns`. */
export function filterText(filter: SessionFilter, sort: Sort, after: Place | undefined): string {
  const { namePrefix } = filter;
  const labels = ordered(filter.labels ?? []);
  const [driver] = labels;
  const isByTime = sort.by !== "name";
  const start = startOf(filter, sort, after);
  return JSON.stringify({
    agent_ids: once(filter.agentIds),
    phases: filter.phases,
    statuses: statusesOf(filter),
    session_types: once(filter.sessionTypes),
    runtime_backends: once(filter.runtimeBackends),
    name: filter.name,
    name_prefix: namePrefix,
    name_end: namePrefix === undefined ? undefined : endOfPrefix(namePrefix),
    external_id: filter.externalId,
    lease_owner: filter.leaseOwner,
    created_after: filter.createdAfter,
    created_before: filter.createdBefore,
    ended_after: filter.endedAfter,
    ended_before: filter.endedBefore,
    updated_after: filter.updatedAfter,
    updated_before: filter.updatedBefore,
    label_key: driver?.key,
    label_value: driver?.value,
    labels: valuesOf(labels),
    label_keys: labels.map(({ key }) => key),
    metadata: filter.metadata,
    context_contains: filter.contextContains,
    include_deleted: filter.includeDeleted ?? false,
    place_at: isByTime ? start.key : undefined,
    place_name: isByTime ? undefined : start.key,
    place_id: start.id,
    has_place: after !== undefined,
  });
}

export const filterColumns = `
    agent_ids uuid[], phases text[], statuses text[], session_types text[], runtime_backends text[], name text,
    name_prefix text, name_end text, external_id text, lease_owner text, created_after timestamptz,
    created_before timestamptz, ended_after timestamptz, ended_before timestamptz, updated_after timestamptz,
    updated_before timestamptz, label_key text, label_value text, labels jsonb, label_keys text[], metadata jsonb,
    context_contains text, include_deleted boolean, place_at timestamptz, place_name text, place_id uuid,
    has_place boolean`;

const lowestId = "00000000-0000-0000-0000-000000000000";
const highestId = "ffffffff-ffff-ffff-ffff-ffffffffffff";

/** Where a page begins: a place lies within the range of time, and takes the part of its end. */
function startOf({ createdAfter, ...before }: SessionFilter, sort: Sort, after: Place | undefined): Place {
  if (after !== undefined) return after;
  if (sort.by === "name") return { key: null, id: lowestId };
  if (sort.by === "updated_at") return sort.descending ? { key: "infinity", id: highestId } : atLeast("-infinity");
  if (!sort.descending) return atLeast(createdAfter ?? "-infinity");
  // What ended before then was made before then.
  const [firstBefore] = [before.createdBefore, before.endedBefore].filter((time) => time !== undefined).sort();
  return firstBefore === undefined ? { key: "infinity", id: highestId } : { key: firstBefore, id: lowestId };
}

/** No session has the lowest id: after it come all of that time. */
function atLeast(key: string): Place {
  return { key, id: lowestId };
}

/** By code points the first text that comes after all that begin so. */
function endOfPrefix(prefix: string): string {
  const points = [...prefix].map((character) => character.codePointAt(0) ?? 0);
  for (let last = points.pop(); last !== undefined; last = points.pop()) {
    if (last === 0x10ffff) continue;
    // There are no characters from D800 to DFFF.
    return String.fromCodePoint(...points, last === 0xd7ff ? 0xe000 : last + 1);
  }
  // There is none where all are the last character that there is; which is no text that anybody searches for.
  return prefix.repeat(2);
}

/** Whether only sessions that have come to an end can be meant. */
export function isOfEnded({ endedAfter, endedBefore }: SessionFilter): boolean {
  return endedAfter !== undefined || endedBefore !== undefined;
}

/** Those that name a value first: they leave fewer. */
export function ordered(labels: readonly LabelFilter[]): readonly LabelFilter[] {
  return [...labels].sort((a, b) => Number(a.value === undefined) - Number(b.value === undefined));
}

/** By key what the label must be. Two values are a list, and contained in no label: nothing is both. */
function valuesOf(labels: readonly LabelFilter[]): Readonly<Record<string, string | readonly string[]>> {
  const values = new Map<string, ReadonlySet<string>>();
  for (const { key, value } of labels) {
    if (value !== undefined) values.set(key, new Set([...(values.get(key) ?? []), value]));
  }
  return Object.fromEntries(
    [...values].map(([key, [first = "", ...others]]) => [key, others.length === 0 ? first : [first, ...others]]),
  );
}

/** The statuses that every session that is asked for has one of, each once. */
export function statusesOf(filter: SessionFilter): readonly Status[] {
  const phases = filter.phases ?? (isOfEnded(filter) ? endedPhases : allPhases);
  return [...new Set(phases.map((phase) => statusOf[phase]))];
}

function once(words: readonly string[] | undefined): string[] | undefined {
  return words && [...new Set(words)];
}
