/** Sessions as the API uses them: one at a time, travelling together. */

import type { Database } from "../db/client.ts";
import { Coalescer } from "./coalesce.ts";
import type { RequestContext } from "./context.ts";
import { createSessions, type NewSession } from "./create.ts";
import { listSessions, readSessions, type SessionPage, type SessionQuery } from "./read.ts";
import type { SessionRow } from "./row.ts";
import { type ChangeResult, type SessionChange, updateSessions } from "./update.ts";

export interface Sessions {
  create(context: RequestContext, input: NewSession): Promise<SessionRow>;
  /** Undefined when there is no such session; the id must be a UUID. */
  read(context: RequestContext, id: string): Promise<SessionRow | undefined>;
  update(context: RequestContext, change: SessionChange): Promise<ChangeResult>;
  list(context: RequestContext, query: SessionQuery): Promise<SessionPage>;
}

/** A request, and on whose behalf it is made. */
interface Asked<Input> {
  readonly context: RequestContext;
  readonly input: Input;
}

const group = ({ context }: Asked<unknown>) => context.namespace;

function documentBytes(input: NewSession | SessionChange): number {
  return (input.context?.length ?? 0) + (input.checkpoint?.length ?? 0) + (input.runtimeMetadata?.length ?? 0);
}

/** @param coalesce false: each request is a statement of its own */
export function openSessions(database: Database, { coalesce }: { readonly coalesce: boolean }): Sessions {
  const list: Sessions["list"] = (context, query) => listSessions(database, context, query);
  const create = async (asked: readonly Asked<NewSession>[]) => createSessions(database, asked);
  const update = async (asked: readonly Asked<SessionChange>[]) => updateSessions(database, asked);
  const read = async (asked: readonly Asked<string>[]): Promise<(SessionRow | null)[]> => {
    const [first] = asked;
    if (first === undefined) return [];
    const ids = [...new Set(asked.map(({ input }) => input))];
    const rows = new Map((await readSessions(database, first.context, ids)).map((row) => [row.id, row]));
    return asked.map(({ input }) => rows.get(input) ?? null);
  };
  if (!coalesce) return { create: alone(create), read: orNone(alone(read)), update: alone(update), list };
  const creates = new Coalescer({ run: create, group, weight: ({ input }) => documentBytes(input) });
  const reads = new Coalescer({ run: read, group });
  const updates = new Coalescer({
    run: update,
    group,
    key: ({ context, input }) => `${context.namespace}/${input.id}`,
    weight: ({ input }) => documentBytes(input),
  });
  return {
    create: (context, input) => creates.add({ context, input }),
    read: orNone((context, input) => reads.add({ context, input })),
    update: (context, input) => updates.add({ context, input }),
    list,
  };
}

type One<Input, Output> = (context: RequestContext, input: Input) => Promise<Output>;

function alone<Input, Output>(
  run: (asked: readonly Asked<Input>[]) => Promise<readonly (Output | undefined)[]>,
): One<Input, Output> {
  return async (context, input) => {
    const [output] = await run([{ context, input }]);
    if (output === undefined) throw new Error("a statement for one input gave no output");
    return output;
  };
}

function orNone<Input, Output>(one: One<Input, Output | null>): One<Input, Output | undefined> {
  return async (context, input) => (await one(context, input)) ?? undefined;
}
