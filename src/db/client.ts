/**
 * The connection to PostgreSQL: prepared statements over a pool, each with a deadline, and failures told apart by what
 * a client should do about them.
 */

import postgres from "postgres";
import { errors } from "../errors.ts";
import { isRolledBackByContention, translate } from "./failures.ts";

export type Parameter = string | number | boolean | null;

export interface Database {
  /**
   * Runs one statement and gives its rows. The statement is prepared once a connection, so its text must be constant.
   *
   * @param neverWaits that it waits for no lock: it may then share a connection with others like it
   * @throws {ServiceError} database_unavailable when there is no answer in time or no connection, schema_outdated when
   * a table or column is missing
   */
  query<Row>(
    statement: string,
    parameters?: readonly Parameter[],
    options?: { readonly neverWaits?: boolean },
  ): Promise<Row[]>;
  /** Waits for what runs, at most so long, then cuts the connections. */
  close(withinMs?: number): Promise<void>;
}

export interface DatabaseOptions {
  readonly url: string;
  readonly poolSize: number;
  /** False behind a pooler that can't keep prepared statements. */
  readonly prepare: boolean;
  /** How long a statement may take before its caller is told that the database is not available. */
  readonly deadlineMs?: number;
}

/** Leaves a client of a gone database with its 503 within 3 s, connecting included. */
const defaultDeadlineMs = 2_500;

/** How many statements that never wait may be under way on one connection: sent together, they cost one system call. */
const pipelineDepth = 8;

/** How often a statement is run again that the database rolled back to end a deadlock. */
const deadlockRetries = 3;

/** Opens the pool. Connections are made when they are needed: a database that is away is no error here. */
export function openDatabase(options: DatabaseOptions): Database {
  return new Pool(options);
}

/** A statement that its caller waits for. */
interface Job {
  readonly statement: string;
  readonly parameters: readonly Parameter[];
  readonly neverWaits: boolean;
  readonly resolve: (rows: unknown[]) => void;
  readonly reject: (error: unknown) => void;
  /** Once it has been sent: where, and when. */
  sent?: { readonly line: Line; readonly at: number };
}

/**
 * One connection, and the client of the driver that makes it.
 *
 *   closed ──needed──► opening ──answered──► idle ⇄ busy
 *      ▲                  │                   │      │
 *      └──────────────────┴───── broken ──────┴──────┘
 */
interface Line {
  readonly client: postgres.Sql;
  state: "closed" | "opening" | "idle" | "busy";
  /** What runs on it, while it is busy: one statement, or several that never wait. */
  readonly jobs: Set<Job>;
  /** Statements that have been prepared on this connection. */
  readonly prepared: Set<string>;
}

/**
 * Statements wait here, and not in the driver. A pool of the driver's sends one whose caller has long been told that it
 * failed, once a connection comes up; told not to, it loses that connection for good. So each client has one
 * connection, and is given a statement only while that is open and free: nothing waits behind a locked row, either.
 * Statements that never wait (reads, creates) share a connection once all are in use.
 */
class Pool implements Database {
  readonly #options: DatabaseOptions;
  readonly #deadlineMs: number;
  /** First come, first served. */
  readonly #waiting = new Set<Job>();
  readonly #lines: Line[];
  #closed = false;

  constructor(options: DatabaseOptions) {
    this.#options = options;
    this.#deadlineMs = options.deadlineMs ?? defaultDeadlineMs;
    this.#lines = Array.from({ length: options.poolSize }, () => this.#newLine());
  }

  #newLine(): Line {
    const { url, prepare } = this.#options;
    const client = postgres(url, {
      max: 1,
      prepare,
      // The driver's own back-off grows to 20 s, and outlasts the database's return.
      backoff: () => 0.1,
      connect_timeout: Math.max(1, Math.floor(this.#deadlineMs / 1000)),
      // Every column is asked for as text, number or boolean: no types need to be fetched before the first statement.
      fetch_types: false,
      onnotice: () => {},
      onclose: () => {
        line.state = "closed";
        line.prepared.clear();
      },
      connection: {
        application_name: "session-service",
        // The server gives a statement up a little before its caller does, and plans it once a connection: each of ours
        // has one good plan, and planning anew costs more than running it. A pooler would refuse both parameters.
        ...(prepare ? { statement_timeout: this.#deadlineMs - 100, plan_cache_mode: "force_generic_plan" } : {}),
        // What `utcText` gives is written in it, whatever the database is set to.
        DateStyle: "ISO",
      },
    });
    const line: Line = { client, state: "closed", jobs: new Set(), prepared: new Set() };
    return line;
  }

  async query<Row>(
    statement: string,
    parameters: readonly Parameter[] = [],
    { neverWaits = false }: { readonly neverWaits?: boolean } = {},
  ): Promise<Row[]> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#once<Row>(statement, parameters, neverWaits);
      } catch (error) {
        if (isRolledBackByContention(error) && tries < deadlockRetries) continue;
        throw translate(error);
      }
    }
  }

  #once<Row>(statement: string, parameters: readonly Parameter[], neverWaits: boolean): Promise<Row[]> {
    return new Promise((resolve, reject) => {
      const job: Job = {
        statement,
        parameters,
        neverWaits,
        resolve: (rows) => {
          clearTimeout(timer);
          resolve(rows as Row[]);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      const timer = setTimeout(() => this.#giveUp(job), this.#deadlineMs);
      if (this.#closed) job.reject(errors.databaseUnavailable("The service is stopping."));
      else this.#waiting.add(job);
      this.#dispatch();
    });
  }

  /** What was not sent is forgotten: it must never run after its caller has been told that it failed. */
  #giveUp(job: Job): void {
    this.#waiting.delete(job);
    const { sent } = job;
    job.reject(
      errors.databaseUnavailable(
        `The database did not answer in time; ${sent ? "the change may or may not be made" : "nothing was changed"}.`,
      ),
    );
    if (sent === undefined) return;
    // A job that had to wait long may have run for a moment only: its connection is not to blame for that.
    setTimeout(
      () => {
        if (sent.line.jobs.has(job)) this.#replace(sent.line);
      },
      sent.at + this.#deadlineMs - performance.now(),
    ).unref();
  }

  /** Gives what waits to the lines that are free, in its order, and opens more while there are not enough. */
  #dispatch(): void {
    for (const job of this.#waiting) {
      const line =
        this.#lines.find(({ state }) => state === "idle") ??
        (job.neverWaits ? this.#sharedLine(job.statement) : undefined);
      if (line === undefined) break;
      this.#waiting.delete(job);
      void this.#run(line, job);
    }
    let needed = this.#waiting.size - this.#lines.filter(({ state }) => state === "opening").length;
    for (const line of this.#lines) {
      if (needed <= 0) return;
      if (line.state !== "closed") continue;
      needed--;
      void this.#open(line);
    }
  }

  /**
   * With every connection in use, the one with the fewest statements under way, none of which waits (they share with
   * their like only, so the first tells). The driver must have prepared the statement there: else it would keep it back
   * until then, and send it whatever has become of its caller.
   */
  #sharedLine(statement: string): Line | undefined {
    let best: Line | undefined;
    for (const line of this.#lines) {
      if (line.state !== "busy") return undefined;
      const [first] = line.jobs;
      const isFit = first?.neverWaits === true && line.jobs.size < pipelineDepth && line.prepared.has(statement);
      if (isFit && (best === undefined || line.jobs.size < best.jobs.size)) best = line;
    }
    return best;
  }

  async #run(line: Line, job: Job): Promise<void> {
    line.state = "busy";
    line.jobs.add(job);
    job.sent = { line, at: performance.now() };
    const { prepare } = this.#options;
    await line.client.unsafe(job.statement, [...job.parameters], { prepare }).then((rows) => {
      if (prepare) line.prepared.add(job.statement);
      job.resolve(rows);
    }, job.reject);
    line.jobs.delete(job);
    // Unless it broke.
    if (isBusy(line) && line.jobs.size === 0) line.state = "idle";
    this.#dispatch();
  }

  /** An answer tells that a connection is fit for use; before that, nothing is sent on anyone's behalf. */
  async #open(line: Line): Promise<void> {
    line.state = "opening";
    const timer = setTimeout(() => this.#replace(line), this.#deadlineMs);
    try {
      await line.client.unsafe("select 1");
      line.state = "idle";
    } catch (error) {
      line.state = "closed";
      if (!this.#lines.some(({ state }) => state === "idle" || state === "busy")) this.#refuseAll(error);
    } finally {
      clearTimeout(timer);
    }
    this.#dispatch();
  }

  /** Nobody needs to wait for the deadline to learn that the database is away. */
  #refuseAll(error: unknown): void {
    for (const job of this.#waiting) job.reject(error);
    this.#waiting.clear();
  }

  /** A server that is frozen, a network that swallows: the connection itself would take minutes to notice. */
  #replace(line: Line): void {
    const at = this.#lines.indexOf(line);
    if (at < 0 || this.#closed) return;
    this.#lines[at] = this.#newLine();
    void line.client.end({ timeout: 0 }).catch(() => {});
    this.#dispatch();
  }

  async close(withinMs = 5_000): Promise<void> {
    this.#closed = true;
    this.#refuseAll(errors.databaseUnavailable("The service is stopping."));
    // Only a statement is worth the wait: a line that is being opened has none.
    await Promise.all(
      this.#lines.map(({ client, state }) => client.end({ timeout: state === "busy" ? withinMs / 1000 : 0 })),
    );
  }
}

/** Asked anew: the state may have changed while its line was waited for. */
function isBusy({ state }: Line): boolean {
  return state === "busy";
}
