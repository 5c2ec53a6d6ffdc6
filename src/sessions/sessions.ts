/** Sessions as the API uses them: one at a time, travelling together. */

import type { Queries } from "../db/client.ts";
import { isRefusal } from "../db/failures.ts";
import { type BulkJobs, openBulkJobs } from "./bulk-jobs.ts";
import type { SessionChange } from "./change-input.ts";
import { type FinalCheckpoints, finalPhases } from "./checkpoint-history.ts";
import { type Checkpoints, openCheckpoints } from "./checkpoints.ts";
import { Coalescer, type CoalescerOptions } from "./coalesce.ts";
import { isGone, type RequestContext } from "./context.ts";
import { editWeight } from "./context-edit.ts";
import { type ContextPart, type ContextQuery, readContext } from "./context-part.ts";
import { type ContextUsage, readContextUsage } from "./context-usage.ts";
import {
  type Batch,
  type BatchResult,
  type Creation,
  createBatch,
  createSessions,
  creationVariantOf,
  type NewSession,
} from "./create.ts";
import { type DeletionResult, deleteSessions, type SessionDeletion } from "./delete.ts";
import { type Diagnosis, type DiagnosisQuery, diagnoseSession } from "./diagnosis.ts";
import { readByExternalId, unlessTaken } from "./external-id.ts";
import { type FoundPage, findSessions } from "./find.ts";
import { countFacets, countSessions, type Facets } from "./find-count.ts";
import type { FindQuery, SessionFilter } from "./find-query.ts";
import {
  type AgentPageQuery,
  isOfAgent,
  listByAgents,
  listSessions,
  type SessionPage,
  type SessionQuery,
} from "./list.ts";
import { areLocked } from "./locked.ts";
import { type Figures, type FiguresQuery, readSessionMetrics, type SessionMetrics, sharedFigures } from "./metrics.ts";
import { type Ownership, openOwnership } from "./ownership.ts";
import { type Prune, type PruneResult, pruneCheckpoints } from "./prune.ts";
import { readEvenDeleted, readSessions } from "./read.ts";
import { type Report, type ReportResult, reportEvents } from "./report.ts";
import type { SessionRow } from "./row.ts";
import { mergeWeight } from "./session-merge.ts";
import type { Transition } from "./transition-log.ts";
import { type Undeletion, type UndeletionResult, undeleteSessions } from "./undelete.ts";
import { type ChangeResult, makeChanges, setsExternalId, updateSessions, variantOf } from "./update.ts";

export interface Sessions extends Checkpoints, Ownership, BulkJobs {
  create(context: RequestContext, input: NewSession): Promise<Creation>;
  /** Creates several sessions. */
  createBatch(context: RequestContext, batch: Batch): Promise<BatchResult[]>;
  /** Undefined when there is no such session; the id must be a UUID. */
  read(context: RequestContext, id: string): Promise<SessionRow | undefined>;
  /** Also one that was deleted. */
  readEvenDeleted(context: RequestContext, id: string): Promise<SessionRow | undefined>;
  /** Undefined when there is no session that has it. */
  readByExternalId(context: RequestContext, externalId: string): Promise<SessionRow | undefined>;
  /** The context, or a part of it; undefined when there is no such session. */
  readContext(context: RequestContext, query: ContextQuery): Promise<ContextPart | undefined>;
  update(context: RequestContext, change: SessionChange): Promise<ChangeResult>;
  delete(context: RequestContext, deletion: SessionDeletion): Promise<DeletionResult>;
  undelete(context: RequestContext, undeletion: Undeletion): Promise<UndeletionResult>;
  report(context: RequestContext, report: Report): Promise<ReportResult>;
  list(context: RequestContext, query: SessionQuery): Promise<SessionPage>;
  /** By any filter, in any order. Undefined when there are too many to be sorted. */
  find(context: RequestContext, query: FindQuery): Promise<FoundPage | undefined>;
  count(context: RequestContext, filter: SessionFilter): Promise<number>;
  facets(context: RequestContext, filter: SessionFilter): Promise<Facets>;
  /** Undefined when there is no such session, as for `metrics`. */
  diagnose(context: RequestContext, query: DiagnosisQuery): Promise<Diagnosis | undefined>;
  metrics(context: RequestContext, id: string): Promise<SessionMetrics | undefined>;
  contextUsage(context: RequestContext, id: string): Promise<ContextUsage | undefined>;
  figures(context: RequestContext, query: FiguresQuery): Promise<Figures>;
  /** Removes checkpoints of one session, or tells which it would remove. */
  prune(context: RequestContext, prune: Prune): Promise<PruneResult>;
}

/** A request, and on whose behalf it is made. */
interface Asked<Input> {
  readonly context: RequestContext;
  readonly input: Input;
}

const group = ({ context }: Asked<unknown>) => context.namespace;

/** What another session may have is set apart: the statement may be refused for it, or wait. */
const variant = (asked: Asked<SessionChange>) =>
  `${group(asked)}/${variantOf(asked.input)}${setsExternalId(asked.input) ? "/external" : ""}`;

const hasLeft = ({ context }: Asked<unknown>) => isGone(context);

const sessionOf = ({ context, input }: Asked<SessionChange | Report>) => `${context.namespace}/${input.id}`;

function documentBytes({ input }: Asked<NewSession | SessionChange>): number {
  const { context, checkpoint, runtimeMetadata, details } = input;
  const bytes = (context?.length ?? 0) + (checkpoint?.length ?? 0) + (runtimeMetadata?.length ?? 0);
  return [...(details?.values() ?? [])].reduce((sum, text) => sum + text.length, bytes);
}

/** A last checkpoint has the session's context, of whatever size that is: few are saved together. */
const finalCheckpointBytes = 256 * 1024;

function changeBytes(asked: Asked<SessionChange>): number {
  const { contextEdit, merges, result, state, finalPhases } = asked.input;
  const leaves = state !== undefined && finalPhases?.includes(state.entry);
  const own = documentBytes(asked) + (result?.length ?? 0);
  return own + editWeight(contextEdit) + (merges ? mergeWeight : 0) + (leaves ? finalCheckpointBytes : 0);
}

function payloadBytes({ input }: Asked<Report>): number {
  return input.events.reduce((bytes, { payload }) => bytes + payload.length, 0);
}

/** Of a session in a list, about, as far as it matters how many are read at once. */
const bytesOfRow = 1_600;

/** Longer pages are read for themselves: the short ones would wait for them. */
const longestSharedPage = 100;

export interface SessionsOptions {
  /** False: each request is a statement of its own, as it must be in a transaction. */
  readonly coalesce: boolean;
  /** Of which sessions a last checkpoint is saved; undefined: of those that crash. */
  readonly finalCheckpoints?: FinalCheckpoints;
  /** Called after a change was made that took a session from one phase to another. */
  readonly onTransition?: (transition: Transition) => void;
}

/**
 * @param database the pool, or a transaction: the commands are then part of it
 */
export function openSessions(
  database: Queries,
  { coalesce, finalCheckpoints = "crashes", onTransition }: SessionsOptions,
): Sessions {
  const each = coalesce ? travellingTogether(database) : eachForItself(database);
  const remove = alone((asked: readonly Asked<SessionDeletion>[]) => deleteSessions(database, asked));
  const restore = alone((asked: readonly Asked<Undeletion>[]) => undeleteSessions(database, asked));
  return {
    create: (context, input) => each.create({ context, input }),
    createBatch: (context, batch) => createBatch(database, context, batch),
    read: async (context, input) => (await each.read({ context, input })) ?? undefined,
    readEvenDeleted: async (context, id) => (await readEvenDeleted(database, context, [id]))[0],
    readByExternalId: (context, externalId) => readByExternalId(database, context, externalId),
    readContext: (context, query) => readContext(database, context, query),
    async update(context, input) {
      const leaving = input.state === undefined ? input : { ...input, finalPhases: finalPhases[finalCheckpoints] };
      const change = () => each.update({ context, input: leaving });
      const result = await unlessTaken(database, { context, settings: input.settings }, change);
      if (result.outcome === "ok" && result.changed && result.from !== result.session.phase) {
        onTransition?.({ context, from: result.from, session: result.session });
      }
      return result;
    },
    delete: (context, input) => remove({ context, input }),
    async undelete(context, input) {
      const result = await restore({ context, input });
      if (result.outcome === "ok" && result.changed && result.from !== result.session.phase) {
        onTransition?.({ context, from: result.from, session: result.session });
      }
      return result;
    },
    async report(context, input) {
      const result = await each.report({ context, input });
      if (result.outcome === "ok" && result.woke !== undefined) {
        onTransition?.({ context, from: "idle", session: result.woke });
      }
      return result;
    },
    list: (context, input) => each.list({ context, input }),
    find: (context, query) => findSessions(database, context, query),
    count: (context, filter) => countSessions(database, context, filter),
    facets: (context, filter) => countFacets(database, context, filter),
    diagnose: (context, query) => diagnoseSession(database, context, query),
    metrics: (context, id) => readSessionMetrics(database, context, id),
    contextUsage: (context, id) => readContextUsage(database, context, id),
    figures: sharedFigures(database),
    prune: (context, prune) => pruneCheckpoints(database, context, prune),
    ...openCheckpoints(database),
    ...openBulkJobs(database),
    ...openOwnership(database, { coalesce, ...(onTransition && { onTransition }) }),
  };
}

/** The commands that may travel together, each of one input. */
interface Commands {
  create(asked: Asked<NewSession>): Promise<Creation>;
  read(asked: Asked<string>): Promise<SessionRow | null>;
  update(asked: Asked<SessionChange>): Promise<ChangeResult>;
  report(asked: Asked<Report>): Promise<ReportResult>;
  list(asked: Asked<SessionQuery>): Promise<SessionPage>;
}

function eachForItself(database: Queries): Commands {
  const updateWhole = alone((asked: readonly Asked<SessionChange>[]) => updateSessions(database, asked));
  return {
    create: alone((asked) => createSessions(database, asked)),
    read: alone((asked) => readEach(database, asked)),
    async update(asked) {
      const [made] = await makeChanges(database, [asked]);
      return made ?? updateWhole(asked);
    },
    report: alone((asked) => reportEvents(database, asked)),
    list: ({ context, input }) => listSessions(database, context, input),
  };
}

function travellingTogether(database: Queries): Commands {
  const { create, read, report, list } = eachForItself(database);
  const isLocked = (asked: readonly Asked<SessionChange | Report>[]) => areLocked(database, asked);
  const updateWhole = together({
    run: (asked) => updateSessions(database, asked, { wait: false }),
    runAlone: alone((asked) => updateSessions(database, asked)),
    group: variant,
    areLocked: isLocked,
    weight: changeBytes,
  });
  const listOfAgent = together<AgentPageQuery, SessionPage>({
    run: (asked) => listByAgents(database, asked),
    runAlone: list,
    group: (asked) => `${group(asked)}/${asked.input.limit}/${asked.input.after === undefined}`,
    weight: ({ input }) => input.limit * bytesOfRow,
  });
  return {
    create: together({
      run: (asked) => createSessions(database, asked),
      runAlone: create,
      group: (asked) => `${group(asked)}/${creationVariantOf(asked.input)}`,
      weight: documentBytes,
    }),
    read: together({ run: (asked) => readEach(database, asked), runAlone: read, group }),
    update: together({
      run: (asked) => makeChanges(database, asked),
      // What is no simple change travels once more, with its like.
      runAlone: updateWhole,
      group: variant,
      key: sessionOf,
      weight: changeBytes,
    }),
    report: together({
      run: (asked) => reportEvents(database, asked, { wait: false }),
      runAlone: report,
      group,
      key: sessionOf,
      areLocked: isLocked,
      weight: payloadBytes,
    }),
    list: ({ context, input }) =>
      isOfAgent(input) && input.limit <= longestSharedPage ? listOfAgent({ context, input }) : list({ context, input }),
  };
}

/** A session, or null where there is none; undefined, among others, for one that is to be read for itself. */
async function readEach(
  database: Queries,
  asked: readonly Asked<string>[],
): Promise<(SessionRow | null | undefined)[]> {
  const [first] = asked;
  if (first === undefined) return [];
  const ids = [...new Set(asked.map(({ input }) => input))];
  const rows = await readSessions(database, first.context, ids, { evenHeavy: asked.length === 1 });
  const byId = new Map(rows.map((row) => [row.id, row]));
  return asked.map(({ input }) => {
    const row = byId.get(input);
    return row?.heavy === true ? undefined : (row ?? null);
  });
}

function together<Input, Output>(
  options: Omit<CoalescerOptions<Asked<Input>, Output>, "isRefusal" | "isGone">,
): (asked: Asked<Input>) => Promise<Output> {
  const coalescer = new Coalescer({ ...options, isRefusal, isGone: hasLeft });
  return (asked) => coalescer.add(asked);
}

function alone<Input, Output>(
  run: (inputs: readonly Input[]) => Promise<readonly (Output | undefined)[]>,
): (input: Input) => Promise<Output> {
  return async (input) => {
    const [output] = await run([input]);
    if (output === undefined) throw new Error("a statement for one input gave no output");
    return output;
  };
}
