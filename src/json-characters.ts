/** The characters that JSON is made of, by their codes, and what stands for others in its strings. Pure. */

export const quote = 0x22;
export const comma = 0x2c;
export const minus = 0x2d;
export const plus = 0x2b;
export const point = 0x2e;
export const zero = 0x30;
export const nine = 0x39;
export const colon = 0x3a;
export const openBracket = 0x5b;
export const backslash = 0x5c;
export const closeBracket = 0x5d;
export const openBrace = 0x7b;
export const closeBrace = 0x7d;

/** Control characters that may stand between values, but in no string. */
export const breaks = ["\n", "\r", "\t"];

/** Those that may stand nowhere. */
export const controls = Array.from({ length: 0x20 }, (_, code) => String.fromCharCode(code)).filter(
  (char) => !breaks.includes(char),
);

/** The values that are words. */
export const words = ["true", "false", "null"];

/** Numbers of a list, one after the other, that are short and have no exponent. */
export const manyNumbers = /(?:-?(?:0|[1-9]\d{0,15})(?:\.\d{1,17})?, ?){1,100}/y;

/** The offset behind the digits that begin at `start`: there may be none. */
export function digitsEnd(text: string, start: number): number {
  for (let i = start; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < zero || code > nine) return i;
  }
  return text.length;
}

/** The number that these digits are; of a larger one than a million, some number beyond that. */
export function numberOf(text: string, start: number, end: number): number {
  let number = 0;
  for (let i = start; i < end && number < 1_000_000; i++) number = number * 10 + text.charCodeAt(i) - zero;
  return number;
}

/** Where it stands next; behind all of the text when it does not. */
export function nextOf(text: string, char: string, from: number): number {
  const at = text.indexOf(char, from);
  return at < 0 ? text.length : at;
}

/** What may follow a backslash: " \ / b f n r t. */
export function isShortEscape(code: number): boolean {
  return '"\\/bfnrt'.includes(String.fromCharCode(code));
}

/** The code unit of the escape `\uXXXX` at `offset`; -1 when it is none. */
export function codeUnit(text: string, offset: number): number {
  let unit = 0;
  for (let i = offset + 2; i < offset + 6; i++) {
    const digit = hexDigit(text.charCodeAt(i));
    if (digit < 0) return -1;
    unit = unit * 16 + digit;
  }
  return unit;
}

function hexDigit(code: number): number {
  if (code >= zero && code <= nine) return code - zero;
  // Upper case differs from lower case in one bit.
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1;
}

/** The text that a JSON string stands for; undefined when it is none. */
export function unquote(text: string): string | undefined {
  if (!text.includes("\\")) return text.slice(1, -1);
  try {
    return JSON.parse(text) as string;
  } catch {
    return undefined;
  }
}
