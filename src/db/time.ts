/** Times between the database and the wire, to the microsecond: a JavaScript Date would keep milliseconds. */

/**
 * The SQL that gives a time as the text that `rfc3339` reads. A column that is selected as it is gives the same. (to_char
 * costs ten times as much.)
 */
export function utcText(expression: string): string {
  return `(${expression})::text`;
}

/** RFC 3339 with all six digits and a Z, from what a connection of ours (TimeZone UTC, DateStyle ISO) gives. */
export function rfc3339(utc: string): string {
  // 2026-01-31 09:41:12.654321+00
  if (utc.length === 29) return `${utc.slice(0, 10)}T${utc.slice(11, 26)}Z`;
  // PostgreSQL cuts trailing zeros, and all of a fraction that is none.
  const fraction = utc.length === 22 ? ".000000" : utc.slice(19, -3).padEnd(7, "0");
  return `${utc.slice(0, 10)}T${utc.slice(11, 19)}${fraction}Z`;
}
