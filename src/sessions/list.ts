/** Reading sessions in pages. */

import type { Queries } from "../db/client.ts";
import { rfc3339 } from "../db/time.ts";
import type { RequestContext } from "./context.ts";
import { phases as allPhases, type Phase, statusOf } from "./lifecycle.ts";
import { pageBytes, weight } from "./read.ts";
import { type SessionRow, sessionColumns } from "./row.ts";

/** A place in the list: just after this session, from newest to oldest. */
export interface ListPlace {
  /** RFC 3339, with microseconds. */
  readonly createdAt: string;
  readonly id: string;
}

export interface SessionQuery {
  readonly agentId?: string | undefined;
  /** Only sessions in one of these. */
  readonly phases?: readonly Phase[] | undefined;
  /** How many at most; the page may end earlier when its documents are large. */
  readonly limit: number;
  readonly after?: ListPlace | undefined;
}

export interface SessionPage {
  readonly sessions: readonly SessionRow[];
  /** Where the next page starts; undefined on the last. */
  readonly next: ListPlace | undefined;
}

/** Rows of `sessions` as `s`: where they come from, and which. */
interface Source {
  readonly from: string;
  readonly where: string;
}

/*
 * Both read one row more than the page has, to see whether there is a next one.
 *
 * Where every session keeps to its share of the page, as nearly always, the page is within bounds whatever it holds.
 */
function lightPage({ from, where }: Source): string {
  return `
  select ${sessionColumns("s", "s.heavy")}, s.heavy
  from (
    select *, ${weight} > ${pageBytes} / $2::int as heavy
    from ${from}
    where ${where}
    order by created_at desc, id desc
    limit $2::int + 1
  ) s
  order by s.created_at desc, s.id desc`;
}

/** Where one does not, the page is weighed up to each session, and ends with the last that fits, or the first. */
function heavyPage({ from, where }: Source): string {
  const isTooMuch = `s.weight > ${pageBytes} and s.number > 1`;
  return `
  select ${sessionColumns("s", isTooMuch)}, ${isTooMuch} as heavy
  from (
    select *, row_number() over page as number, sum(${weight}) over page as weight
    from ${from}
    where ${where}
    window page as (order by created_at desc, id desc rows between unbounded preceding and current row)
    order by created_at desc, id desc
    limit $2::int + 1
  ) s
  order by s.created_at desc, s.id desc`;
}

const place = "and (s.created_at, s.id) < ($3::text::timestamptz, $4::text::uuid)";

function pageStatements(filter: string): { readonly light: string; readonly heavy: string } {
  const source = { from: "sessions s", where: `namespace = $1 and deleted_at is null ${filter}` };
  return { light: lightPage(source), heavy: heavyPage(source) };
}

/*
 * Each status is read for itself, newest first, and no further than the page could need. The bounds are those of rows, and
 * the order begins with the status: only the index by status can give that, and no statistics can talk the planner out of
 * it. (`status = any(…)` walks the whole table for what is rare.)
 *
 * @param bound what the rows of a status are below
 * @param statuses the number of the parameter with the statuses; the next one has the phases, which are all of these
 */
function phasePageStatements(bound: string, statuses: number): { readonly light: string; readonly heavy: string } {
  const from = `(
    select s.* from unnest($${statuses}::text::text[]) as asked (status) cross join lateral (
      select * from sessions s
      where s.namespace = $1 and s.status >= asked.status and ${bound}
        and s.phase = any($${statuses + 1}::text::text[]) and s.deleted_at is null
      order by s.status desc, s.created_at desc, s.id desc
      limit $2::int + 1
    ) s
  ) s`;
  return { light: lightPage({ from, where: "true" }), heavy: heavyPage({ from, where: "true" }) };
}

/*
 * Pages of several agents, each as for itself. The only way to join them is one agent after the other, so the rows of each
 * keep their order. A session is heavy where it has more than its share of what all the pages may weigh.
 */
function pagesOfAgents(asked: string, after: string): string {
  return `
  select ${sessionColumns("s", "s.heavy")}, s.heavy, a.number::int as number
  from unnest(${asked} cross join lateral (
    select *, ${weight} > $4::text::int as heavy
    from sessions
    where namespace = $1 and agent_id = a.agent_id and deleted_at is null ${after}
    order by created_at desc, id desc
    limit $2::text::int + 1
  ) s`;
}

const agents = "$3::text::uuid[]";
const places = "$5::text::timestamptz[], $6::text::uuid[]";

const statementsOfAgents = {
  first: pagesOfAgents(`${agents}) with ordinality as a (agent_id, number)`, ""),
  later: pagesOfAgents(
    `${agents}, ${places}) with ordinality as a (agent_id, created_at, id, number)`,
    "and (created_at, id) < (a.created_at, a.id)",
  ),
};

const statements = {
  all: pageStatements(""),
  allAfter: pageStatements(place),
  byAgent: pageStatements("and agent_id = $3::text::uuid"),
  byAgentAfter: pageStatements(`${place} and agent_id = $5::text::uuid`),
};

const statementsOfPhases: typeof statements = {
  all: phasePageStatements("(s.status, s.created_at) <= (asked.status, 'infinity'::timestamptz)", 3),
  allAfter: phasePageStatements(
    "(s.status, s.created_at, s.id) < (asked.status, $3::text::timestamptz, $4::text::uuid)",
    5,
  ),
  // An agent has few sessions of all that there are.
  byAgent: pageStatements("and agent_id = $3::text::uuid and phase = any($4::text::text[])"),
  byAgentAfter: pageStatements(`${place} and agent_id = $5::text::uuid and phase = any($6::text::text[])`),
};

/** Lists sessions, newest first. */
export async function listSessions(
  database: Queries,
  context: RequestContext,
  { agentId, phases, limit, after }: SessionQuery,
): Promise<SessionPage> {
  if (phases?.length === 0) return { sessions: [], next: undefined };
  // All of them are no filter, and need not be looked for status by status.
  const wanted = phases?.length === allPhases.length ? undefined : phases;
  const { all, allAfter, byAgent, byAgentAfter } = wanted === undefined ? statements : statementsOfPhases;
  const first = agentId === undefined ? all : byAgent;
  const later = agentId === undefined ? allAfter : byAgentAfter;
  const statement = after === undefined ? first : later;
  const parameters = [
    context.namespace,
    limit,
    ...(after === undefined ? [] : [after.createdAt, after.id]),
    ...(agentId === undefined ? [] : [agentId]),
    ...(wanted === undefined || agentId !== undefined ? [] : [list(wanted.map((phase) => statusOf[phase]))]),
    ...(wanted === undefined ? [] : [list(wanted)]),
  ];
  const read = (text: string) => database.query<ListedRow>(text, parameters, { neverWaits: true });
  let rows = await read(statement.light);
  if (rows.some(({ heavy }) => heavy)) rows = await read(statement.heavy);
  return pageOf(rows, limit);
}

type ListedRow = SessionRow & { readonly heavy: boolean };

/** Rows beyond the page, or too heavy for it, only say that there is a next one. */
function pageOf(rows: readonly ListedRow[], limit: number): SessionPage {
  const end = rows.findIndex(({ heavy }, at) => heavy || at === limit);
  const sessions = end < 0 ? rows : rows.slice(0, end);
  const last = end < 0 ? undefined : sessions.at(-1);
  return { sessions, next: last && { createdAt: rfc3339(last.created_at), id: last.id } };
}

/** A page of one agent's sessions, of any phase: most lists are such. */
export interface AgentPageQuery extends SessionQuery {
  readonly agentId: string;
  readonly phases?: undefined;
}

export function isOfAgent(query: SessionQuery): query is AgentPageQuery {
  return query.agentId !== undefined && query.phases === undefined;
}

/**
 * Lists the sessions of agents, each newest first.
 *
 * @param asked all of one namespace and one limit, and all with a place to start after, or none
 * @returns a page for each, in their order; undefined where it has a heavy session, for `listSessions`
 */
export async function listByAgents(
  database: Queries,
  asked: readonly { readonly context: RequestContext; readonly input: AgentPageQuery }[],
): Promise<(SessionPage | undefined)[]> {
  const [first] = asked;
  if (first === undefined) return [];
  const { context, input } = first;
  const share = Math.floor(pageBytes / (input.limit * asked.length));
  const after = asked.flatMap(({ input: { after: place } }) => place ?? []);
  const parameters = [context.namespace, input.limit, array(asked.map((one) => one.input.agentId)), share];
  if (after.length > 0) parameters.push(array(after.map((place) => place.createdAt)), array(after.map(({ id }) => id)));
  const statement = after.length > 0 ? statementsOfAgents.later : statementsOfAgents.first;
  const rows = await database.query<ListedRow & { readonly number: number }>(statement, parameters, {
    neverWaits: true,
  });
  const pages = asked.map((): ListedRow[] => []);
  for (const row of rows) pages[row.number - 1]?.push(row);
  return pages.map((page) => (page.some(({ heavy }) => heavy) ? undefined : pageOf(page, input.limit)));
}

/** An array as PostgreSQL reads it, of elements that need no quotes. */
function array(elements: readonly string[]): string {
  return `{${elements.join(",")}}`;
}

/** Each element once. */
function list(words: readonly string[]): string {
  return array([...new Set(words)]);
}
