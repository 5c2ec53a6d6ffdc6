/**
 * The labels of sessions, to be found by: a row for each, written in the statement that writes the session, and always what
 * its details show. These are the parts of the statements that do it.
 */

import { hasTooManyLabels, mergedDocuments } from "./session-merge.ts";

/**
 * The body of a CTE that keeps the labels of new sessions.
 *
 * @param created a relation of them: namespace, id, created_at and details
 */
export function keepLabels(created: string): string {
  return `
    insert into session_labels (namespace, session_id, key, value, created_at)
    select s.namespace, s.id, label.key, label.value, s.created_at
    from ${created} s cross join lateral jsonb_each_text(s.details -> 'labels') label
    where s.details ? 'labels'`;
}

/*
 * What a change finds in the table is as old as its statement, which may have waited for the session since: a label that was
 * written meanwhile is not seen, and can't be deleted. It could be written (ON CONFLICT finds what it does not see). So the
 * keys that go are locked first, and where one is missing nothing is changed: the statement is to be run again.
 */

/**
 * Joined to the locked row `l` and what was made of its details: the keys that go, and whether one of them can't be
 * deleted.
 */
export const labelsLateral = `cross join lateral (
        select gone.labels_gone, (
          select count(*) from (
            select from session_labels
            where namespace = $1 and session_id = l.id and key = any(gone.labels_gone)
            for update
          ) seen
        ) < cardinality(gone.labels_gone) as is_overtaken
        from (
          select array(
            select jsonb_object_keys(l.details -> 'labels')
            except select jsonb_object_keys(${mergedDocuments}.details -> 'labels')
          ) as labels_gone
          offset 0
        ) gone
        offset 0 -- else they are looked for wherever they are named
      ) labels`;

/** Select list over the lateral. */
export const labelsLooked = `labels.labels_gone, labels.is_overtaken,
        ${hasTooManyLabels} as has_too_many_labels`;

/** The outcome of a change that is to be asked for again, as nothing was done. */
export const overtaken = "overtaken";

/** Branches of a CASE over `looked` that give the outcome. */
export const labelsRefused = `when has_too_many_labels then 'too_many_labels' when is_overtaken then '${overtaken}'`;

/** What `changeLabels` needs of a session after the change, `s`, and of what was decided of it, `i`. */
export const labelsColumns = "i.labels_gone, i.l_details -> 'labels' as labels_before";

/**
 * CTEs that delete the labels that went, and write those that came or have another value; the others are not touched. No
 * row is in both.
 *
 * @param changed a relation of the sessions that changed: namespace, id, created_at, details and `labelsColumns`
 * @param among SQL over `l`, a row of session_labels: holds of those of the sessions asked for
 */
export function changeLabels(changed: string, among: string): string {
  return `unlabelled as (
    delete from session_labels l using ${changed} s
    where l.namespace = $1 and ${among} and l.session_id = s.id and l.key = any(s.labels_gone)
  ), labelled as (
    insert into session_labels as l (namespace, session_id, key, value, created_at)
    select s.namespace, s.id, label.key, label.value, s.created_at
    from ${changed} s cross join lateral jsonb_each_text(s.details -> 'labels') label
    where s.labels_before ->> label.key is distinct from label.value
    on conflict (namespace, session_id, key) do update set value = excluded.value
  )`;
}

/** SQL that removes the labels of sessions which are removed themselves, given as a relation of namespace and id. */
export function removeLabels(removed: string): string {
  return `
    delete from session_labels l using ${removed} s where l.namespace = s.namespace and l.session_id = s.id`;
}
