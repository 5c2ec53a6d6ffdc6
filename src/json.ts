/**
 * JSON that keeps what it says. The text of a document travels untouched from the request to the database and back,
 * for a number that has passed through a double is another number. So a body is parsed to be validated, and scanned to
 * be cut into the texts of its members; the scan also finds what PostgreSQL's jsonb can't hold.
 *
 * Pure. The grammar is RFC 8259's, as `JSON.parse` enforces it; the scan relies on that having been done.
 */

import { errors } from "./errors.ts";

/** How deep a document (context, checkpoint, payload, …) may be nested. A body is deeper by what stands around it. */
export const nestingLimit = 128;

/** No list in a body may be longer. */
export const longestArray = 1_000;

/** How many digits a number may have when it is written out: 1e131071 would come back as 131 KB. */
const digitLimit = 400;

/** How many digits all numbers with an exponent may have together: 1e399 is 5 bytes of a body and 400 of an answer. */
const expandedLimit = 1_000_000;

export interface JsonBody {
  /** The body as `JSON.parse` gives it: for validation and for short fields, not for documents. */
  readonly value: unknown;
  /**
   * The text of each member of the body, if that is an object; of two members with one key, the last. If it is an array,
   * of each element, under its index; of one that is too long, of the first ones.
   */
  readonly texts: ReadonlyMap<string, string>;
}

/**
 * Reads the text of a body.
 *
 * @throws malformed_json, nesting_too_deep, number_out_of_range, unstorable_text (the latter two with a pointer)
 */
export function readJson(text: string): JsonBody {
  const scanned = new Scan(text).run();
  if (scanned.tooDeep) throw errors.nestingTooDeep(nestingLimit);
  const value = parse(text);
  if (scanned.flaw !== undefined) {
    const pointer = pointerTo(text, scanned.flaw.offset);
    throw scanned.flaw.what === "a number"
      ? errors.numberOutOfRange(pointer)
      : errors.unstorableText(pointer, scanned.flaw.what);
  }
  return { value, texts: scanned.texts };
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

type Flaw = { readonly offset: number; readonly what: "a number" | "a NUL character" | "a lone surrogate" };

const quote = 0x22;
const comma = 0x2c;
const minus = 0x2d;
const colon = 0x3a;
const backslash = 0x5c;

/**
 * One pass over the text, by character codes. On a text that is not JSON it may report anything, but it ends and does
 * not throw.
 */
class Scan {
  readonly texts = new Map<string, string>();
  tooDeep = false;
  flaw: Flaw | undefined;

  readonly #text: string;
  readonly #isObject: boolean;
  readonly #isArray: boolean;
  #depth = 0;
  #expanded = 0;
  #nextBackslash: number;
  #key: string | undefined;
  #valueStart = -1;

  constructor(text: string) {
    this.#text = text;
    this.#isObject = /^\s*\{/.test(text);
    this.#isArray = /^\s*\[/.test(text);
    this.#nextBackslash = text.indexOf("\\");
  }

  run(): this {
    const text = this.#text;
    const isObject = this.#isObject;
    // An element of an array is as a body of its own.
    const deepest = nestingLimit + (this.#isArray ? 2 : 1);
    for (let i = 0; i < text.length && !this.tooDeep; i++) {
      const code = text.charCodeAt(i);
      if (code === quote) {
        const end = this.#stringEnd(i);
        if (this.#depth === 1 && isObject && this.#valueStart < 0) this.#key = unquote(text.slice(i, end + 1));
        i = end;
      } else if (code === 0x7b || code === 0x5b) {
        this.#depth++;
        if (this.#depth > deepest) this.tooDeep = true;
        if (this.#depth === 1 && this.#isArray) this.#valueStart = i + 1;
      } else if (code === 0x7d || code === 0x5d) {
        this.#depth--;
        if (this.#depth === 0) this.#endMember(i);
      } else if (code === minus || (code >= 0x30 && code <= 0x39)) {
        i = this.#numberEnd(i);
      } else if (this.#depth === 1) {
        if (code === colon && isObject) this.#valueStart = i + 1;
        else if (code === comma) this.#endMember(i);
      }
    }
    return this;
  }

  #endMember(end: number): void {
    if (this.#isArray) this.#endElement(end);
    else if (this.#key !== undefined && this.#valueStart >= 0) {
      this.texts.set(this.#key, this.#text.slice(this.#valueStart, end).trim());
    }
    this.#key = undefined;
    this.#valueStart = this.#isArray ? end + 1 : -1;
  }

  #endElement(end: number): void {
    const index = this.texts.size;
    if (index === longestArray) return;
    const text = this.#text.slice(this.#valueStart, end).trim();
    // Between the brackets of an empty array there is none.
    if (text !== "") this.texts.set(String(index), text);
  }

  /** The offset of the quote that ends the string which starts at `start`. */
  #stringEnd(start: number): number {
    const text = this.#text;
    const close = text.indexOf('"', start + 1);
    if (close < 0) return text.length;
    if (this.#nextBackslash >= 0 && this.#nextBackslash < start) {
      this.#nextBackslash = text.indexOf("\\", start);
    }
    if (this.#nextBackslash < 0 || this.#nextBackslash > close) return close;
    for (let i = this.#nextBackslash; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code === quote) return i;
      if (code === backslash) i = this.#escapeEnd(i);
    }
    return text.length;
  }

  /** The offset of the last character of the escape that starts at `start`; a surrogate pair counts as one escape. */
  #escapeEnd(start: number): number {
    const text = this.#text;
    if (text.charCodeAt(start + 1) !== 0x75) return start + 1;
    const unit = codeUnit(text, start);
    if (unit === 0) this.#report(start, "a NUL character");
    if (unit >= 0xdc00 && unit <= 0xdfff) this.#report(start, "a lone surrogate");
    if (unit < 0xd800 || unit > 0xdbff) return start + 5;
    const low = text.startsWith("\\u", start + 6) ? codeUnit(text, start + 6) : -1;
    if (low >= 0xdc00 && low <= 0xdfff) return start + 11;
    this.#report(start, "a lone surrogate");
    return start + 5;
  }

  /** The offset of the last character of the number that starts at `start`. */
  #numberEnd(start: number): number {
    const text = this.#text;
    let end = start + 1;
    let exponent = false;
    for (; end < text.length; end++) {
      const code = text.charCodeAt(end);
      if (code === 0x65 || code === 0x45) exponent = true;
      else if ((code < 0x30 || code > 0x39) && code !== 0x2e && code !== 0x2b && code !== minus) break;
    }
    if (exponent || end - start > digitLimit) {
      const digits = digitsOf(text.slice(start, end));
      if (exponent) this.#expanded += digits;
      if (digits > digitLimit || this.#expanded > expandedLimit) this.#report(start, "a number");
    }
    return end - 1;
  }

  #report(offset: number, what: Flaw["what"]): void {
    this.flaw ??= { offset, what };
  }
}

function unquote(text: string): string | undefined {
  if (!text.includes("\\")) return text.slice(1, -1);
  try {
    return JSON.parse(text) as string;
  } catch {
    return undefined;
  }
}

/** The code unit of the escape `\uXXXX` at `offset`; NaN when it is none. */
function codeUnit(text: string, offset: number): number {
  return Number(`0x${text.slice(offset + 2, offset + 6)}`);
}

/** How many digits a JSON number has when it is written without an exponent. */
function digitsOf(number: string): number {
  const [, whole = "", fraction = "", exponentText = "0"] = /^-?(\d*)\.?(\d*)(?:[eE]([+-]?\d+))?/.exec(number) ?? [];
  const exponent = Number(exponentText);
  return Math.max(whole.length + exponent, 1) + Math.max(fraction.length - exponent, 0);
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
