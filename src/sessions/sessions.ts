/** Sessions as the API uses them: one at a time, travelling together. */

import type { Queries } from "../db/client.ts";
import { isRefusal } from "../db/failures.ts";
import { Coalescer, type CoalescerOptions } from "./coalesce.ts";
import type { RequestContext } from "./context.ts";
import { createSessions, creationVariantOf, type NewSession } from "./create.ts";
import { type DeletionResult, deleteSessions, type SessionDeletion } from "./delete.ts";
import { type Diagnosis, type DiagnosisQuery, diagnoseSession } from "./diagnosis.ts";
import { type Figures, type FiguresQuery, readSessionMetrics, type SessionMetrics, sharedFigures } from "./metrics.ts";
import { type Ownership, openOwnership } from "./ownership.ts";
import { listSessions, readSessions, type SessionPage, type SessionQuery } from "./read.ts";
import { type Report, type ReportResult, reportEvents } from "./report.ts";
import type { SessionRow } from "./row.ts";
import type { Transition } from "./transition-log.ts";
import { type ChangeResult, type SessionChange, updateSessions, variantOf } from "./update.ts";

export interface Sessions extends Ownership {
  create(context: RequestContext, input: NewSession): Promise<SessionRow>;
  /** Undefined when there is no such session; the id must be a UUID. */
  read(context: RequestContext, id: string): Promise<SessionRow | undefined>;
  update(context: RequestContext, change: SessionChange): Promise<ChangeResult>;
  delete(context: RequestContext, deletion: SessionDeletion): Promise<DeletionResult>;
  report(context: RequestContext, report: Report): Promise<ReportResult>;
  list(context: RequestContext, query: SessionQuery): Promise<SessionPage>;
  /** Undefined when there is no such session, as for `metrics`. */
  diagnose(context: RequestContext, query: DiagnosisQuery): Promise<Diagnosis | undefined>;
  metrics(context: RequestContext, id: string): Promise<SessionMetrics | undefined>;
  figures(context: RequestContext, query: FiguresQuery): Promise<Figures>;
}

/** A request, and on whose behalf it is made. */
interface Asked<Input> {
  readonly context: RequestContext;
  readonly input: Input;
}

const group = ({ context }: Asked<unknown>) => context.namespace;

const sessionOf = ({ context, input }: Asked<SessionChange | Report>) => `${context.namespace}/${input.id}`;

function documentBytes({ input }: Asked<NewSession | SessionChange>): number {
  const { context, checkpoint, runtimeMetadata, details } = input;
  const bytes = (context?.length ?? 0) + (checkpoint?.length ?? 0) + (runtimeMetadata?.length ?? 0);
  const result = "result" in input ? (input.result?.length ?? 0) : 0;
  return [...(details?.values() ?? [])].reduce((sum, text) => sum + text.length, bytes + result);
}

function payloadBytes({ input }: Asked<Report>): number {
  return input.events.reduce((bytes, { payload }) => bytes + payload.length, 0);
}

export interface SessionsOptions {
  /** False: each request is a statement of its own, as it must be in a transaction. */
  readonly coalesce: boolean;
  /** Called after a change was made that took a session from one phase to another. */
  readonly onTransition?: (transition: Transition) => void;
}

/**
 * @param database the pool, or a transaction: the commands are then part of it
 */
export function openSessions(database: Queries, { coalesce, onTransition }: SessionsOptions): Sessions {
  const list: Sessions["list"] = (context, query) => listSessions(database, context, query);
  const create = (asked: readonly Asked<NewSession>[]) => createSessions(database, asked);
  const update = (asked: readonly Asked<SessionChange>[]) => updateSessions(database, asked);
  const updateFree = (asked: readonly Asked<SessionChange>[]) => updateSessions(database, asked, { wait: false });
  const report = (asked: readonly Asked<Report>[]) => reportEvents(database, asked);
  const reportFree = (asked: readonly Asked<Report>[]) => reportEvents(database, asked, { wait: false });
  const read = async (asked: readonly Asked<string>[]): Promise<(SessionRow | null | undefined)[]> => {
    const [first] = asked;
    if (first === undefined) return [];
    const ids = [...new Set(asked.map(({ input }) => input))];
    const rows = await readSessions(database, first.context, ids, { evenHeavy: asked.length === 1 });
    const byId = new Map(rows.map((row) => [row.id, row]));
    return asked.map(({ input }) => {
      const row = byId.get(input);
      return row?.heavy === true ? undefined : (row ?? null);
    });
  };
  const remove = alone((asked: readonly Asked<SessionDeletion>[]) => deleteSessions(database, asked));
  const one = { create: alone(create), read: alone(read), update: alone(update), report: alone(report) };
  const each = coalesce
    ? {
        create: together({
          run: create,
          runAlone: one.create,
          isRefusal,
          group: (asked) => `${group(asked)}/${creationVariantOf(asked.input)}`,
          weight: documentBytes,
        }),
        read: together({ run: read, runAlone: one.read, isRefusal, group }),
        update: together({
          run: updateFree,
          runAlone: one.update,
          isRefusal,
          group: (asked) => `${group(asked)}/${variantOf(asked.input)}`,
          key: sessionOf,
          weight: documentBytes,
        }),
        report: together({
          run: reportFree,
          runAlone: one.report,
          isRefusal,
          group,
          key: sessionOf,
          weight: payloadBytes,
        }),
      }
    : one;
  return {
    create: (context, input) => each.create({ context, input }),
    read: async (context, input) => (await each.read({ context, input })) ?? undefined,
    async update(context, input) {
      const result = await each.update({ context, input });
      if (result.outcome === "ok" && result.changed && result.from !== result.session.phase) {
        onTransition?.({ context, from: result.from, session: result.session });
      }
      return result;
    },
    delete: (context, input) => remove({ context, input }),
    async report(context, input) {
      const result = await each.report({ context, input });
      if (result.outcome === "ok" && result.woke !== undefined) {
        onTransition?.({ context, from: "idle", session: result.woke });
      }
      return result;
    },
    list,
    diagnose: (context, query) => diagnoseSession(database, context, query),
    metrics: (context, id) => readSessionMetrics(database, context, id),
    figures: sharedFigures(database),
    ...openOwnership(database, { coalesce, ...(onTransition && { onTransition }) }),
  };
}

function together<Input, Output>(options: CoalescerOptions<Input, Output>): (input: Input) => Promise<Output> {
  const coalescer = new Coalescer(options);
  return (input) => coalescer.add(input);
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
