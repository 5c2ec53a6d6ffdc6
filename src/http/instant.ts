/** Reading times that clients write. */

/** RFC 3339. A plus sign that was not escaped in a query has become a space. */
const written = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([-+ ])(\d\d):(\d\d))$/;

/**
 * A time as RFC 3339 has it, with any offset: the same in UTC, with microseconds and a Z, so that two of them compare as
 * texts do. Undefined when it is none, or not one of the years 1 to 9999.
 */
export function readInstant(text: string): string | undefined {
  const [, date, time, fraction = "", sign, hours = "0", minutes = "0"] = written.exec(text) ?? [];
  const local = Date.parse(`${date}T${time}Z`);
  // JavaScript makes March of February 31.
  if (Number.isNaN(local) || !new Date(local).toISOString().startsWith(`${date}T${time}`)) return undefined;
  if (Number(hours) > 23 || Number(minutes) > 59) return undefined;
  const offset = (Number(hours) * 60 + Number(minutes)) * 60_000;
  const utc = new Date(local - (sign === "-" ? -offset : offset)).toISOString();
  if (!/^\d{4}-/.test(utc) || utc.startsWith("0000")) return undefined;
  return `${utc.slice(0, 19)}.${fraction.slice(0, 6).padEnd(6, "0")}Z`;
}
