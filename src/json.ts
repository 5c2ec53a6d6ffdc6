/**
 * JSON that keeps what it says. The text of a document travels untouched from the request to the database and back,
 * for a number that has passed through a double is another number. So a body is scanned to be cut into the texts of its
 * members, and what is to be validated of it is parsed: documents, which may be large, are not.
 *
 * Pure.
 */

import { errors } from "./errors.ts";
import { unquote } from "./json-characters.ts";
import type { Flaw, Nested } from "./json-findings.ts";
import { nestingLimit, Scan } from "./json-scan.ts";

export interface JsonBody {
  /** The body as `JSON.parse` gives it: for validation and for short fields, not for documents. */
  readonly value: unknown;
  /**
   * The text of each member of the body, if that is an object; of two members with one key, the last. If it is an array,
   * of each element, under its index; of one that is too long, of the first ones, one more than it may have.
   */
  readonly texts: ReadonlyMap<string, string>;
}

/**
 * Reads the text of a body.
 *
 * @param freeForm keys of the body: what is in an object under one of them is not read, and `value` has `{}` there
 * @param bodies a key of the body with a list of bodies: each is to be read later, by a `readJson` of its own that tells
 * what is wrong with it, and `value` has `[]` there
 * @throws malformed_json, nesting_too_deep, number_out_of_range, unstorable_text (the latter two with a pointer)
 */
export function readJson(text: string, freeForm: ReadonlySet<string> = noKeys, bodies?: string): JsonBody {
  const scanned = new Scan(text, bodies === undefined ? 0 : levelsOfList).run();
  if (scanned.tooDeep) throw errors.nestingTooDeep(nestingLimit);
  const readLater = scanned.nested.filter(({ key, isObject }) => !isObject && key === bodies);
  const large = scanned.nested.filter(
    ({ key, start, end, isObject }) => isObject && end - start > worthLeavingOut && freeForm.has(key),
  );
  const leftOut = [...readLater, ...large].sort((one, other) => one.start - other.start);
  // Of what is not JSON all is parsed, to be told what is wrong with it.
  const value = parse(leftOut.length > 0 && scanned.isJson() ? outline(text, leftOut) : text);
  const told = earlier(flawOutside(readLater, scanned.flaw), scanned.excess);
  if (told !== undefined) {
    const pointer = pointerTo(text, told.offset);
    throw told.what === "a number" ? errors.numberOutOfRange(pointer) : errors.unstorableText(pointer, told.what);
  }
  return { value, texts: scanned.texts };
}

function flawOutside(parts: readonly Nested[], flaw: Flaw | undefined): Flaw | undefined {
  return parts.some(({ start, end }) => flaw && start < flaw.offset && flaw.offset < end) ? undefined : flaw;
}

function earlier(one: Flaw | undefined, other: Flaw | undefined): Flaw | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return one.offset < other.offset ? one : other;
}

const noKeys: ReadonlySet<string> = new Set();

/** Between a body with a list of bodies and the documents of these: the list, and one of them. */
const levelsOfList = 2;

/** So many characters of a document are parsed as soon as left out. */
const worthLeavingOut = 2_000;

/** The text with each of these parts emptied. */
function outline(text: string, parts: readonly Nested[]): string {
  let outlined = "";
  let from = 0;
  for (const { start, end, isObject } of parts) {
    outlined += `${text.slice(from, start)}${isObject ? "{}" : "[]"}`;
    from = end;
  }
  return outlined + text.slice(from);
}

/** The text of each member or element, as `readJson` gives it, of a text that is a part of what that has read. */
export function textsWithin(text: string): ReadonlyMap<string, string> {
  return new Scan(text).run().texts;
}

function parse(text: string): unknown {
  if (text.trim() === "") throw errors.malformedJson("The body is empty; send a JSON object.");
  try {
    return JSON.parse(text);
  } catch (error) {
    throw errors.malformedJson(
      `The body is not JSON: ${error instanceof Error ? error.message : "it can't be parsed"}.`,
    );
  }
}

/** The RFC 6901 pointer to the value (or to the member, when it is in a key) that stands at an offset of a JSON text. */
function pointerTo(text: string, offset: number): string {
  const path: (string | number)[] = [];
  let expectsKey = false;
  for (let i = 0; i < offset; i++) {
    const char = text[i];
    if (char === '"') {
      let end = i + 1;
      while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
      const isKey = expectsKey && typeof path.at(-1) === "string";
      if (isKey) path[path.length - 1] = end < offset ? (unquote(text.slice(i, end + 1)) ?? "") : keyUpTo(text, i, end);
      expectsKey = false;
      i = end;
    } else if (char === "{" || char === "[") {
      path.push(char === "{" ? "" : 0);
      expectsKey = char === "{";
    } else if (char === "}" || char === "]") {
      path.pop();
    } else if (char === ",") {
      const last = path.at(-1);
      if (typeof last === "number") path[path.length - 1] = last + 1;
      expectsKey = typeof last === "string";
    }
  }
  return path.map((part) => `/${escapePointer(String(part))}`).join("");
}

/** A key that holds the flaw itself is named with what can't be stored shown as U+FFFD. */
function keyUpTo(text: string, start: number, end: number): string {
  return (unquote(text.slice(start, end + 1)) ?? "").replaceAll("\u0000", "\ufffd").toWellFormed();
}

/** Escapes one part of an RFC 6901 pointer. */
export function escapePointer(part: string): string {
  return part.replaceAll("~", "~0").replaceAll("/", "~1");
}

/** The parts of an RFC 6901 pointer; undefined when it is none. */
export function pointerParts(pointer: string): string[] | undefined {
  if (pointer === "") return [];
  if (!pointer.startsWith("/") || /~(?![01])/.test(pointer)) return undefined;
  const parts = pointer.slice(1).split("/", nestingLimit + 1);
  // Nothing lies as deep, and to look for it takes its time.
  if (parts.length > nestingLimit) return undefined;
  return parts.map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/**
 * Whether a document with this value in it would be nested deeper than documents may be.
 *
 * @param text of the value, as `readJson` has let it through
 * @param level how many values it is within
 */
export function isNestedTooDeep(text: string, level: number): boolean {
  // A body may be one level deeper than its documents.
  const around = level + 1;
  return new Scan(`${'{"":'.repeat(around)}${text}${"}".repeat(around)}`).run().tooDeep;
}
