/** The OpenAPI file: made from the zod schemas of the routes, tidied, and served beside interactive docs. */

import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifyInstance } from "fastify";
import { jsonSchemaTransform, jsonSchemaTransformObject } from "fastify-type-provider-zod";
import { stringify } from "yaml";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type JsonObject = { [key: string]: Json };

const info = {
  title: "Session service",
  version: "0.1.0",
  description:
    "Keeps the sessions of AI agents: what an agent is doing, its context, its checkpoints, where it runs. Every create " +
    "and every change is published to the Redis channel `events:session`.",
  license: { name: "MIT", identifier: "MIT" },
  contact: { name: "The session service" },
};

/** Collects the routes that follow; must be registered before them. */
export async function collectOpenApi(app: FastifyInstance): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info,
      servers: [{ url: "http://localhost:8011", description: "A service started with `npm start`." }],
      tags: [
        { name: "sessions", description: "What an agent is doing, and how far it got." },
        { name: "health", description: "For load balancers, orchestrators and people." },
      ],
      components: {
        securitySchemes: {
          apiKey: { type: "apiKey", in: "header", name: "X-API-Key", description: "Needed once API_KEYS is set." },
          bearer: { type: "http", scheme: "bearer", description: "The same keys, as a bearer token." },
        },
      },
      // The empty requirement: a service without API_KEYS is open.
      security: [{ apiKey: [] }, { bearer: [] }, {}],
    },
    transform: jsonSchemaTransform,
    transformObject: (document) => tidy(jsonSchemaTransformObject(document) as unknown as JsonObject) as never,
  });
}

/** Serves the file as JSON and YAML, and the docs at /docs, from this process alone. */
export async function serveOpenApi(app: FastifyInstance): Promise<void> {
  // Made when first asked for: most processes are never asked.
  let json: string | undefined;
  let yaml: string | undefined;
  app.get("/openapi.json", { schema: { hide: true } }, async (_, reply) => {
    json ??= openApiJson(app);
    return reply.header("content-type", "application/json; charset=utf-8").send(json);
  });
  app.get("/openapi.yaml", { schema: { hide: true } }, async (_, reply) => {
    yaml ??= openApiYaml(app);
    return reply.header("content-type", "application/yaml; charset=utf-8").send(yaml);
  });
  await app.register(swaggerUi, { routePrefix: "/docs", uiConfig: { deepLinking: true, tryItOutEnabled: true } });
}

/** The file as it is checked in and served; the app must be ready. */
export function openApiJson(app: FastifyInstance): string {
  return `${JSON.stringify(app.swagger(), null, 2)}\n`;
}

/** The same as YAML. */
export function openApiYaml(app: FastifyInstance): string {
  return stringify(JSON.parse(JSON.stringify(app.swagger())), { lineWidth: 120 });
}

/** Takes out what the generators leave behind and no reader needs. */
function tidy(document: JsonObject): JsonObject {
  const cleaned = clean(document) as JsonObject;
  const components = (cleaned["components"] ?? {}) as JsonObject;
  const schemas = (components["schemas"] ?? {}) as JsonObject;
  // A schema is registered once as input and once as output; only the one that something refers to is kept.
  for (let removed = true; removed; ) {
    const text = JSON.stringify(cleaned);
    const unused = Object.keys(schemas).filter((name) => !text.includes(`"#/components/schemas/${name}"`));
    for (const name of unused) delete schemas[name];
    removed = unused.length > 0;
  }
  return cleaned;
}

function clean(value: Json): Json {
  if (Array.isArray(value)) return value.map(clean);
  if (typeof value !== "object" || value === null) return value;
  const kept: JsonObject = {};
  for (const [key, member] of Object.entries(value)) {
    // Beside a format a pattern breaks some generators, and the schema's own id is its key already.
    if (key === "pattern" && typeof value["format"] === "string") continue;
    if (key === "id" && typeof value["type"] === "string" && typeof member === "string") continue;
    if (key === "$schema") continue;
    // Integers have no bounds here but the ones of a double, which say nothing.
    if (["minimum", "maximum"].includes(key) && Math.abs(Number(member)) === Number.MAX_SAFE_INTEGER) continue;
    // An answer without a body is written as null.
    if (
      key === "content" &&
      /^\{"application\/json":\{"schema":\{"type":"null"[^{}]*\}\}\}$/.test(JSON.stringify(member))
    )
      continue;
    kept[key] = clean(member);
  }
  return kept;
}
