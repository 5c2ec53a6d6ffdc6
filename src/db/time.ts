/** Times between the database and the wire, to the microsecond: a JavaScript Date would keep milliseconds. */

/** The SQL that gives a time as text in UTC; `rfc3339` makes of it what clients see. (to_char costs six times as much.) */
export function utcText(expression: string): string {
  return `(${expression} at time zone 'UTC')::text`;
}

/** RFC 3339 with all six digits and a Z, from what `utcText` gave: PostgreSQL cuts trailing zeros. */
export function rfc3339(utc: string): string {
  const fraction = utc.length === 19 ? ".000000" : utc.slice(19).padEnd(7, "0");
  return `${utc.slice(0, 10)}T${utc.slice(11, 19)}${fraction}Z`;
}
