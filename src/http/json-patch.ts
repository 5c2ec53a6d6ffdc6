/** JSON Patch (RFC 6902) as a body says it, read without a digit of its values being touched. */

import { errors } from "../errors.ts";
import { escapePointer, isNestedTooDeep, pointerParts, textsWithin } from "../json.ts";
import { longestArray, nestingLimit } from "../json-scan.ts";
import type { FieldError, ServiceError } from "../service-error.ts";
import type { EditRefusal, PatchFlaw } from "../sessions/context-edit.ts";
import { jsonPatchVerbs } from "./schemas/context.ts";

type Verb = (typeof jsonPatchVerbs)[number];

const takesValue: readonly unknown[] = ["add", "replace", "test"] satisfies Verb[];
const takesFrom: readonly unknown[] = ["move", "copy"] satisfies Verb[];

/**
 * The operations as the command takes them: JSON text, with each pointer as the array of its parts.
 *
 * @param body the parsed body
 * @param texts of its elements, as `readJson` gives them
 * @throws validation_failed, with all that is wrong; nesting_too_deep
 */
export function jsonPatchText(body: unknown, texts: ReadonlyMap<string, string>): string {
  if (!Array.isArray(body)) {
    throw errors.validationFailed([{ pointer: "", detail: "must be an array of operations" }]);
  }
  if (body.length > longestArray) {
    throw errors.validationFailed([{ pointer: "", detail: `must have at most ${longestArray} elements` }]);
  }
  const problems = body.flatMap((operation, at) => problemsOf(operation, `/${at}`));
  if (problems.length > 0) throw errors.validationFailed(problems);
  return `[${body.map((operation, at) => operationText(operation, texts.get(String(at)) ?? "")).join(",")}]`;
}

interface Operation {
  readonly op?: unknown;
  readonly path?: unknown;
  readonly from?: unknown;
}

function problemsOf(operation: unknown, pointer: string): FieldError[] {
  if (typeof operation !== "object" || operation === null || Array.isArray(operation)) {
    return [{ pointer, detail: "must be an operation: a JSON object" }];
  }
  const { op, path, from }: Operation = operation;
  const problems: FieldError[] = [];
  if (!jsonPatchVerbs.some((verb) => verb === op)) {
    problems.push({ pointer: `${pointer}/op`, detail: `must be one of ${jsonPatchVerbs.join(", ")}` });
  }
  if (!isPointer(path)) problems.push({ pointer: `${pointer}/path`, detail: "must be a JSON Pointer (RFC 6901)" });
  if (takesFrom.includes(op) && !isPointer(from)) {
    problems.push({ pointer: `${pointer}/from`, detail: "must be a JSON Pointer (RFC 6901)" });
  }
  if (takesValue.includes(op) && !Object.hasOwn(operation, "value")) {
    problems.push({ pointer: `${pointer}/value`, detail: "is required: any JSON" });
  }
  return problems;
}

function isPointer(text: unknown): boolean {
  return typeof text === "string" && pointerParts(text) !== undefined;
}

function operationText({ op, path, from }: Operation, text: string): string {
  const parts = pointerParts(String(path)) ?? [];
  const value = takesValue.includes(op) ? textsWithin(text).get("value") : undefined;
  if (value !== undefined && isNestedTooDeep(value, parts.length)) throw errors.nestingTooDeep(nestingLimit);
  const source = takesFrom.includes(op) ? pointerParts(String(from)) : undefined;
  const named = JSON.stringify({ op, path: parts, from: source });
  return value === undefined ? named : `${named.slice(0, -1)},"value":${value}}`;
}

const flaws: Readonly<Record<PatchFlaw, string>> = {
  missing: "the context has nothing at its path",
  missing_from: "the context has nothing at its from",
  no_parent: "the context has nothing at its path to add to",
  bad_index: "the array there has no such place: an index is 0, 1, …, its length at most, or -",
  into_itself: "a value can't be moved into itself",
  too_large: "the patch copies more than 8 MiB",
  too_many: "the context is too large for so many operations at once: send those from this one on for themselves",
  too_deep: `would nest the context more than ${nestingLimit} levels deep`,
  not_an_object: "the context would be no JSON object after it",
};

/** What an edit that could not be made is answered with. */
export function contextProblem(refusal: EditRefusal): ServiceError {
  switch (refusal.outcome) {
    case "json_patch_failed":
      return errors.jsonPatchFailed(refusal.index, flaws[refusal.why]);
    case "json_patch_test_failed":
      return errors.jsonPatchTestFailed(refusal.index);
    case "context_too_large":
      return errors.documentTooLarge("context", refusal);
    case "document_too_large":
      return errors.documentTooLarge(refusal.document, refusal);
    case "too_many_numbers":
      return errors.validationFailed([
        {
          pointer: "",
          detail: `must have at most ${refusal.most} members for a context of that size: send the others by themselves`,
        },
      ]);
    case "not_a_number":
      return errors.notANumber(refusal.pointer);
    case "number_out_of_range":
      return errors.numberOutOfRange(`/${escapePointer(refusal.pointer)}`);
  }
}
