/** JSON objects that are kept for clients, and that nothing here looks into. */

import { z } from "zod";

const documents = new WeakSet<z.ZodType>();

/**
 * A free-form JSON object. Its text goes to the database and back as it is; this only says that it is an object.
 * (z.record would walk it, and takes a `constructor` key for something else than data.)
 */
export function document(description: string, example: object) {
  const schema = z
    .unknown()
    .refine((value) => typeof value === "object" && value !== null && !Array.isArray(value), {
      error: "must be a JSON object",
    })
    .meta({ description, type: "object", additionalProperties: true, examples: [example] });
  documents.add(schema);
  return schema;
}

/** Says of a schema that what it lets through is a free-form document as a whole: no list in it is too long. */
export function freeForm<Schema extends z.ZodType>(schema: Schema): Schema {
  documents.add(schema);
  return schema;
}

/** Whether it is of a free-form document. */
export function isFreeForm(schema: z.ZodType): boolean {
  return documents.has(schema);
}

const noKeys: ReadonlySet<string> = new Set();
const keysOf = new WeakMap<z.ZodObject, ReadonlySet<string>>();

/**
 * The keys under which a body has free-form objects: what is in those need not even be parsed.
 *
 * @param schema a body's; of anything but an object's there are none
 */
export function freeFormKeys(schema: unknown): ReadonlySet<string> {
  if (!(schema instanceof z.ZodObject)) return noKeys;
  const known = keysOf.get(schema);
  if (known !== undefined) return known;
  const keys = new Set(Object.keys(schema.shape).filter((key) => documents.has(innermost(schema.shape[key]))));
  keysOf.set(schema, keys);
  return keys;
}

const lists = new WeakSet<z.ZodType>();

/**
 * Says of a list that each of its elements is as a body of its own, which the route reads by itself: it is shown what the
 * elements are, and looked at whether it is a list, and no more.
 */
export function listOfBodies<Element extends z.ZodType>(element: Element, description: string, most: number) {
  const list = z.array(element).meta({ description, minItems: 1, maxItems: most });
  lists.add(list);
  return list;
}

const keyOf = new WeakMap<z.ZodObject, string | undefined>();

/** The key under which a body has a list of bodies; undefined when it has none. */
export function bodiesKey(schema: unknown): string | undefined {
  if (!(schema instanceof z.ZodObject)) return undefined;
  if (keyOf.has(schema)) return keyOf.get(schema);
  const found = Object.keys(schema.shape).find((key) => lists.has(schema.shape[key]));
  keyOf.set(schema, found);
  return found;
}

function innermost(schema: z.ZodType): z.ZodType {
  const isWrapped = schema instanceof z.ZodOptional || schema instanceof z.ZodNullable;
  return isWrapped ? innermost(schema.unwrap() as z.ZodType) : schema;
}
