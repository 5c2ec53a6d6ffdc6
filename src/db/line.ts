/** One connection to PostgreSQL, and what runs on it. */

import postgres from "postgres";
import { deadlineFor } from "./deadline.ts";

export interface LineOptions {
  readonly url: string;
  /** False behind a pooler that can't keep prepared statements. */
  readonly prepare: boolean;
  readonly deadlineMs: number;
}

export interface Statement {
  readonly text: string;
  readonly parameters: readonly (string | number | boolean | null)[];
  readonly neverWaits?: boolean | undefined;
  /** What its caller is told when it was sent and there is no answer. */
  readonly outcome: string;
  /** The transaction that it begins: the connection that it is sent on stays with that. */
  readonly begins?: symbol | undefined;
}

/** A statement that its caller waits for. */
export interface Job extends Statement {
  /** How long its caller waits for it. */
  readonly deadlineMs: number;
  readonly resolve: (rows: unknown[]) => void;
  readonly reject: (error: unknown) => void;
  timer: NodeJS.Timeout | undefined;
  /** Once it has been sent: where, and when. */
  sent: { readonly line: Line; readonly at: number } | undefined;
  isGivenUp: boolean;
}

/**
 * One connection, and the client of the driver that makes it.
 *
 *   closed ──needed──► opening ──answered──► idle ⇄ busy
 *      ▲                  │                   │      │
 *      └──────────────────┴───── broken ──────┴──────┘
 */
export interface Line {
  readonly client: postgres.Sql;
  state: "closed" | "opening" | "idle" | "busy";
  /** What runs on it, while it is busy: one statement, or several that never wait. */
  readonly jobs: Set<Job>;
  /** Statements that have been prepared on this connection. */
  readonly prepared: Set<string>;
  /** After so long the server gives a statement up. */
  timeoutMs: number;
  /** The transaction that has it for itself, also between statements, until it ends or the connection breaks. */
  holder: symbol | undefined;
}

/** After so long without a word from a transaction's process the server ends it: it may hold locks. */
const silentTransactionMs = 5_000;

/** How the connections of a pool are used at a moment. */
export interface PoolUsage {
  readonly size: number;
  /** With a statement or a transaction under way. */
  readonly busy: number;
  /** Statements that wait for a connection. */
  readonly waiting: number;
}

/**
 * Times and documents stay the text that the database gives: a Date has no microseconds, and a number of a document that
 * has passed through a double is another one.
 *
 * @param types their ids
 */
function asText(...types: [number, ...number[]]): postgres.PostgresType<string> {
  return { to: types[0], from: types, serialize: (value: unknown) => value, parse: (text: string) => text };
}

/** Makes a line, closed as yet. */
export function newLine({ url, prepare, deadlineMs }: LineOptions): Line {
  const client = postgres(url, {
    max: 1,
    prepare,
    // The driver's own back-off grows to 20 s, and outlasts the database's return.
    backoff: () => 0.1,
    connect_timeout: Math.max(1, Math.floor(deadlineMs / 1000)),
    // The driver would end a connection of a certain age between two statements, also of a transaction, and send what
    // comes meanwhile on the next one.
    max_lifetime: null,
    // No types of the database's own are asked for: none need to be fetched before the first statement.
    fetch_types: false,
    types: { date: asText(1184, 1114, 1082), json: asText(3802, 114) },
    onnotice: () => {},
    onclose: () => {
      line.state = "closed";
      line.prepared.clear();
      line.timeoutMs = timeoutOf(deadlineMs);
      line.holder = undefined;
    },
    connection: {
      application_name: "session-service",
      // The server gives a statement up a little before its caller does, and plans it once a connection: each of ours
      // has one good plan, and planning anew costs more than running it. A pooler would refuse these parameters.
      ...(prepare
        ? {
            statement_timeout: timeoutOf(deadlineMs),
            idle_in_transaction_session_timeout: silentTransactionMs,
            plan_cache_mode: "force_generic_plan",
            // Compiling a statement takes longer than running it, and is done each time.
            jit: "off",
          }
        : {}),
      // How times are written, whatever the database is set to.
      DateStyle: "ISO",
      TimeZone: "UTC",
    },
  });
  const line: Line = {
    client,
    state: "closed",
    jobs: new Set(),
    prepared: new Set(),
    timeoutMs: timeoutOf(deadlineMs),
    holder: undefined,
  };
  return line;
}

function timeoutOf(deadlineMs: number): number {
  return deadlineMs - 100;
}

/** Sends a statement, and gives its rows. */
export function send(line: Line, { text, parameters, deadlineMs }: Job, { prepare }: LineOptions): Promise<unknown[]> {
  const timeoutMs = timeoutOf(deadlineMs);
  if (prepare && line.timeoutMs !== timeoutMs) {
    line.timeoutMs = timeoutMs;
    const setting = line.client.unsafe("select set_config('statement_timeout', $1, false)", [String(timeoutMs)], {
      prepare,
    });
    // Whatever is wrong, the statement behind it meets it too.
    setting.catch(() => {});
  }
  return line.client.unsafe(text, [...parameters], { prepare });
}

/**
 * Makes a statement a job, and waits for its rows; a job that is not settled in time is given up.
 *
 * @param how.deadlineMs for a statement with small parameters
 */
export function ask(
  { text, parameters, neverWaits, outcome, begins }: Statement,
  how: { readonly deadlineMs: number; readonly send: (job: Job) => void; readonly giveUp: (job: Job) => void },
): Promise<unknown[]> {
  const bytes = parameters.reduce<number>((sum, value) => sum + String(value).length, 0);
  const deadlineMs = deadlineFor(bytes, how.deadlineMs);
  return new Promise((resolve, reject) => {
    const job: Job = {
      text,
      parameters,
      neverWaits,
      outcome,
      begins,
      deadlineMs,
      resolve,
      reject,
      timer: undefined,
      sent: undefined,
      isGivenUp: false,
    };
    job.timer = setTimeout(how.giveUp, deadlineMs, job);
    how.send(job);
  });
}

/** Gives the caller of a job its rows. */
export function answer(job: Job, rows: unknown[]): void {
  clearTimeout(job.timer);
  job.resolve(rows);
}

/** Tells the caller of a job that it failed. */
export function refuse(job: Job, error: unknown): void {
  clearTimeout(job.timer);
  job.reject(error);
}

/** How many statements that never wait may be under way on one connection: sent together, they cost one system call. */
const pipelineDepth = 8;

/**
 * With every connection in use, the one with the fewest statements under way, none of which waits (they share with their
 * like only, so the first tells). The driver must have prepared the statement there: else it would keep it back until
 * then, and send it whatever has become of its caller.
 */
export function sharedLine(lines: readonly Line[], statement: string): Line | undefined {
  let best: Line | undefined;
  for (const line of lines) {
    if (line.state !== "busy") return undefined;
    const [first] = line.jobs;
    const isFit = first?.neverWaits === true && line.jobs.size < pipelineDepth && line.prepared.has(statement);
    if (isFit && (best === undefined || line.jobs.size < best.jobs.size)) best = line;
  }
  return best;
}

/** Asked anew: the state may have changed while its line was waited for. */
export function isBusy({ state }: Line): boolean {
  return state === "busy";
}
