/** The OpenAPI file as it is checked in: that it is the app's, and that it tells a reader everything. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { documentedApp } from "../../src/documented-app.ts";
import { openApiJson, openApiYaml } from "../../src/http/openapi.ts";
import { openApiDocument } from "../../src/http/openapi-document.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const checkedIn = (name: string) => readFileSync(`${root}openapi/${name}`, "utf8");

// biome-ignore lint/suspicious/noExplicitAny: a document of any shape, which the tests below look into
type Any = any;
const document: Any = JSON.parse(checkedIn("openapi.json"));

/** The value itself, or the component that it refers to. */
const resolved = (value: Any): Any =>
  value?.$ref === undefined
    ? value
    : (value.$ref as string)
        .slice(2)
        .split("/")
        .reduce((at, key) => at[key.replaceAll("~1", "/")], document);

const operations: [name: string, operation: Any][] = Object.entries<Any>(document.paths).flatMap(([path, item]) =>
  Object.entries<Any>(item).map(([method, operation]): [string, Any] => [`${method.toUpperCase()} ${path}`, operation]),
);
const schemas = Object.entries<Any>(document.components.schemas);

/** Every object in the document, with the path to it. */
function* objects(value: Any, path = ""): Generator<[path: string, Any]> {
  if (typeof value !== "object" || value === null) return;
  yield [path, value];
  for (const [key, member] of Object.entries(value)) yield* objects(member, `${path}/${key}`);
}

describe("the file that is checked in", () => {
  let app: Awaited<ReturnType<typeof documentedApp>>;
  beforeAll(async () => {
    app = await documentedApp();
  });
  afterAll(() => app.close());

  const advice = "run `npm run openapi` and check in the result";

  it("is what the app makes, as JSON", () => {
    expect(openApiJson(app) === checkedIn("openapi.json"), advice).toBe(true);
  });

  it("is what the app makes, as YAML", () => {
    expect(openApiYaml(app) === checkedIn("openapi.yaml"), advice).toBe(true);
    expect(parse(checkedIn("openapi.yaml"))).toEqual(document);
  });

  it("is OpenAPI 3.1, with the version of the package", () => {
    expect(document.openapi).toMatch(/^3\.1\./);
    expect(document.info.version).toBe(JSON.parse(readFileSync(`${root}package.json`, "utf8")).version);
  });

  it("has every path once, and the original ones as they were", () => {
    const paths = Object.keys(document.paths);
    expect(paths).toEqual(expect.arrayContaining(["/sessions/", "/sessions/{id}", "/health"]));
    const trimmed = paths.map((path) => path.replace(/\/$/, ""));
    expect(trimmed).toEqual([...new Set(trimmed)]);
  });
});

describe.each(operations)("%s", (_, operation) => {
  it("has an operationId of its own, a summary, a description and a tag that is described", () => {
    expect(operation).toMatchObject({
      operationId: expect.stringMatching(/^[a-z][A-Za-z]+$/),
      summary: expect.stringMatching(/^[A-Z]/),
      description: expect.stringMatching(/\.$/),
    });
    expect(operations.filter(([, other]) => other.operationId === operation.operationId)).toHaveLength(1);
    const described = document.tags.filter((tag: Any) => tag.description).map((tag: Any) => tag.name);
    expect(described).toEqual(expect.arrayContaining(operation.tags));
  });

  it("shows an example of every body and parameter", () => {
    const media = [operation.requestBody, ...Object.values(operation.responses)]
      .flatMap((body) => Object.entries<Any>(resolved(body)?.content ?? {}))
      .map(([type, { schema, examples }]) => [type, schema.$ref, Object.values(examples ?? {}).map(resolved)]);
    expect(media.length).toBeGreaterThan(0);
    for (const [type, schema, examples] of media) {
      expect(schema, `the schema of ${type} has a name`).toMatch(/^#\/components\/schemas\//);
      expect(examples.length, `examples of ${schema}`).toBeGreaterThan(0);
      for (const example of examples) expect(example).toMatchObject({ summary: expect.any(String) });
    }
    for (const parameter of operation.parameters.map(resolved)) {
      expect(parameter, parameter.name).toMatchObject({ description: expect.any(String), example: expect.anything() });
    }
  });

  it("tells its problems, each with its codes", () => {
    const problems = Object.entries<Any>(operation.responses).filter(([status]) => Number(status) >= 400);
    expect(problems.map(([status]) => status)).toEqual(expect.arrayContaining(["400", "406", "421", "500"]));
    for (const [status, response] of problems) {
      const { schema, examples } = resolved(response).content["application/problem+json"];
      expect(schema.$ref).toBe("#/components/schemas/Problem");
      for (const [code, example] of Object.entries(examples)) {
        expect(resolved(example).value).toMatchObject({ status: Number(status), code });
      }
    }
  });

  it("names the headers of its answers", () => {
    for (const response of Object.values(operation.responses).map(resolved)) {
      expect(Object.keys(response.headers)).toContain("X-Request-Id");
    }
    const names = operation.parameters.map((parameter: Any) => resolved(parameter).name);
    const carriesTag = Object.keys(operation.responses).some((status) => status === "412" || status === "304");
    if (carriesTag) expect(names.some((name: string) => /^If-(None-)?Match$/.test(name))).toBe(true);
  });
});

it("a body that need not be sent is not required", () => {
  const optional = operations.filter(([, { requestBody }]) => requestBody?.required === false).map(([name]) => name);
  expect(optional).toEqual(
    expect.arrayContaining([
      "POST /sessions/{id}/pause",
      "POST /sessions/{id}/heartbeat",
      "POST /workers/{worker_id}/pause-all",
    ]),
  );
  expect(optional).not.toContain("POST /sessions/claim");
});

describe("the schemas", () => {
  it.each(schemas)("%s has a name of its own and a description", (name, schema) => {
    expect(name).toMatch(/^[A-Z][A-Za-z]+$/);
    expect(name).not.toMatch(/(Input|Output|\d)$/);
    expect(schema.description).toMatch(/\S/);
    for (const [property, { $ref, anyOf, description }] of Object.entries<Any>(schema.properties ?? {})) {
      expect($ref ?? anyOf ?? description, `${name}.${property}`).toBeTruthy();
    }
  });

  it("can't be left without a name", () => {
    const schema = { operationId: "x", summary: "X", tags: [], body: z.object({}), response: {} };
    expect(() => openApiDocument({}, [{ method: "POST", url: "/x", schema }])).toThrow("needs a name: .meta({ id })");
  });

  it("describe every value of every enum", () => {
    const enums = [...objects(document)].filter(([, value]) => Array.isArray(value.enum));
    expect(enums.length).toBeGreaterThan(5);
    for (const [path, schema] of enums) {
      expect(Object.keys(schema["x-enumDescriptions"] ?? {}), path).toEqual(schema.enum);
      for (const [value, meaning] of Object.entries(schema["x-enumDescriptions"])) {
        expect(meaning, `${path} ${value}`).toMatch(/\S/);
        expect(schema.description, path).toContain(`- \`${value}\`: ${meaning}`);
      }
    }
  });

  it("are all referred to, and every reference leads somewhere", () => {
    const references = [...objects(document)].flatMap(([, value]) =>
      typeof value.$ref === "string" ? [value.$ref] : [],
    );
    for (const reference of references) expect(resolved({ $ref: reference }), reference).toBeDefined();
    for (const kind of ["schemas", "parameters", "headers", "responses", "examples"]) {
      const unused = Object.keys(document.components[kind]).filter(
        (name) => !references.includes(`#/components/${kind}/${name}`),
      );
      expect(unused, kind).toEqual([]);
    }
  });

  it("are written as 3.1 has it, and as generators take it", () => {
    for (const [path, value] of objects(document)) {
      expect(value, path).not.toHaveProperty("nullable");
      expect(value, path).not.toHaveProperty("$schema");
      if (typeof value.format === "string") expect(value, path).not.toHaveProperty("pattern");
    }
    for (const property of ["context", "checkpoint", "runtime_metadata"]) {
      for (const name of ["Session", "CreateSession", "UpdateSession"]) {
        const schema = document.components.schemas[name].properties[property];
        expect([schema.type].flat(), `${name}.${property}`).toContain("object");
        expect(schema.additionalProperties, `${name}.${property}`).toBe(true);
      }
    }
    expect(document.paths["/sessions/{id}"].get.responses[304]).not.toHaveProperty("content");
  });
});
