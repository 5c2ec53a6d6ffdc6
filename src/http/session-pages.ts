/** Pages of sessions, whichever way they are asked for. */

import type { FastifyRequest } from "fastify";
import { errors } from "../errors.ts";
import { readJson } from "../json.ts";
import type { FieldError } from "../service-error.ts";
import type { RequestContext } from "../sessions/context.ts";
import { mostSorted } from "../sessions/find-drivers.ts";
import { type FindQuery, isSelective, newestFirst, type Place, type SessionFilter } from "../sessions/find-query.ts";
import type { Sessions } from "../sessions/sessions.ts";
import { decodePlace, encodePlace } from "./cursor.ts";
import { sortOf } from "./schemas/list-sessions.ts";
import { sessionsText } from "./session-text.ts";
import { showsDocuments, type ViewAsked, viewText } from "./session-view.ts";

const defaultPage = 100;

export interface PageAsked extends ViewAsked {
  readonly filter: SessionFilter;
  readonly sort?: string | undefined;
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
  readonly count?: "exact" | undefined;
  /** What the list is of, beside its filter: a cursor of another is not taken. */
  readonly of?: string;
  /** How a problem names what is wrong: the parameters of a query, or the members of a body. */
  readonly in: "parameter" | "pointer";
  /** The pointer to the filter, where that is a member of the body. */
  readonly within?: string;
}

export interface Page {
  readonly text: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly limit: number;
  /** The cursor of the next page. */
  readonly next: string | undefined;
}

/**
 * Reads a page.
 *
 * @throws invalid_cursor, and validation_failed where a filter or an order needs another filter beside it
 */
export async function readPage(
  sessions: Pick<Sessions, "list" | "find" | "count">,
  context: RequestContext,
  asked: PageAsked,
): Promise<Page> {
  const { filter, limit = defaultPage, cursor } = asked;
  const sort = sortOf(asked.sort) ?? newestFirst;
  refuseUnbounded(asked);
  const after = cursor === undefined ? undefined : decodePlace(cursor, boundTo(asked), sort);
  const query = { filter, sort, limit, after, documents: showsDocuments(asked) };
  const [page, count] = await Promise.all([
    isPlain(query, asked) ? listed(sessions, context, query, asked) : found(sessions, context, query, asked),
    asked.count === undefined ? undefined : sessions.count(context, filter),
  ]);
  const next = page.next && encodePlace(page.next, boundTo(asked));
  const headers = {
    ...(next === undefined ? {} : { "x-next-cursor": next }),
    ...(count === undefined ? {} : { "x-total-count": String(count) }),
  };
  return { text: page.text, headers, limit, next };
}

/** What a cursor is bound to: lists by one agent and state have had theirs for longer than the others. */
function boundTo({ filter, sort, of }: PageAsked): string {
  if (sort !== undefined || !isOfFew(filter)) return JSON.stringify([filter, sort]);
  const agent = filter.agentIds?.[0] ?? "";
  const bound = of === undefined ? agent : `${of}\n${agent}`;
  return filter.phases === undefined ? bound : `${bound}\n${filter.phases.join()}`;
}

/** Whether it is by one agent, by states, by both, or by nothing. */
function isOfFew(filter: SessionFilter): boolean {
  // Each list asks twice: to make objects of the others would cost as much as all else that is done here.
  for (const name in filter) {
    const value = filter[name as keyof SessionFilter];
    if (value !== undefined && value !== false && name !== "agentIds" && name !== "phases") return false;
  }
  return (filter.agentIds?.length ?? 0) <= 1;
}

interface PageText {
  readonly text: string;
  readonly next: Place | undefined;
}

/** Whether it is one of the lists that are asked for all the time, which travel together. */
function isPlain({ filter, sort }: FindQuery, { view = "full", fields }: PageAsked): boolean {
  return sort.by === "created_at" && sort.descending && view === "full" && fields === undefined && isOfFew(filter);
}

async function listed(
  sessions: Pick<Sessions, "list">,
  context: RequestContext,
  { filter: { agentIds, phases }, limit, after }: FindQuery,
  { vocabulary }: PageAsked,
): Promise<PageText> {
  const place = after && { createdAt: after.key ?? "", id: after.id };
  const page = await sessions.list(context, { agentId: agentIds?.[0], phases, limit, after: place });
  const next = page.next && { key: page.next.createdAt, id: page.next.id };
  return { text: sessionsText(page.sessions, vocabulary), next };
}

async function found(
  sessions: Pick<Sessions, "find">,
  context: RequestContext,
  query: FindQuery,
  asked: PageAsked,
): Promise<PageText> {
  const page = await sessions.find(context, query);
  if (page === undefined) {
    throw problem(asked, "sort", `takes at most ${mostSorted} sessions; narrow the filter, or sort by created_at`);
  }
  return { text: viewText(page.sessions, asked), next: page.next };
}

const unbounded = {
  updatedAfter: "updated_after",
  updatedBefore: "updated_before",
  metadata: "metadata",
  contextContains: "context_contains",
} as const satisfies { readonly [Name in keyof SessionFilter]?: string };

/**
 * Nothing is searched from end to end: what no index knows is looked at in what a filter leaves that has one.
 *
 * @throws validation_failed
 */
export function refuseUnbounded(asked: Pick<PageAsked, "filter" | "sort" | "in" | "within">): void {
  const { filter, sort } = asked;
  if (isSelective(filter)) return;
  const [filtered] = Object.entries(unbounded).filter(([name]) => filter[name as keyof typeof unbounded] !== undefined);
  const name = filtered?.[1] ?? ((sortOf(sort)?.by ?? "created_at") === "created_at" ? undefined : "sort");
  if (name === undefined) return;
  const others = "agent_id, external_id, label, name, name_prefix or lease_owner";
  throw problem(asked, name, `needs a filter beside it that leaves few sessions: ${others}`);
}

function problem(asked: Pick<PageAsked, "in" | "within">, name: string, detail: string): Error {
  const { within = "" } = asked;
  const error: FieldError =
    asked.in === "parameter" ? { parameter: name, detail } : { pointer: `${within}/${name}`, detail };
  return errors.validationFailed([error]);
}

/**
 * The JSON text of an object that a parameter has.
 *
 * @throws validation_failed where it is none, and what the database can't keep
 */
export function containedText(given: string | undefined): string | undefined {
  if (given === undefined) return undefined;
  const value = parsed(given);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw errors.validationFailed([{ parameter: "context_contains", detail: "must be a JSON object" }]);
  }
  readJson(given);
  return given;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const byPath = /^metadata(?:\.(.*)|\[(.*)\])$/s;

/** Gathers `metadata.<path>=value`, and `metadata[<path>]=value` as clients write it that are generated, in one parameter. */
export async function gatherMetadata(request: FastifyRequest): Promise<void> {
  if (!request.url.includes("metadata")) return;
  const query = request.query as Record<string, unknown>;
  const gathered = Object.entries(query).flatMap(([name, value]) => {
    const [, dotted, bracketed] = byPath.exec(name) ?? [];
    const path = dotted ?? bracketed;
    return path === undefined ? [] : [{ name, path, value }];
  });
  if (gathered.length === 0) return;
  for (const { name } of gathered) delete query[name];
  query["metadata"] = Object.fromEntries(gathered.map(({ path, value }) => [path, value]));
}
