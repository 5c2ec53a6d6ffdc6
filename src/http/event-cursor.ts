/** Places in the history as clients carry them: a position, and the cursors of pages. */

import { errors } from "../errors.ts";
import type { EventPlace } from "../events/history-statements.ts";
import { isInstant, seal, unseal } from "./cursor.ts";

/** Longer ones no bigint holds. */
const number = /^(0|[1-9]\d{0,17})$/;

/** Whether a text can be the position of an event. */
export function isPosition(text: string): boolean {
  return number.test(text);
}

/**
 * The position that a client took from an event, for `after` and `Last-Event-ID`.
 *
 * @throws invalid_cursor when it is none
 */
export function readPosition(text: string): number {
  if (!isPosition(text)) throw errors.invalidPosition();
  return Number(text);
}

/** @param filters what the page was filtered by, in any form that is the same for the same filters */
export function encodeEventCursor({ at, createdAt }: EventPlace, filters: string): string {
  return seal(createdAt === undefined ? [at] : [at, createdAt], filters);
}

/**
 * @param byTime whether the order is that of time
 * @throws invalid_cursor when it was altered, cut, or made for other filters
 */
export function decodeEventCursor(cursor: string, filters: string, byTime: boolean): EventPlace {
  const [at = "", createdAt, ...rest] = unseal(cursor, filters);
  const isPlace = number.test(at) && Number(at) <= Number.MAX_SAFE_INTEGER && rest.length === 0;
  const hasTime = createdAt !== undefined && isInstant(createdAt);
  if (!isPlace || (byTime ? !hasTime : createdAt !== undefined)) throw errors.invalidCursor();
  return { at: Number(at), createdAt };
}
