/** Checking requests against their zod schemas, and saying what is wrong in words that a client can use. */

import type { FastifyInstance, FastifySchemaCompiler } from "fastify";
import { z } from "zod";
import { errors } from "../errors.ts";
import { escapePointer } from "../json.ts";
import { longestArray } from "../json-scan.ts";
import type { FieldError } from "../service-error.ts";
import { prefers } from "./preferences.ts";
import { isFreeForm } from "./schemas/free-form.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** A request without a body is one with an empty object. */
    bodyIsOptional?: boolean;
  }
}

/** Validates bodies and queries (422 with every problem found); a path parameter that is no id names nothing (404). */
const validatorCompiler: FastifySchemaCompiler<z.ZodType> = ({ schema, httpPart }) => {
  return (data: unknown) => {
    const { value, problems } = checked(schema, data, httpPart === "body");
    if (problems === undefined) return { value };
    return { error: httpPart === "params" ? errors.sessionNotFound() : errors.validationFailed(problems) };
  };
};

/** What a schema makes of a value, or all that is wrong with that. */
type Checked<Value> =
  | { readonly value: Value; readonly problems?: undefined }
  | { readonly value?: undefined; readonly problems: readonly FieldError[] };

/** @param inBody whether the value is of a body, or else a parameter's */
export function checked<Value>(schema: z.ZodType<Value>, data: unknown, inBody: boolean): Checked<Value> {
  const tooLong = inBody && !isFreeForm(schema) ? tooLongArrays(schema, data) : [];
  if (tooLong.length > 0) return { problems: tooLong };
  const read = schema.safeParse(data);
  if (read.success) return { value: read.data };
  const problems = read.error.issues.flatMap(issuesMeant).map((issue) => fieldError(issue, inBody));
  // Several rules may say the same of one field.
  const byText = new Map(problems.map((problem) => [JSON.stringify(problem), problem]));
  return { problems: [...byText.values()] };
}

/** Looked at first: the validation makes an issue of each bad element, and 8 MB hold millions. */
function tooLongArrays(schema: z.ZodType, body: unknown, pointer = ""): FieldError[] {
  const detail = `must have at most ${longestArray} elements`;
  const isTooLong = (value: unknown) => Array.isArray(value) && value.length > longestArray;
  if (isTooLong(body)) return [{ pointer, detail }];
  if (typeof body !== "object" || body === null) return [];
  const shape: Readonly<Record<string, z.ZodType>> = schema instanceof z.ZodObject ? schema.shape : {};
  return Object.entries(body).flatMap(([key, value]) => {
    const member = `${pointer}/${escapePointer(key)}`;
    if (isTooLong(value)) return [{ pointer: member, detail }];
    const inner = Object.hasOwn(shape, key) ? shape[key] : undefined;
    return inner instanceof z.ZodObject ? tooLongArrays(inner, value, member) : [];
  });
}

/** Of something that may be one thing or another, what is wrong with the one that it is. */
function issuesMeant(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({ ...issue, path: [...issue.path, key], message: "is not known here" }));
  }
  if (issue.code !== "invalid_union") return [issue];
  const isOther = ({ code, path }: z.core.$ZodIssue) => code === "invalid_type" && path.length === 0;
  const [meant, ...others] = issue.errors.filter((issues) => !issues.some(isOther));
  if (meant === undefined || others.length > 0) return [issue];
  return meant.flatMap((inner) => issuesMeant({ ...inner, path: [...issue.path, ...inner.path] }));
}

function fieldError(issue: z.core.$ZodIssue, inBody: boolean): FieldError {
  const detail = detailOf(issue).replace(/\.$/, "");
  const path = issue.path.map(String);
  return inBody
    ? { pointer: path.map((part) => `/${escapePointer(part)}`).join(""), detail }
    : { parameter: path.join("."), detail };
}

const kinds: Readonly<Record<string, string>> = {
  string: "a text",
  boolean: "true or false",
  number: "a number",
  int: "a whole number",
  array: "an array",
  object: "a JSON object",
};

/** What zod says of a rule that has no words of its own, in those that the others have. */
function detailOf(issue: z.core.$ZodIssue): string {
  const [, expected = ""] = /^Invalid input: expected (\w+), received /.exec(issue.message) ?? [];
  const kind = kinds[expected];
  if (kind !== undefined) return /received undefined$/.test(issue.message) ? `is required: ${kind}` : `must be ${kind}`;
  const [, sign = "", bound = "", unit] = /^Too (?:small|big): .*?([<>])=(\d+)(?: (\w+))?$/.exec(issue.message) ?? [];
  if (bound === "") return issue.message.replace(/^Invalid input: /, "");
  const atMost = `at ${sign === ">" ? "least" : "most"} ${bound}`;
  return unit === undefined
    ? `must be ${atMost}`
    : `must have ${atMost} ${bound === "1" ? unit.replace(/s$/, "") : unit}`;
}

/** Installs the validation; `Prefer: handling=strict` (RFC 7240) makes unknown keys an error instead of ignoring them. */
export function validateRequests(app: FastifyInstance): void {
  app.setValidatorCompiler(validatorCompiler);
  app.addHook("preValidation", (request, reply, done) => {
    const { body, querystring } = (request.routeOptions.schema ?? {}) as { body?: unknown; querystring?: unknown };
    if (body !== undefined && request.body === undefined) {
      if (request.routeOptions.config.bodyIsOptional !== true) {
        return done(errors.malformedJson("The body is empty; send a JSON object."));
      }
      request.body = {};
    }
    if (!prefers(request, "handling", "strict")) return done();
    const unknown = [
      ...unknownKeys(body, request.body).map((path) => ({
        pointer: path.map((part) => `/${escapePointer(part)}`).join(""),
        detail: "is not known here",
      })),
      ...unknownKeys(querystring, request.query).map(([key = ""]) => ({ parameter: key, detail: "is not known here" })),
    ];
    if (unknown.length > 0) return done(errors.validationFailed(unknown));
    reply.header("preference-applied", "handling=strict");
    done();
  });
}

/** The paths to the keys that the schema does not know; within documents every key is welcome. */
function unknownKeys(schema: unknown, value: unknown): string[][] {
  if (typeof value !== "object" || value === null) return [];
  if (schema instanceof z.ZodUnion) {
    const meant = schema.options.find((option) => option instanceof z.ZodArray === Array.isArray(value));
    return unknownKeys(meant, value);
  }
  if (schema instanceof z.ZodArray && Array.isArray(value)) {
    return value
      .slice(0, longestArray)
      .flatMap((element, at) => unknownKeys(schema.element, element).map((path) => [String(at), ...path]));
  }
  if (!(schema instanceof z.ZodObject)) return [];
  return Object.keys(value)
    .filter((key) => !Object.hasOwn(schema.shape, key))
    .map((key) => [key]);
}
