/**
 * One pass over a JSON text, by character codes: whether it is JSON at all, where its members lie, how deep it is nested,
 * and what PostgreSQL's jsonb can't hold. It builds nothing, so it takes a fraction of what `JSON.parse` does. Pure. The
 * grammar is RFC 8259's, as `JSON.parse` enforces it.
 */

import {
  backslash,
  breaks,
  closeBrace,
  closeBracket,
  codeUnit,
  colon,
  comma,
  controls,
  digitsEnd,
  isShortEscape,
  manyNumbers,
  minus,
  nextOf,
  nine,
  numberOf,
  openBrace,
  openBracket,
  plus,
  point,
  quote,
  unquote,
  words,
  zero,
} from "./json-characters.ts";
import { digitLimit, expandedLimit, type Flaw, type Nested } from "./json-findings.ts";

/** How deep a document (context, checkpoint, payload, …) may be nested. A body is deeper by what stands around it. */
export const nestingLimit = 128;

/** No list in a body may be longer. */
export const longestArray = 1_000;

/** What may come next. The first two take a value. */
const value = 0;
const valueOrEnd = 1;
const key = 2;
const keyOrEnd = 3;
const aColon = 4;
const commaOrEnd = 5;

/** After so many numbers in a row more are expected: to look for them all at once is dear when there are none. */
const inARow = 8;

/** How many characters after an escape the next one is looked for by looking at each. */
const closeBy = 16;

/** On a text that is not JSON it says so; whatever else it reports of that means nothing. It ends and does not throw. */
export class Scan {
  /** The text of each member, or of each element under its index: see `readJson`. */
  readonly texts = new Map<string, string>();
  /** The members that are objects or arrays: where each begins and ends. */
  readonly nested: Nested[] = [];
  tooDeep = false;
  /** The first of a single value. */
  flaw: Flaw | undefined;
  /** Where the numbers with an exponent become too many. */
  excess: Flaw | undefined;

  readonly #text: string;
  readonly #isObject: boolean;
  readonly #isArray: boolean;
  readonly #deepest: number;
  /** Whether each of the values that it is within is an object, or else an array. */
  readonly #within: boolean[] = [];
  #isGood = true;
  #depth = 0;
  #next = value;
  #expanded = 0;
  #key: string | undefined;
  #valueStart = -1;
  #nextBackslash = -1;
  #lastNumberEnd = -1;
  #numbersInARow = 0;
  /** Those of `breaks` that there are, and where each stands next. */
  readonly #breaks: { readonly char: string; next: number }[] = [];

  /** @param deeper how many levels there may be between the text and its documents, beside the text's own */
  constructor(text: string, deeper = 0) {
    this.#text = text;
    this.#isObject = /^\s*\{/.test(text);
    this.#isArray = /^\s*\[/.test(text);
    // An element of an array is as a body of its own.
    this.#deepest = nestingLimit + (this.#isArray ? 2 : 1) + deeper;
    for (const char of breaks) if (text.includes(char)) this.#breaks.push({ char, next: -1 });
  }

  run(): this {
    const text = this.#text;
    for (let i = 0; i < text.length && !this.tooDeep; i++) {
      const code = text.charCodeAt(i);
      if (code === quote) i = this.#string(i);
      else if (code === comma) this.#comma(i);
      else if (code === colon) this.#colon(i);
      else if (code === minus || (code >= zero && code <= nine)) i = this.#number(i, code);
      else if (code === openBrace || code === openBracket) this.#open(i, code === openBrace);
      else if (code === closeBrace || code === closeBracket) this.#close(i, code === closeBrace);
      else if (code > 0x20) i = this.#word(i);
      else if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) this.#isGood = false;
    }
    if (this.#depth !== 0 || this.#next !== commaOrEnd) this.#isGood = false;
    return this;
  }

  /** Whether `JSON.parse` takes it; asked after the run. */
  isJson(): boolean {
    return this.#isGood && controls.every((char) => !this.#text.includes(char));
  }

  /** A value begins here: it must be one's turn. */
  #begin(): void {
    if (this.#next > valueOrEnd) this.#isGood = false;
    this.#next = commaOrEnd;
  }

  #open(at: number, isObject: boolean): void {
    this.#begin();
    const depth = ++this.#depth;
    if (depth > this.#deepest) this.tooDeep = true;
    this.#within.push(isObject);
    this.#next = isObject ? keyOrEnd : valueOrEnd;
    if (depth === 1 && this.#isArray) this.#valueStart = at + 1;
  }

  #close(at: number, isObject: boolean): void {
    const mayEnd = this.#next === commaOrEnd || this.#next === (isObject ? keyOrEnd : valueOrEnd);
    if (this.#within.pop() !== isObject || !mayEnd) this.#isGood = false;
    this.#depth--;
    this.#next = commaOrEnd;
    if (this.#depth === 0) this.#endMember(at);
  }

  #comma(at: number): void {
    if (this.#next !== commaOrEnd || this.#depth < 1) this.#isGood = false;
    this.#next = this.#within[this.#depth - 1] === true ? key : value;
    if (this.#depth === 1) this.#endMember(at);
  }

  #colon(at: number): void {
    if (this.#next !== aColon) this.#isGood = false;
    this.#next = value;
    if (this.#depth === 1 && this.#isObject) this.#valueStart = at + 1;
  }

  #endMember(end: number): void {
    if (this.#isArray) this.#endElement(end);
    else if (this.#key !== undefined && this.#valueStart >= 0) {
      const text = this.#text.slice(this.#valueStart, end).trim();
      this.texts.set(this.#key, text);
      const member = { key: this.#key, start: this.#valueStart, end, isObject: text.startsWith("{") };
      if (member.isObject || text.startsWith("[")) this.nested.push(member);
    }
    this.#key = undefined;
    this.#valueStart = this.#isArray ? end + 1 : -1;
  }

  #endElement(end: number): void {
    const index = this.texts.size;
    // One more tells that it is longer.
    if (index > longestArray) return;
    const text = this.#text.slice(this.#valueStart, end).trim();
    // Between the brackets of an empty array there is none.
    if (text !== "") this.texts.set(String(index), text);
  }

  /** Gives the offset of the last character of true, false or null. */
  #word(start: number): number {
    this.#begin();
    const word = words.find((one) => this.#text.startsWith(one, start));
    if (word === undefined) this.#isGood = false;
    return start + (word ?? "?").length - 1;
  }

  /** Gives the offset of the quote that ends the string which starts at `start`. */
  #string(start: number): number {
    const end = this.#stringEnd(start);
    if (this.#next === key || this.#next === keyOrEnd) {
      this.#next = aColon;
      if (this.#depth === 1) this.#key = unquote(this.#text.slice(start, end + 1));
    } else this.#begin();
    return end;
  }

  /*
   * What ends it is looked for, which is many times as fast as to look at each character. So is what may not stand in it as
   * it is: where that comes next is kept in mind, so that nothing is looked through twice.
   */
  #stringEnd(start: number): number {
    const text = this.#text;
    let end = text.indexOf('"', start + 1);
    if (this.#nextBackslash < start) this.#nextBackslash = nextOf(text, "\\", start);
    while (this.#nextBackslash < end) {
      const after = this.#escapesEnd(this.#nextBackslash);
      this.#nextBackslash = nextOf(text, "\\", after);
      if (end < after) end = text.indexOf('"', after);
    }
    if (end < 0) {
      this.#isGood = false;
      return text.length;
    }
    for (const each of this.#breaks) {
      if (each.next < start) each.next = nextOf(text, each.char, start);
      if (each.next < end) this.#isGood = false;
    }
    return end;
  }

  /** The offset behind the escape at `at`, and behind those that follow close by: where there is one there are many. */
  #escapesEnd(at: number): number {
    const text = this.#text;
    let after = this.#escapeEnd(at) + 1;
    for (let i = after; i < after + closeBy; i++) {
      const code = text.charCodeAt(i);
      if (code === quote) return i;
      if (code !== backslash) continue;
      i = this.#escapeEnd(i);
      after = i + 1;
    }
    return after;
  }

  /** The offset of the last character of the escape that starts at `start`; a surrogate pair counts as one escape. */
  #escapeEnd(start: number): number {
    const text = this.#text;
    if (text.charCodeAt(start + 1) !== 0x75) {
      if (!isShortEscape(text.charCodeAt(start + 1))) this.#isGood = false;
      return start + 1;
    }
    const unit = codeUnit(text, start);
    if (unit < 0) this.#isGood = false;
    if (unit === 0) this.#report(start, "a NUL character");
    if (unit >= 0xdc00 && unit <= 0xdfff) this.#report(start, "a lone surrogate");
    if (unit < 0xd800 || unit > 0xdbff) return unit < 0 ? start + 1 : start + 5;
    const low = text.startsWith("\\u", start + 6) ? codeUnit(text, start + 6) : -1;
    if (low >= 0xdc00 && low <= 0xdfff) return start + 11;
    this.#report(start, "a lone surrogate");
    return start + 5;
  }

  /** Gives the offset of the last character of the number that starts at `start`. */
  #number(start: number, first: number): number {
    this.#begin();
    const many = this.#manyNumbersEnd(start);
    if (many > 0) return many;
    const text = this.#text;
    const whole = first === minus ? start + 1 : start;
    let end = digitsEnd(text, start + 1);
    const wholeDigits = end - whole;
    if (wholeDigits !== 1 && (wholeDigits === 0 || text.charCodeAt(whole) === zero)) this.#isGood = false;
    let code = text.charCodeAt(end);
    let fractionDigits = 0;
    if (code === point) {
      fractionDigits = digitsEnd(text, end + 1) - end - 1;
      if (fractionDigits === 0) this.#isGood = false;
      end += 1 + fractionDigits;
      code = text.charCodeAt(end);
    }
    if (code === 0x65 || code === 0x45) return this.#exponentEnd(start, end + 1, wholeDigits, fractionDigits);
    if (wholeDigits + fractionDigits > digitLimit) this.#report(start, "a number");
    this.#lastNumberEnd = end;
    return end - 1;
  }

  /** The offset behind which the next value of a list stands, once numbers have been passed with their commas; or 0. */
  #manyNumbersEnd(start: number): number {
    this.#numbersInARow = start - this.#lastNumberEnd <= 2 ? this.#numbersInARow + 1 : 0;
    if (this.#numbersInARow < inARow || this.#depth < 2 || this.#within[this.#depth - 1] !== false) return 0;
    manyNumbers.lastIndex = start;
    if (!manyNumbers.test(this.#text)) return 0;
    this.#next = value;
    this.#lastNumberEnd = manyNumbers.lastIndex - 1;
    return manyNumbers.lastIndex - 1;
  }

  /** @param from the offset behind the E of the number that starts at `start` */
  #exponentEnd(start: number, from: number, wholeDigits: number, fractionDigits: number): number {
    const text = this.#text;
    const sign = text.charCodeAt(from);
    const digits = sign === plus || sign === minus ? from + 1 : from;
    const end = digitsEnd(text, digits);
    if (end === digits) this.#isGood = false;
    const exponent = numberOf(text, digits, end) * (sign === minus ? -1 : 1);
    // How many there are when it is written out.
    const written = Math.max(wholeDigits + exponent, 1) + Math.max(fractionDigits - exponent, 0);
    if (written > digitLimit) this.#report(start, "a number");
    else this.#expanded += written;
    if (this.#expanded > expandedLimit) this.excess ??= { offset: start, what: "a number" };
    return end - 1;
  }

  #report(offset: number, what: Flaw["what"]): void {
    this.flaw ??= { offset, what };
  }
}
