/**
 * How a context is edited: merged into (RFC 7396), patched (RFC 6902), or added to, as what it is by then, under the row's
 * lock. The functions are the database's, from its migrations, so that a large context need not leave it, and no number
 * passes through a double. These are the parts of the statement that does it (see change-statement.ts).
 */

import { heaviestMembers, type MergeRefusal, mergeFailure } from "./session-merge.ts";

/** JSON texts; one of them, as they are applied. */
export type ContextEdit =
  /** A merge patch: an object. */
  | { readonly context_merge: string }
  /** An array of operations, their pointers as arrays of their parts. */
  | { readonly context_operations: string }
  /** An array of `{path, pointer, amount}`: what is added where, the path being the pointer's parts. */
  | { readonly context_amounts: string };

/** Why an operation of a JSON Patch can't be applied. */
export type PatchFlaw =
  | "missing"
  | "missing_from"
  | "no_parent"
  | "bad_index"
  | "into_itself"
  | "too_large"
  | "too_many"
  | "too_deep"
  | "not_an_object";

export type EditRefusal =
  | MergeRefusal
  /** `index` is that of the operation, from 0. */
  | { readonly outcome: "json_patch_failed"; readonly index: number; readonly why: PatchFlaw }
  | { readonly outcome: "json_patch_test_failed"; readonly index: number }
  /** It would have more bytes than it may; its heaviest members, the heaviest first. */
  | {
      readonly outcome: "context_too_large";
      readonly bytes: number;
      readonly limit: number;
      readonly largest: readonly { readonly key: string; readonly bytes: number }[];
    }
  /** The context is too large for so many numbers at once: it takes so many. */
  | { readonly outcome: "too_many_numbers"; readonly most: number }
  /** There is no number at the pointer, or what comes of it has more digits than numbers may have. */
  | { readonly outcome: "not_a_number" | "number_out_of_range"; readonly pointer: string };

/** What the statement says of an edit that failed, read from its JSON text. */
export function editRefusal(failure: string | null | undefined): EditRefusal {
  return JSON.parse(failure ?? "null");
}

/** The alias of what was made of the context. */
export const editedContext = "e";

/** Columns of the input. */
export const editInput =
  "context_merge jsonb, context_operations jsonb, context_amounts jsonb, change_summary text, context_limit bigint";

/** Joined to the input `i` and the locked row `l`; fenced, for else it is made and spelled wherever it is named. */
export const editLateral = `cross join lateral (
        select *, context::text as spelled_context
        from (
          select * from edited_context(l.context, i.context, i.context_merge, i.context_operations, i.context_amounts)
          offset 0
        ) made
        offset 0
      ) ${editedContext}`;

/** Over what was decided, `i`; the members of a context that is too large are weighed for it alone. */
export const editFailure = `case when i.outcome = 'context_too_large' then jsonb_build_object(
      'outcome', i.outcome, 'bytes', i.new_context_bytes, 'limit', i.context_limit,
      'largest', ${heaviestMembers("i.context")})
    ${mergeFailure}
    else i.context_failure end as context_failure`;

/** Select list over the lateral and the input. */
export const editLooked = `${editedContext}.failure as context_failure, i.change_summary, i.context_limit,
        l.context_bytes as from_context_bytes`;

/** Branches of a CASE over `looked` that give the outcome. One that is too large already may become smaller. */
export const editRefused = `when context_failure is not null then context_failure ->> 'outcome'
          when new_context_bytes > context_limit and new_context_bytes > from_context_bytes then 'context_too_large'`;

/** Appended to the SQL of the event's payload, over what was decided, `i`. */
export const editPayload = `
    || case when i.sets_context and i.change_summary is not null
      then jsonb_build_object('change_summary', i.change_summary) else '{}' end`;

/** To write a context anew is work that the edit itself does not show: so many edits, at most, go together. */
const leastBytes = 64 * 1024;

/** Each operation of a patch is such work. */
const aloneBytes = 1024 * 1024;

/** What an edit counts for among the changes that go together, in bytes. */
export function editWeight(edit: ContextEdit | undefined): number {
  if (edit === undefined) return 0;
  if ("context_merge" in edit) return leastBytes + edit.context_merge.length;
  if ("context_amounts" in edit) return leastBytes + edit.context_amounts.length;
  return aloneBytes + edit.context_operations.length;
}
