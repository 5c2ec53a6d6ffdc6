/** Bodies that edit a context, as the commands take them: JSON text, no digit touched. */

import { errors } from "../errors.ts";
import { escapePointer, isNestedTooDeep, pointerParts } from "../json.ts";
import { nestingLimit } from "../json-scan.ts";
import type { FieldError } from "../service-error.ts";
import type { Texts } from "./session-body.ts";

/**
 * A merge patch (RFC 7396) that leaves a context an object.
 *
 * @param body the parsed body
 * @param texts of its members, as `readJson` gives them
 * @throws validation_failed for anything but an object: it would replace the context whole; nesting_too_deep
 */
export function mergePatchText(body: unknown, texts: Texts): string {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw errors.validationFailed([{ pointer: "", detail: "must be a JSON object: a context stays one" }]);
  }
  const text = `{${[...texts].map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(",")}}`;
  if (isNestedTooDeep(text, 0)) throw errors.nestingTooDeep(nestingLimit);
  return text;
}

/** Each writes the context anew. */
const mostAmounts = 100;

/**
 * What is added where: an array of `{path, pointer, amount}`, the path being the pointer's parts.
 *
 * @param texts of the body's members: amounts by pointer
 * @throws validation_failed, with all that is wrong
 */
export function amountsText(texts: Texts): string {
  if (texts.size > mostAmounts) {
    throw errors.validationFailed([{ pointer: "", detail: `must have at most ${mostAmounts} members` }]);
  }
  const problems: FieldError[] = [];
  const amounts = [...texts].map(([pointer, amount]) => {
    const path = pointerParts(pointer);
    const where = { pointer: `/${escapePointer(pointer)}` };
    if (path === undefined) problems.push({ ...where, detail: "must be under a JSON Pointer (RFC 6901)" });
    if (!/^[-\d]/.test(amount)) problems.push({ ...where, detail: "must be a number" });
    return `${JSON.stringify({ path, pointer }).slice(0, -1)},"amount":${amount}}`;
  });
  if (problems.length > 0) throw errors.validationFailed(problems);
  return `[${amounts.join(",")}]`;
}
