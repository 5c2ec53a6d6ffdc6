/** Times as text. */

/** RFC 3339 in UTC with all six digits: what `::text` would shorten, and shift to the connection's time zone. */
export function timeText(expression: string): string {
  return `to_char(${expression} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
}
