/** The OpenAPI file: made from the zod schemas of the routes, and served beside interactive docs. */

import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifyInstance } from "fastify";
import { stringify } from "yaml";
import { type DocumentedRoute, type OperationSchema, openApiDocument } from "./openapi-document.ts";
import type { JsonObject } from "./openapi-schemas.ts";

declare module "fastify" {
  interface FastifyInstance {
    documentedRoutes: DocumentedRoute[];
  }
}

const frame = {
  openapi: "3.1.0",
  info: {
    title: "Session service",
    version: "0.1.0",
    description: [
      "Keeps the sessions of AI agents: what an agent is doing, its context, its checkpoints, where it runs. Every create " +
        "and every change is published to the Redis channel `events:session`.",
      "Every path answers with and without a trailing slash, and takes HEAD where it takes GET. A body is read as JSON " +
        "when it is sent as `application/json`, as text, as a form (what `curl -d` says), or without a type.",
      "What goes wrong is told as `application/problem+json` (RFC 9457), with a stable `code`. A path that is not listed " +
        "here is answered with 404 `route_not_found`, a method that a path does not take with 405 `method_not_allowed` " +
        "and an `Allow` header.",
    ].join("\n\n"),
    license: { name: "MIT", identifier: "MIT" },
    contact: { name: "The session service" },
  },
  servers: [
    { url: "/", description: "The service that this file was read from." },
    {
      url: "http://{host}:{port}",
      description: "A service started with `npm start`.",
      variables: {
        host: { default: "localhost", description: "The name or address of its machine." },
        port: { default: "8011", description: "Its PORT." },
      },
    },
  ],
  tags: [
    { name: "sessions", description: "What an agent is doing, and how far it got." },
    { name: "checkpoints", description: "Where sessions can be carried on from: the last one, and those before it." },
    { name: "workers", description: "Who works on a session: claims, leases, heartbeats." },
    { name: "jobs", description: "The same done to many sessions, a batch at a time: asked for, followed, cancelled." },
    { name: "events", description: "What happened to sessions, in order." },
    { name: "health", description: "For load balancers, orchestrators and people." },
  ],
  // The empty requirement: a service without API_KEYS is open.
  security: [{ apiKey: [] }, { bearer: [] }, {}],
  components: {
    securitySchemes: {
      apiKey: { type: "apiKey", in: "header", name: "X-API-Key", description: "Needed once API_KEYS is set." },
      bearer: { type: "http", scheme: "bearer", description: "The same keys, as a bearer token." },
    },
  },
};

/** The page and all that it loads come from this process; a browser is told to refuse anything else. */
const onlyFromHere = {
  "default-src": "'self'",
  "img-src": "'self' data:",
  "style-src": "'self' 'unsafe-inline'",
  "object-src": "'none'",
  "base-uri": "'none'",
  "frame-ancestors": "'none'",
};

/** Collects the routes that follow and have an operationId; must be called before they are added. */
export async function collectOpenApi(app: FastifyInstance): Promise<void> {
  const routes: DocumentedRoute[] = [];
  app.decorate("documentedRoutes", routes);
  app.addHook("onRoute", ({ method, url, schema, config }) => {
    // Fastify adds a HEAD to each GET; it goes without saying.
    if (schema?.operationId === undefined || typeof method !== "string" || method === "HEAD") return;
    const bodyIsOptional = config?.bodyIsOptional === true;
    routes.push({ method, url, schema: schema as OperationSchema, bodyIsOptional });
  });
}

/** By their routes: made once, however many apps this process opens. */
const documents = new Map<string, JsonObject>();

/** Made when first asked for: it takes as long as all the rest of opening an app, and most processes are never asked. */
function documentOf(documented: readonly DocumentedRoute[]): JsonObject {
  const routes = documented.map(({ method, url }) => `${method} ${url}`).join();
  const document = documents.get(routes) ?? openApiDocument(frame, documented);
  documents.set(routes, document);
  return document;
}

/** Serves the file as JSON and YAML, and the docs at /docs, from this process alone; must be called after the routes. */
export async function serveOpenApi(app: FastifyInstance): Promise<void> {
  // It would make the document from the routes that follow it, of which there are none to document.
  await app.register(swagger, { openapi: {}, transformObject: () => documentOf(app.documentedRoutes) as never });
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
  await app.register(swaggerUi, {
    routePrefix: "/docs",
    uiConfig: { deepLinking: true, tryItOutEnabled: true, validatorUrl: null },
    staticCSP: onlyFromHere,
  });
}

/** The file as it is checked in and served; the app must be ready. */
export function openApiJson(app: FastifyInstance): string {
  return `${JSON.stringify(app.swagger(), null, 2)}\n`;
}

/** The same as YAML. */
export function openApiYaml(app: FastifyInstance): string {
  return stringify(app.swagger(), { lineWidth: 120, blockQuote: "literal", aliasDuplicateObjects: false });
}
