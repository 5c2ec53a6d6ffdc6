/** External ids in paths, and what is done while sessions change theirs. */

import { errors } from "../errors.ts";
import type { ServiceError } from "../service-error.ts";
import { isExternalId } from "./schemas/session-fields.ts";

/**
 * How often a session is looked up again, because another request has created, renamed or deleted it since. Each time that
 * other request was done: of a hundred that come at once each has its turn.
 */
export const lookedUpAgain = 100;

/** Told when that was not enough. */
export function becauseItMoved(): ServiceError {
  return errors.databaseUnavailable("Other requests create and delete sessions with this external id all the while.");
}

/**
 * The external id that a path names, to find a session by.
 *
 * @throws {ServiceError} session_not_found when no session can have it
 */
export function readableExternalId(externalId: string): string {
  if (!isExternalId(externalId)) throw errors.sessionNotFound();
  return externalId;
}
