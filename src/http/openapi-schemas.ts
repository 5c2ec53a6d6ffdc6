/** The components of the OpenAPI document that are made of zod schemas: the schemas themselves, and their examples. */

import { z } from "zod";
import { phaseSchema, statusSchema } from "./schemas/state-words.ts";

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export type JsonObject = { readonly [key: string]: Json };
type JsonSchema = z.core.JSONSchema.BaseSchema;

export interface Components {
  readonly schemas: Readonly<Record<string, JsonObject>>;
  /** Each example of a schema, as `<schema>.<example>`. */
  readonly examples: JsonObject;
}

/** The name of a schema in the components. A schema without one would be written out wherever it is used. */
export function idOf(schema: z.ZodType): string {
  const id = z.globalRegistry.get(schema)?.id;
  if (id === undefined) throw new Error(`a schema of an operation needs a name: .meta({ id }) (${schema.type})`);
  return id;
}

/** Enums that events have too: what these mean is said once. */
const sharedEnums = [phaseSchema, statusSchema];

/**
 * Every schema that has an id, as clients write it. What comes in and what goes out have different schemas here where
 * they differ at all, so none is needed twice; and an answer may gain keys, so none is closed.
 */
export function components(): Components {
  const made = z.toJSONSchema(z.globalRegistry, {
    io: "input",
    unrepresentable: "any",
    uri: (id) => `#/components/schemas/${id}`,
    override: ({ zodSchema, jsonSchema }) => polish(zodSchema, jsonSchema),
  });
  const schemas: Record<string, JsonObject> = {};
  const examples: Record<string, JsonObject> = {};
  for (const [id, schema] of Object.entries(made.schemas as unknown as Record<string, JsonObject>)) {
    const { $schema: _dialect, $id: _uri, namedExamples = {}, ...rest } = schema;
    schemas[id] = withSharedEnums(rest) as JsonObject;
    for (const [name, example] of Object.entries(namedExamples as Record<string, JsonObject>)) {
      examples[`${id}.${name}`] = example;
    }
  }
  return { schemas, examples };
}

/** Changes what zod writes into what OpenAPI 3.1, and the tools that read it, do best with. */
function polish(zodSchema: z.core.$ZodType, schema: JsonSchema): void {
  restoreAnnotations(zodSchema, schema);
  if (zodSchema._zod.def.type === "nullable") foldNull(schema);
  // Beside a format a pattern breaks some generators.
  if (schema.format !== undefined) delete schema.pattern;
  // Integers have no bounds here but the ones of a double, which say nothing.
  if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
  if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
  if (JSON.stringify(schema.additionalProperties) === "{}") schema.additionalProperties = true;
}

/** zod drops these where a value is transformed, for it takes them to be of the result; ours are of what is sent. */
function restoreAnnotations(zodSchema: z.core.$ZodType, schema: JsonSchema): void {
  const { examples, default: byDefault } = z.globalRegistry.get(zodSchema) ?? {};
  if (examples !== undefined) schema.examples = examples as NonNullable<JsonSchema["examples"]>;
  if (byDefault !== undefined) schema.default = byDefault as NonNullable<JsonSchema["default"]>;
}

/** Refers to a shared enum by its name wherever its values are written out. */
function withSharedEnums(schema: Json): Json {
  if (typeof schema !== "object" || schema === null) return schema;
  if (Array.isArray(schema)) return schema.map(withSharedEnums);
  const { enum: values, type, ...rest } = schema as JsonObject;
  const shared = sharedEnums.find(({ options }) => JSON.stringify(options) === JSON.stringify(values));
  if (shared !== undefined && !("x-enumDescriptions" in rest)) {
    return { ...rest, $ref: `#/components/schemas/${idOf(shared)}` };
  }
  return Object.fromEntries(Object.entries(schema).map(([key, member]) => [key, withSharedEnums(member)]));
}

/** Writes "this or null" as a list of types, unless this is another component. */
function foldNull(schema: JsonSchema): void {
  const [inner, ...rest] = schema.anyOf ?? [];
  if (typeof inner !== "object" || typeof inner.type !== "string" || rest.length !== 1) return;
  delete schema.anyOf;
  Object.assign(schema, { ...inner, ...schema, type: [inner.type, "null"] });
}
