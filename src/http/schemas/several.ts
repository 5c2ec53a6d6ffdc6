/** Parameters of a query that take several values. */

import { z } from "zod";

/** So many values a parameter takes: each is looked up for itself. */
const mostValues = 100;

/**
 * A parameter that may be repeated, and may list its values with commas; each value comes once.
 *
 * @param read gives undefined for a value that the parameter does not take
 * @param error says what it takes
 * @param isSeparated false: a comma is part of a value
 */
export function several<Value>(read: (text: string) => Value | undefined, error: string, isSeparated = true) {
  return z
    .unknown()
    .transform((given, context): Value[] => {
      const texts = [given].flat().flatMap((text) => (isSeparated ? String(text).split(",") : [String(text)]));
      const values = new Set(texts.map((text) => read(text.trim())));
      if (values.has(undefined)) context.addIssue({ code: "custom", message: error });
      if (values.size > mostValues)
        context.addIssue({ code: "custom", message: `must be ${mostValues} values at most` });
      return [...values].filter((value) => value !== undefined);
    })
    .optional();
}
