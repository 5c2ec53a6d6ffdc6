/**
 * The OpenAPI document, made from the routes' zod schemas. Every schema of a body, a query or a path has an `id` in its
 * metadata, under which it stands in the components, and `namedExamples`, which every use of it shows.
 */

import { z } from "zod";
import { type Components, components, idOf, type Json, type JsonObject } from "./openapi-schemas.ts";
import { type RequestHeader, type ResponseHeader, requestHeaders, responseHeaders } from "./schemas/common.ts";

/** A route that is documented, as it was given to Fastify. */
export interface DocumentedRoute {
  readonly method: string;
  readonly url: string;
  readonly schema: OperationSchema;
  /** Whether a request without a body is one with an empty object. */
  readonly bodyIsOptional?: boolean;
}

/** The schema of a route, with what Fastify does not know of: it is there for the document alone. */
export interface OperationSchema {
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tags: readonly string[];
  readonly security?: readonly Readonly<Record<string, readonly string[]>>[];
  readonly params?: z.ZodType;
  readonly querystring?: z.ZodType;
  readonly body?: z.ZodType;
  /** What a body may be, by its media type: where that is more than JSON, or something else. It is read as JSON. */
  readonly bodies?: Readonly<Record<string, z.ZodType>>;
  /** The headers that mean something to this operation, beside those that mean something to all. */
  readonly requestHeaders?: readonly RequestHeader[];
  /** An answer without content is z.null(), with its description and headers as metadata. */
  readonly response: Readonly<Record<string, ResponseDoc | z.ZodNull>>;
}

interface ResponseDoc {
  readonly description: string;
  readonly headers?: readonly ResponseHeader[];
  readonly content?: Readonly<Record<string, MediaDoc>>;
}

interface MediaDoc {
  readonly schema: z.ZodType;
  /** The schema's examples that are shown; all of them unless named. */
  readonly examples?: readonly string[];
}

/** Headers that an answer with this status carries, beside its own. */
const headersOfStatus: Readonly<Record<string, readonly ResponseHeader[]>> = {
  401: ["WWW-Authenticate"],
  415: ["Accept"],
  503: ["Retry-After"],
};

const safeMethods = new Set(["GET", "HEAD"]);

/** @param frame what stands around the operations: info, servers, tags, security schemes */
export function openApiDocument(frame: JsonObject, routes: readonly DocumentedRoute[]): JsonObject {
  const made = components();
  const paths: Record<string, JsonObject> = {};
  for (const route of routes) {
    const path = route.url.replace(/:(\w+)/g, "{$1}");
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route, made) };
  }
  const headerParameters = Object.entries(requestHeaders).map(([name, doc]) => [name, { name, in: "header", ...doc }]);
  const { components: given, ...rest } = frame;
  return withoutUnused({
    ...rest,
    paths,
    components: {
      ...(given as JsonObject),
      parameters: Object.fromEntries(headerParameters),
      headers: responseHeaders,
      responses: sharedResponses(routes, made),
      ...made,
    },
  });
}

function operation({ method, schema, bodyIsOptional }: DocumentedRoute, made: Components): JsonObject {
  const { operationId, summary, description, tags, security, body } = schema;
  const { bodies = body && { "application/json": body } } = schema;
  const media =
    bodies &&
    content(
      mapped(bodies, (one) => ({ schema: one })),
      made,
    );
  const requestBody = media && { required: bodyIsOptional !== true, content: media };
  return present({
    operationId,
    summary,
    description,
    tags,
    security,
    parameters: parameters(method, schema, made),
    requestBody,
    responses: responses(schema, made),
  });
}

function mapped<From, To>(members: Readonly<Record<string, From>>, to: (member: From) => To): Record<string, To> {
  return Object.fromEntries(Object.entries(members).map(([name, member]) => [name, to(member)]));
}

function responses(schema: OperationSchema, made: Components): JsonObject {
  const canPrefer = schema.body !== undefined || schema.querystring !== undefined;
  return Object.fromEntries(
    responseDocs(schema).map(([status, doc]) => {
      const name = sharedName(doc);
      if (name !== undefined) return [status, ref("responses", name)];
      const preference = canPrefer && status.startsWith("2") ? ["Preference-Applied" as const] : [];
      return [status, response(status, { ...doc, headers: [...(doc.headers ?? []), ...preference] }, made)];
    }),
  );
}

function parameters(method: string, schema: OperationSchema, made: Components): JsonObject[] {
  const { params, querystring, body, requestHeaders: own = [] } = schema;
  const headers: RequestHeader[] = [...own];
  if (body !== undefined || querystring !== undefined) headers.push("Prefer");
  headers.push("X-Request-Id");
  if (!safeMethods.has(method)) headers.push("X-Correlation-Id", "traceparent");
  return [
    ...parametersOf("path", params, made),
    ...parametersOf("query", querystring, made),
    ...headers.map((name) => ref("parameters", name)),
  ];
}

function parametersOf(where: "path" | "query", schema: z.ZodType | undefined, made: Components): JsonObject[] {
  if (schema === undefined) return [];
  const { properties, required = [] } = made.schemas[idOf(schema)] as { properties: JsonObject; required?: Json[] };
  return Object.entries(properties).map(([name, property]) => {
    const { description = "", examples, ...rest } = property as JsonObject;
    const example = Array.isArray(examples) ? { example: examples[0] ?? null } : {};
    // Repeated: ?a=1&a=2.
    const list = rest["type"] === "array" ? { style: "form", explode: true } : {};
    return { name, in: where, required: required.includes(name), description, ...list, schema: rest, ...example };
  });
}

function responseDocs({ response: docs }: OperationSchema): [status: string, ResponseDoc][] {
  return Object.entries(docs).map(([status, doc]) => [
    status,
    doc instanceof z.ZodNull ? (doc.meta() as unknown as ResponseDoc) : doc,
  ]);
}

function response(
  status: string,
  { description, headers = [], content: media }: ResponseDoc,
  made: Components,
): JsonObject {
  const names = [...headers, ...(headersOfStatus[status] ?? []), "X-Request-Id"];
  return present({
    description,
    headers: Object.fromEntries(names.map((name) => [name, ref("headers", name)])),
    content: media && content(media, made),
  });
}

function content(media: NonNullable<ResponseDoc["content"]>, { examples }: Components): JsonObject {
  return Object.fromEntries(
    Object.entries(media).map(([type, doc]) => {
      const id = idOf(doc.schema);
      const all = Object.keys(examples).filter((name) => name.startsWith(`${id}.`));
      const names = doc.examples?.map((name) => `${id}.${name}`) ?? all;
      const shown = Object.fromEntries(names.map((name) => [name.slice(id.length + 1), ref("examples", name)]));
      return [type, { schema: ref("schemas", id), examples: shown }];
    }),
  );
}

/** A response that is one certain problem is the same everywhere, and has the name of the problem. */
function sharedName({ content: media = {} }: ResponseDoc): string | undefined {
  const [problem, ...others] = Object.entries(media);
  const [code, ...otherCodes] = problem?.[1].examples ?? [];
  if (problem?.[0] !== "application/problem+json" || others.length > 0 || otherCodes.length > 0) return undefined;
  return code?.replace(/(?:^|_)(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function sharedResponses(routes: readonly DocumentedRoute[], made: Components): JsonObject {
  const shared: Record<string, JsonObject> = {};
  for (const [status, doc] of routes.flatMap(({ schema }) => responseDocs(schema))) {
    const name = sharedName(doc);
    if (name !== undefined) shared[name] = response(status, doc, made);
  }
  return shared;
}

/** Takes out the components that nothing refers to: schemas of other parts, headers that no operation names. */
function withoutUnused(document: JsonObject): JsonObject {
  const { securitySchemes = {}, ...components } = document["components"] as Record<string, JsonObject>;
  const used = new Set<string>();
  const visit = (value: Json): void => {
    if (typeof value !== "object" || value === null) return;
    const pointer = "$ref" in value ? value["$ref"] : undefined;
    if (typeof pointer === "string" && !used.has(pointer)) {
      used.add(pointer);
      const [kind = "", name = ""] = pointer.split("/").slice(2);
      visit(components[kind]?.[name] ?? null);
    }
    for (const member of Object.values(value)) visit(member);
  };
  visit(document["paths"] ?? null);
  const kept = Object.entries(components).map(([kind, members]): [string, JsonObject] => [
    kind,
    Object.fromEntries(Object.entries(members).filter(([name]) => used.has(`#/components/${kind}/${name}`))),
  ]);
  return { ...document, components: { securitySchemes, ...Object.fromEntries(kept) } };
}

/** Without the members that are undefined. */
function present(members: Readonly<Record<string, unknown>>): JsonObject {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as JsonObject;
}

function ref(kind: string, name: string): JsonObject {
  return { $ref: `#/components/${kind}/${name}` };
}
