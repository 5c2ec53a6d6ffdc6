/** Places in the history as clients carry them: a position, and the cursors of pages. */

import { errors } from "../errors.ts";
import type { EventPlace, TimePlace } from "../events/history-query.ts";
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
export function encodeEventCursor({ at, time }: EventPlace, filters: string): string {
  return seal(time === undefined ? [at] : [at, time.createdAt, time.upTo], filters);
}

/**
 * @param byTime whether the order is that of time
 * @throws invalid_cursor when it was altered, cut, or made for other filters
 */
export function decodeEventCursor(cursor: string, filters: string, byTime: boolean): EventPlace {
  const [at = "", ...rest] = unseal(cursor, filters);
  const time = byTime ? readTimePlace(rest) : undefined;
  if (!isExact(at) || (byTime ? time === undefined : rest.length > 0)) throw errors.invalidCursor();
  return { at: Number(at), time };
}

function readTimePlace([createdAt = "", upTo = "", ...rest]: readonly string[]): TimePlace | undefined {
  return isInstant(createdAt) && isExact(upTo) && rest.length === 0 ? { createdAt, upTo: Number(upTo) } : undefined;
}

/** A number of ours is one that a double holds exactly. */
function isExact(text: string): boolean {
  return isPosition(text) && Number(text) <= Number.MAX_SAFE_INTEGER;
}
