/** What a scan finds in a JSON text, beside the texts of its members. */

/** How many digits a number may have when it is written out: 1e131071 would come back as 131 KB. */
export const digitLimit = 400;

/** How many digits all numbers with an exponent may have together: 1e399 is 5 bytes of a body and 400 of an answer. */
export const expandedLimit = 1_000_000;

/** What PostgreSQL's jsonb can't hold, or would not give back as it is. */
export interface Flaw {
  readonly offset: number;
  readonly what: "a number" | "a NUL character" | "a lone surrogate";
}

/** A member that is an object or an array, and where it lies. */
export interface Nested {
  readonly key: string;
  readonly start: number;
  readonly end: number;
  readonly isObject: boolean;
}
