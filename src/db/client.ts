/**
 * The connection to PostgreSQL: prepared statements over a pool, each with a deadline, and failures told apart by what
 * a client should do about them.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { errors } from "../errors.ts";
import { ServiceError } from "../service-error.ts";
import { deadlineFor } from "./deadline.ts";
import { isRefusal, isRolledBackByContention, translate } from "./failures.ts";
import {
  answer,
  ask,
  isBusy,
  type Job,
  type Line,
  newLine,
  type PoolUsage,
  refuse,
  type Statement,
  send,
  sharedLine,
} from "./line.ts";
import { type HeldLine, inDoubt, runTransaction, undone } from "./transaction.ts";

export type Parameter = string | number | boolean | null;

/** Where statements are run. */
export interface Queries {
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
}

export interface Database extends Queries {
  /**
   * Runs the callback's statements one after the other in a transaction, and commits it; rolls back when the callback
   * throws. It has a connection for itself, so it must wait for nothing but its own statements. It may be run again, when
   * the database rolled it back to end a deadlock.
   *
   * @throws what the callback throws; database_unavailable when a statement, or all of it, takes too long
   */
  transaction<T>(run: (transaction: Queries) => Promise<T>): Promise<T>;
  /** Waits for what runs, at most so long, then cuts the connections. */
  close(withinMs?: number): Promise<void>;
}

export interface DatabaseOptions {
  readonly url: string;
  readonly poolSize: number;
  /** False behind a pooler that can't keep prepared statements. */
  readonly prepare: boolean;
  /** How long a statement may take before its caller is told that the database is not available; large ones longer. */
  readonly deadlineMs?: number;
}

/** How many deadlines a transaction's callback may take, from its `begin` on. */
const deadlinesOfTransaction = 2;

/** How often a statement, or a transaction, is run again that the database rolled back to end a deadlock. */
const deadlockRetries = 3;

/** Opens the pool. Connections are made when they are needed: a database that is away is no error here. */
export function openDatabase(options: DatabaseOptions): Database & { readonly usage: PoolUsage } {
  return new Pool(options);
}

/**
 * Statements wait here, and not in the driver. A pool of the driver's sends one whose caller has long been told that it
 * failed, once a connection comes up; told not to, it loses that connection for good. So each client has one
 * connection, and is given a statement only while that is open and free: nothing waits behind a locked row, either.
 * Statements that never wait (reads, creates) share a connection once all are in use. Transactions have at most half of
 * the connections at a time: those of slow clients of one path must not stop all others.
 */
class Pool implements Database {
  readonly #options: Required<DatabaseOptions>;
  /** First come, first served. */
  readonly #waiting = new Set<Job>();
  readonly #lines: Line[];
  /** The transactions that have a connection. */
  readonly #holders = new Set<symbol>();
  readonly #mostHolders: number;
  readonly #transactions = new Set<Promise<unknown>>();
  #closed = false;

  constructor(options: DatabaseOptions) {
    this.#options = { deadlineMs: deadlineFor(0), ...options };
    this.#lines = Array.from({ length: options.poolSize }, () => newLine(this.#options));
    this.#mostHolders = Math.max(1, Math.floor(options.poolSize / 2));
  }

  get usage(): PoolUsage {
    return { size: this.#lines.length, busy: this.#lines.filter(isBusy).length, waiting: this.#waiting.size };
  }

  async query<Row>(
    statement: string,
    parameters: readonly Parameter[] = [],
    { neverWaits = false }: { readonly neverWaits?: boolean } = {},
  ): Promise<Row[]> {
    for (let tries = 1; ; tries++) {
      try {
        return (await this.#ask({ text: statement, parameters, neverWaits, outcome: inDoubt }, this.#submit)) as Row[];
      } catch (error) {
        if (isRolledBackByContention(error) && tries < deadlockRetries) continue;
        throw translate(error);
      }
    }
  }

  transaction<T>(run: (transaction: Queries) => Promise<T>): Promise<T> {
    const ended = this.#transact(run).finally(() => this.#transactions.delete(ended));
    this.#transactions.add(ended);
    return ended;
  }

  async #transact<T>(run: (transaction: Queries) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      const line = await this.#begin();
      try {
        return await runTransaction(line, run, this.#options.deadlineMs * deadlinesOfTransaction);
      } catch (error) {
        const isContended = error instanceof ServiceError && isRolledBackByContention(error.cause);
        if (!isContended || tries === deadlockRetries) throw error;
        // The one that it was undone for must come by first: it would else meet the same locks again.
        await sleep(10 + 40 * Math.random());
      }
    }
  }

  async #begin(): Promise<HeldLine> {
    const holder = Symbol("transaction");
    const begin: Statement = { text: "begin", parameters: [], outcome: undone, begins: holder };
    await this.#ask(begin, this.#submit).catch((error: unknown) => {
      throw translate(error, undone);
    });
    const line = this.#lines.find((one) => one.holder === holder);
    const isHeld = () => line?.holder === holder;
    return {
      isFree: () => isHeld() && line?.jobs.size === 0,
      send: (text, parameters, outcome) =>
        this.#ask({ text, parameters, outcome }, (job) => {
          if (line !== undefined && isHeld()) this.#run(line, job);
          else refuse(job, errors.databaseUnavailable(`The connection to the database broke; ${outcome}.`));
        }),
      release: () => {
        if (line !== undefined && isHeld()) {
          line.holder = undefined;
          line.state = "idle";
        }
        this.#holders.delete(holder);
        this.#dispatch();
      },
      discard: () => void (line !== undefined && isHeld() && this.#replace(line)),
    };
  }

  readonly #submit = (job: Job): void => {
    if (this.#closed) refuse(job, errors.databaseUnavailable("The service is stopping."));
    else this.#waiting.add(job);
    this.#dispatch();
  };

  #ask(statement: Statement, send: (job: Job) => void): Promise<unknown[]> {
    return ask(statement, { deadlineMs: this.#options.deadlineMs, send, giveUp: this.#giveUp });
  }

  /** What was not sent is forgotten: it must never run after its caller has been told that it failed. */
  readonly #giveUp = (job: Job): void => {
    this.#waiting.delete(job);
    const { sent, outcome } = job;
    job.isGivenUp = true;
    refuse(job, errors.databaseUnavailable(`The database did not answer in time; ${sent ? outcome : undone}.`));
    if (sent === undefined) return;
    // A job that had to wait long may have run for a moment only: its connection is not to blame for that.
    setTimeout(
      () => {
        if (sent.line.jobs.has(job)) this.#replace(sent.line);
      },
      sent.at + job.deadlineMs - performance.now(),
    ).unref();
  };

  /** Gives what waits to the lines that are free, in its order, and opens more while there are not enough. */
  #dispatch(): void {
    if (this.#waiting.size === 0) return;
    let unserved = 0;
    for (const job of this.#waiting) {
      if (job.begins !== undefined && this.#holders.size >= this.#mostHolders) continue;
      const line = unserved > 0 ? undefined : this.#freeLine(job);
      if (line === undefined) {
        if (++unserved === this.#lines.length) break;
        continue;
      }
      this.#waiting.delete(job);
      this.#run(line, job);
    }
    if (unserved === 0) return;
    let needed = unserved - this.#lines.filter(({ state }) => state === "opening").length;
    for (const line of this.#lines) {
      if (needed <= 0) return;
      if (line.state !== "closed") continue;
      needed--;
      void this.#open(line);
    }
  }

  #freeLine({ neverWaits, text }: Job): Line | undefined {
    for (const line of this.#lines) if (line.state === "idle") return line;
    return neverWaits === true ? sharedLine(this.#lines, text) : undefined;
  }

  #run(line: Line, job: Job): void {
    const { begins } = job;
    line.state = "busy";
    line.jobs.add(job);
    job.sent = { line, at: performance.now() };
    if (begins !== undefined) {
      line.holder = begins;
      this.#holders.add(begins);
    }
    send(line, job, this.#options).then(
      (rows) => {
        if (this.#options.prepare) line.prepared.add(job.text);
        // Nobody is there to end what has begun.
        if (job.isGivenUp && begins !== undefined) this.#replace(line);
        // Out of the driver's result: that grows old, and would keep the rows until all of the heap is collected.
        else answer(job, rows.splice(0));
        this.#end(line, job);
      },
      (error: unknown) => {
        if (begins !== undefined && line.holder === begins) line.holder = undefined;
        // It was sent: where the connection broke, nobody knows what came of it.
        refuse(job, isRefusal(error) ? error : translate(error, job.outcome));
        this.#end(line, job);
      },
    );
  }

  /** The job is settled: its line is free for others, unless it broke, or stays with its transaction. */
  #end(line: Line, job: Job): void {
    const { begins } = job;
    if (begins !== undefined && (job.isGivenUp || line.holder !== begins)) this.#holders.delete(begins);
    line.jobs.delete(job);
    if (isBusy(line) && line.jobs.size === 0 && line.holder === undefined) line.state = "idle";
    this.#dispatch();
  }

  /** An answer tells that a connection is fit for use; before that, nothing is sent on anyone's behalf. */
  async #open(line: Line): Promise<void> {
    line.state = "opening";
    const timer = setTimeout(() => this.#replace(line), this.#options.deadlineMs);
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
    for (const job of this.#waiting) refuse(job, error);
    this.#waiting.clear();
  }

  /** A server that is frozen, a network that swallows: the connection itself would take minutes to notice. */
  #replace(line: Line): void {
    const at = this.#lines.indexOf(line);
    if (at < 0 || this.#closed) return;
    this.#lines[at] = newLine(this.#options);
    line.holder = undefined;
    void line.client.end({ timeout: 0 }).catch(() => {});
    this.#dispatch();
  }

  async close(withinMs = 5_000): Promise<void> {
    this.#closed = true;
    this.#refuseAll(errors.databaseUnavailable("The service is stopping."));
    const end = performance.now() + withinMs;
    // Between its statements the driver would take a transaction's connection for a free one.
    await Promise.race([Promise.allSettled(this.#transactions), sleep(withinMs, undefined, { ref: false })]);
    const timeout = Math.max(0, end - performance.now()) / 1000;
    // Only a statement is worth the wait: a line that is being opened has none.
    await Promise.all(this.#lines.map(({ client, state }) => client.end({ timeout: state === "busy" ? timeout : 0 })));
  }
}
