/** What goes wrong with a database, told apart by what a client or an operator should do about it. */

import { errors } from "../errors.ts";
import { ServiceError } from "../service-error.ts";

function codeOf(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
}

/** An error that PostgreSQL itself answered with: it has undone the statement whole. */
export function isRefusal(error: unknown): boolean {
  return error instanceof Error && error.name === "PostgresError";
}

/** Whether a statement was refused because a row would have had in a unique index what another has there. */
export function isDuplicate(error: unknown, index: string): boolean {
  return (
    isRefusal(error) && codeOf(error) === "23505" && (error as { constraint_name?: unknown }).constraint_name === index
  );
}

/**
 * What a row would have had in a unique index, in the last of its columns, that another has there; undefined where the
 * statement was refused for another reason.
 */
export function duplicateOf(error: unknown, index: string): string | undefined {
  if (!isDuplicate(error, index)) return undefined;
  const { detail } = error as { detail?: unknown };
  return /^Key \(.*?\)=\(.*?, (.*)\) already exists\.$/s.exec(String(detail))?.[1] ?? "";
}

/** An error after which the connection goes on. What ends it may come when the statement, or the commit, is done. */
export function isUndone(error: unknown): boolean {
  return isRefusal(error) && (error as { severity?: unknown }).severity !== "FATAL";
}

/** Serialization failures and deadlocks: the database has undone the statement, and running it again is safe. */
export function isRolledBackByContention(error: unknown): boolean {
  return ["40001", "40P01"].includes(codeOf(error));
}

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

/**
 * The error that a caller of the database is told of; what is not the database's trouble is passed on as it is.
 *
 * @param outcome what is known of the change when the connection broke
 */
export function translate(error: unknown, outcome?: string): unknown {
  if (error instanceof ServiceError) return error;
  // Not PostgreSQL's word: the connection's, the driver's. What was sent may have been done.
  if (!isRefusal(error)) {
    const known = outcome === undefined ? "" : `; ${outcome}`;
    return errors.databaseUnavailable(`The connection to the database broke${known}.`, error);
  }
  const code = codeOf(error);
  if (["42P01", "42703", "3F000"].includes(code)) return errors.schemaOutdated(error);
  const known = passing.find(([prefix]) => code.startsWith(prefix));
  return known === undefined ? error : errors.databaseUnavailable(known[1], error);
}
