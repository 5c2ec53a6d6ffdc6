/** How an event is written: in the statement that makes the change, from the rows that it changed. */

/**
 * The body of a CTE that appends one event for each row of `from`.
 *
 * @param from a FROM clause that gives `s` (the session after the change: namespace, id, its `last_sequence` counted on,
 * version, and `changed_at`) and `i` (with `event_id` and `metadata`)
 * @param type the SQL of the event's type
 * @param payload the SQL of the event's payload, a jsonb object
 * @param input where `i` has another name
 */
export function appendEvents(from: string, type: string, payload: string, input = "i"): string {
  return `
    insert into events (event_id, namespace, session_id, sequence, session_version, event_type, payload, metadata,
                        created_at)
    select ${input}.event_id, s.namespace, s.id, s.last_sequence, s.version, ${type}, ${payload}, ${input}.metadata, s.changed_at
    from ${from}`;
}
