/**
 * How the rest of a session is merged into (RFC 7396), beside its context: its checkpoint, its metadata, its details and
 * what came of the work, as what they are by then, under the row's lock. These are the parts of the statement that does it
 * (see change-statement.ts).
 */

import { type DetailName, mostNames } from "./fields.ts";

/** Details that a merge can make as large as it likes; the others are replaced, or bounded by their schema. */
const growing = ["resources", "guardrails", "metadata"] as const satisfies readonly DetailName[];

/** What merges, sent again and again, could make ever larger. */
export type MergedDocument = "checkpoint" | "runtime_metadata" | "result" | (typeof growing)[number];

/** It would have more bytes than it may; its heaviest members, the heaviest first. */
export interface MergeRefusal {
  readonly outcome: "document_too_large";
  readonly document: MergedDocument;
  readonly bytes: number;
  readonly limit: number;
  readonly largest: readonly { readonly key: string; readonly bytes: number }[];
}

/** The alias of what was made of these. */
export const mergedDocuments = "m";

/** Columns of the input. */
export const mergeInput = "merges boolean, checkpoint_limit bigint, member_limit bigint";

const merged = (name: string) =>
  `case when i.merges then merge_patch(l.${name}, i.${name}) else i.${name} end as ${name}`;

const grows = (name: string, bytes: string, before: string, limit: string) =>
  `when ${bytes} > i.${limit} and ${bytes} > coalesce(${before}, 0) then '${name}'`;

/** What is no object is not merged, and has been weighed as it came. */
const objectGrows = (name: string, after: string, before: string) =>
  grows(
    name,
    `case when jsonb_typeof(${after}) = 'object' then octet_length(${after}::text) end`,
    `octet_length(${before}::text)`,
    "member_limit",
  );

/** One that is too large already may become smaller, or stay as it is. */
const tooLarge = `case
          when i.merges is not true then null
          ${[
            grows("checkpoint", "octet_length(spelled_checkpoint)", "l.checkpoint_bytes", "checkpoint_limit"),
            grows(
              "runtime_metadata",
              "octet_length(spelled_runtime_metadata)",
              "l.runtime_metadata_bytes",
              "member_limit",
            ),
            objectGrows("result", "spelled.result", "l.result"),
            ...growing.map((name) => objectGrows(name, `(details -> '${name}')`, `(l.details -> '${name}')`)),
          ].join("\n          ")}
        end`;

/**
 * Joined to the input `i` and the locked row `l`; fenced, for else it is made and spelled wherever it is named.
 *
 * @param replaced SQL of the details of a change that does not merge
 */
export function mergeLateral(replaced: string): string {
  return `cross join lateral (
        select *, ${tooLarge} as too_large
        from (
          select *, checkpoint::text as spelled_checkpoint, runtime_metadata::text as spelled_runtime_metadata
          from (
            select ${["checkpoint", "runtime_metadata", "error", "result"].map(merged).join(",\n              ")},
              case when i.merges and i.details is not null
                then nullif(merge_patch(coalesce(l.details, '{}'), i.details), '{}') else ${replaced} end as details
            offset 0
          ) made
          offset 0
        ) spelled
        offset 0
      ) ${mergedDocuments}`;
}

/** Select list over the lateral and the input. */
export const mergeLooked = `${mergedDocuments}.too_large, i.checkpoint_limit, i.member_limit`;

/** A branch of a CASE over `looked` that gives the outcome. */
export const mergeRefused = "when too_large is not null then 'document_too_large'";

/** SQL of the members of an object that have the most bytes. */
export function heaviestMembers(object: string): string {
  return `(
        select jsonb_agg(heaviest) from (
          select left(key, 100) as key, octet_length(value::text) as bytes from jsonb_each(${object})
          order by bytes desc, key
          limit 3
        ) heaviest)`;
}

/** Over what was decided, `i`; the members of what is too large are weighed for it alone. */
export const mergeFailure = `when i.outcome = 'document_too_large' then (
      select jsonb_build_object(
        'outcome', i.outcome, 'document', i.too_large, 'bytes', octet_length(large.document::text),
        'limit', case i.too_large when 'checkpoint' then i.checkpoint_limit else i.member_limit end,
        'largest', ${heaviestMembers("large.document")})
      from (
        select case i.too_large when 'checkpoint' then i.checkpoint when 'runtime_metadata' then i.runtime_metadata
          when 'result' then i.new_result else i.new_details -> i.too_large end as document
        offset 0
      ) large)`;

/** SQL over the lateral and the input: whether a merge makes more labels than there may be. */
export const hasTooManyLabels = `(i.merges and (
          select count(*) from jsonb_object_keys(${mergedDocuments}.details -> 'labels')
        ) > ${mostNames}) is true`;

/** What is merged into is written anew, which the merge itself does not show: for so many bytes it counts. */
export const mergeWeight = 64 * 1024;
