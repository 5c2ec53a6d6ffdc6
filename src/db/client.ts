/**
 * The connection to PostgreSQL: prepared statements over a pool, each with a deadline, and failures told apart by what
 * a client should do about them.
 */

import postgres from "postgres";
import { errors, ServiceError } from "../errors.ts";

export type Parameter = string | number | boolean | null;

export interface Database {
  /**
   * Runs one statement and gives its rows. The statement is prepared once a connection, so its text must be constant.
   *
   * @throws {ServiceError} database_unavailable when there is no answer in time or no connection, schema_outdated when
   * a table or column is missing
   */
  query<Row>(statement: string, parameters?: readonly Parameter[]): Promise<Row[]>;
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

/** How often a statement is run again that the database rolled back to end a deadlock. */
const deadlockRetries = 3;

/** Opens the pool. Connections are made when they are needed: a database that is away is no error here. */
export function openDatabase(options: DatabaseOptions): Database {
  return new Pool(options);
}

/**
 * A statement that waits for a row's lock must not hold up others behind it on its connection; and no new statement
 * shall go to a connection that is just breaking. The driver takes the option, its types don't know it.
 */
const unpipelined: object = { max_pipeline: 0 };

class Pool implements Database {
  readonly #options: DatabaseOptions;
  readonly #deadlineMs: number;
  #client: postgres.Sql;
  #overdue = 0;
  #closed = false;

  constructor(options: DatabaseOptions) {
    this.#options = options;
    this.#deadlineMs = options.deadlineMs ?? defaultDeadlineMs;
    this.#client = this.#connect();
  }

  #connect(): postgres.Sql {
    const { url, poolSize, prepare } = this.#options;
    return postgres(url, {
      max: poolSize,
      prepare,
      ...unpipelined,
      // The driver's own back-off is shared by the pool, grows to 20 s, and outlasts the database's return.
      backoff: () => 0.1,
      connect_timeout: Math.max(1, Math.floor(this.#deadlineMs / 1000)),
      // Every column is asked for as text, number or boolean: no types need to be fetched before the first statement.
      fetch_types: false,
      onnotice: () => {},
      connection: {
        application_name: "session-service",
        // The server gives a statement up a little before its caller does. A pooler would refuse the parameter.
        ...(prepare ? { statement_timeout: this.#deadlineMs - 100 } : {}),
      },
    });
  }

  async query<Row>(statement: string, parameters: readonly Parameter[] = []): Promise<Row[]> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#once<Row>(statement, parameters);
      } catch (error) {
        if (isRolledBackByContention(error) && tries < deadlockRetries) continue;
        throw translate(error);
      }
    }
  }

  async #once<Row>(statement: string, parameters: readonly Parameter[]): Promise<Row[]> {
    const client = this.#client;
    const running = client.unsafe(statement, [...parameters], { prepare: this.#options.prepare });
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.#giveUp(client, running);
        reject(errors.databaseUnavailable("The database did not answer in time; the change may or may not be made."));
      }, this.#deadlineMs);
    });
    try {
      return (await Promise.race([running, deadline])) as unknown as Row[];
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * A statement that has not been sent yet must never run after its caller has been told that it failed; one that
   * has been sent is cancelled. When every connection hangs (a server that is frozen, a network that swallows), new ones
   * are made: waiting for the old ones to notice takes minutes.
   */
  #giveUp(client: postgres.Sql, running: PromiseLike<unknown> & { cancel(): void }): void {
    this.#overdue++;
    const settled = () => {
      this.#overdue--;
    };
    running.then(settled, settled);
    try {
      running.cancel();
    } catch {
      // It was settled a moment ago.
    }
    if (this.#overdue >= this.#options.poolSize && client === this.#client && !this.#closed) {
      this.#client = this.#connect();
      void client.end({ timeout: 0 }).catch(() => {});
    }
  }

  async close(withinMs = 5_000): Promise<void> {
    this.#closed = true;
    await this.#client.end({ timeout: withinMs / 1000 });
  }
}

function codeOf(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
}

/** Serialization failures and deadlocks: the database has undone the statement, and running it again is safe. */
function isRolledBackByContention(error: unknown): boolean {
  return ["40001", "40P01"].includes(codeOf(error));
}

const connectionCodes = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOENT",
]);

/** The SQLSTATEs, or their first characters, that an operator or time will mend, with what the operator should know. */
const passing: readonly (readonly [prefix: string, why: string])[] = [
  ["53100", "The database's disk is full."],
  ["53300", "The database takes no more connections."],
  ["53", "The database is short of resources."],
  ["55000", "The database takes no connections at present."],
  ["57014", "The database did not finish in time."],
  ["57P", "The database is shutting down or starting."],
  ["08", "The connection to the database broke."],
  ["25006", "The database is read-only."],
  ["28", "The database refuses the service's credentials."],
  ["42501", "The database does not let the service's user do this."],
  ["3D000", "The database that DATABASE_URL names does not exist."],
  ["40", "Too many changes of the same rows at once."],
  ["58", "The database met an error of its disk."],
];

function translate(error: unknown): unknown {
  if (error instanceof ServiceError) return error;
  const code = codeOf(error);
  if (connectionCodes.has(code)) return errors.databaseUnavailable("The database can't be reached.", error);
  if (["42P01", "42703", "3F000"].includes(code)) return errors.schemaOutdated(error);
  const known = passing.find(([prefix]) => code.startsWith(prefix));
  return known === undefined ? error : errors.databaseUnavailable(known[1], error);
}
