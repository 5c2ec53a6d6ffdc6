/** Which sessions somebody else is changing at the moment, looked at without waiting for it. */

import type { Queries } from "../db/client.ts";
import type { RequestContext } from "./context.ts";

/* The locks that it gets end with it; the others are somebody else's. */
const statement = `
  with asked as materialized (
    select distinct namespace, id from jsonb_to_recordset($1::text::jsonb) as i (namespace text, id uuid)
  ), free as (
    select s.namespace, s.id from asked join sessions s using (namespace, id)
    where s.deleted_at is null
    for no key update of s skip locked
  )
  select s.id from asked join sessions s using (namespace, id)
  where s.deleted_at is null and not exists (select from free f where f.namespace = s.namespace and f.id = s.id)`;

/** @returns for each, in their order, whether somebody else has it locked; not so for one that does not exist */
export async function areLocked(
  database: Queries,
  asked: readonly { readonly context: RequestContext; readonly input: { readonly id: string } }[],
): Promise<readonly boolean[]> {
  const sessions = asked.map(({ context, input }) => ({ namespace: context.namespace, id: input.id }));
  const rows = await database.query<{ id: string }>(statement, [JSON.stringify(sessions)], { neverWaits: true });
  const locked = new Set(rows.map(({ id }) => id));
  return asked.map(({ input }) => locked.has(input.id));
}
