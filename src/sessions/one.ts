/**
 * What the statements for one session share: it is named by a parameter, in place of a set of inputs, which costs a sixth
 * less. They wait for nobody, and do nothing where there is more to say than that it was done: the statements for several
 * sessions, which look first and tell what they found, say it.
 */

import type { Assignments } from "./transition.ts";

/**
 * SQL over `s`, a row of sessions: whether it is the one of the namespace `$1` and the id `$2`, which is then locked. Not
 * where somebody else has locked it, and not where it was deleted.
 */
export const isTheOne = `s.namespace = $1 and s.id = (
      select id from sessions where namespace = $1 and id = $2::text::uuid and deleted_at is null
      for no key update skip locked)`;

/** SQL over `i`, what is asked for, and `s`: whether who names the token of a lease has that. */
export const hasLease = "(i.lease_token is null or s.lease_owner is not null and s.lease_token = i.lease_token)";

/**
 * The SET list of what is done at one time.
 *
 * @param now SQL over `s` of that time, worked out once
 * @param assignments what is set, given the SQL of the time
 */
export function setAt(now: string, assignments: (now: string) => Assignments): string {
  const set = assignments("t.now");
  return `(${Object.keys(set).join(", ")}) = (
        select ${Object.values(set).join(", ")} from (select ${now} as now offset 0) t)`;
}
