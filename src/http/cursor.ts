/**
 * Cursors of keyset pages: opaque to clients, and safe to receive back altered. A checksum over the place and the
 * filters tells an altered one, or one that is used with other filters, from ours. It is no secret: whoever forges one
 * reads a page that they may read anyway.
 */

import { crc32 } from "node:zlib";
import { errors } from "../errors.ts";
import type { Place, Sort } from "../sessions/find-query.ts";

const instant = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;
const uuid = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;

function checksum(payload: string, filters: string): string {
  return crc32(`${payload}\n${filters}`).toString(36);
}

/**
 * @param parts where the page starts; none holds a `|`
 * @param filters what the page was filtered by, in any form that is the same for the same filters
 */
export function seal(parts: readonly (string | number)[], filters: string): string {
  const payload = parts.join("|");
  return Buffer.from(`${payload}|${checksum(payload, filters)}`).toString("base64url");
}

/**
 * The parts, which may have been made by somebody else: a checksum is no secret.
 *
 * @throws invalid_cursor when it was altered, cut, or made for other filters
 */
export function unseal(cursor: string, filters: string): string[] {
  const text = Buffer.from(cursor, "base64url").toString("utf8");
  const parts = text.split("|");
  const sum = parts.pop();
  const isOurs = sum === checksum(parts.join("|"), filters) && Buffer.from(text).toString("base64url") === cursor;
  if (!isOurs) throw errors.invalidCursor();
  return parts;
}

/** @param filters what the page was filtered and sorted by, in any form that is the same for the same */
export function encodePlace({ key, id }: Place, filters: string): string {
  // What is escaped has no `|`.
  return seal([encodeURIComponent(key ?? "").replaceAll("%3A", ":"), id], filters);
}

/** @throws invalid_cursor when it was altered, cut, or made for other filters */
export function decodePlace(cursor: string, filters: string, sort: Sort): Place {
  const [escaped = "", id = "", ...rest] = unseal(cursor, filters);
  const key = unescaped(escaped);
  const isGood = key !== undefined && (sort.by === "name" || isInstant(key)) && uuid.test(id) && rest.length === 0;
  if (!isGood) throw errors.invalidCursor();
  return { key, id };
}

/** Undefined where it is not as `encodePlace` writes it, or the database could not read it. */
function unescaped(text: string): string | undefined {
  try {
    const read = decodeURIComponent(text);
    return read.includes("\0") ? undefined : read;
  } catch {
    return undefined;
  }
}

/** Whether it is a time that there is, as cursors have it: the database must get no other. */
export function isInstant(text: string): boolean {
  const time = Date.parse(text);
  // JavaScript has a year 0, PostgreSQL has none.
  return (
    instant.test(text) &&
    !text.startsWith("0000") &&
    !Number.isNaN(time) &&
    new Date(time).toISOString().startsWith(text.slice(0, 23))
  );
}
