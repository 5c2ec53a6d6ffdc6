/** Several statements that are done together or not at all, one after the other on one connection. */

import { errors } from "../errors.ts";
import { ServiceError } from "../service-error.ts";
import { isUndone, translate } from "./failures.ts";
import type { Statement } from "./line.ts";

type Parameters = Statement["parameters"];

/** A connection that belongs to one transaction, from its `begin` on. */
export interface HeldLine {
  /**
   * Runs a statement, with a deadline.
   *
   * @throws what the driver throws; when there is no answer in time, database_unavailable with the words of `outcome`
   */
  send(statement: string, parameters: Parameters, outcome: string): Promise<unknown[]>;
  /** Whether it is open, and nothing runs on it. */
  isFree(): boolean;
  /** Gives it back to the pool. */
  release(): void;
  /** Closes it: whatever runs on it, the server undoes what was not committed. */
  discard(): void;
}

export const undone = "nothing was changed";
export const inDoubt = "the change may or may not be made";

/**
 * Runs the callback in the transaction that has begun on the line, and commits; rolls back when anything throws, also
 * when the callback made light of it.
 *
 * @param deadlineMs how long the callback may take
 * @throws what the callback or a statement throws; database_unavailable says whether the change may have been made
 */
export async function runTransaction<T>(
  line: HeldLine,
  run: (transaction: Transaction) => Promise<T>,
  deadlineMs: number,
): Promise<T> {
  const transaction = new Transaction(line);
  try {
    const result = await within(deadlineMs, run(transaction));
    await transaction.commit();
    return result;
  } catch (error) {
    await transaction.rollBack();
    throw error;
  } finally {
    line.release();
  }
}

/** What runs statements in the transaction. */
class Transaction {
  readonly #line: HeldLine;
  #last: Promise<unknown> = Promise.resolve();
  #isOver = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(line: HeldLine) {
    this.#line = line;
  }

  query<Row>(statement: string, parameters: Parameters = []): Promise<Row[]> {
    if (this.#isOver) return Promise.reject(new Error("the transaction is over: its statements must be awaited"));
    const rows = this.#last.then(() => this.#send(statement, parameters));
    this.#last = rows.catch(() => {});
    return rows as Promise<Row[]>;
  }

  async #send(statement: string, parameters: Parameters): Promise<unknown[]> {
    // PostgreSQL runs nothing more in a transaction that has met an error.
    if (this.#failure !== undefined) throw this.#failure.error;
    try {
      return await this.#line.send(statement, parameters, undone);
    } catch (error) {
      this.#failure = { error: translate(error, undone) };
      throw this.#failure.error;
    }
  }

  async commit(): Promise<void> {
    this.#isOver = true;
    await this.#last;
    if (this.#failure !== undefined) throw this.#failure.error;
    try {
      await this.#line.send("commit", [], inDoubt);
    } catch (error) {
      if (error instanceof ServiceError || isUndone(error)) throw translate(error);
      throw errors.databaseUnavailable(`The connection to the database broke; ${inDoubt}.`, error);
    }
  }

  /** Its deadline is not waited for by a statement that runs still: the connection goes, and the server rolls back. */
  async rollBack(): Promise<void> {
    this.#isOver = true;
    this.#failure ??= { error: errors.databaseUnavailable(`The transaction was given up; ${undone}.`) };
    if (!this.#line.isFree()) return this.#line.discard();
    await this.#line.send("rollback", [], undone).catch(() => this.#line.discard());
  }
}

/** The callback may go on after its time is up; it does nothing any more. */
async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(errors.databaseUnavailable(`The transaction took too long; ${undone}.`)), ms);
  });
  try {
    return await Promise.race([work, deadline]);
  } finally {
    clearTimeout(timer);
  }
}
