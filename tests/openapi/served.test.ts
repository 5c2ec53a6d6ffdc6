/** The OpenAPI file and the docs as the service serves them. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

const checkedIn = (name: string) =>
  readFileSync(fileURLToPath(new URL(`../../openapi/${name}`, import.meta.url)), "utf8");

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

describe("the OpenAPI file", () => {
  it.each([
    ["/openapi.json", "openapi.json", "application/json; charset=utf-8"],
    ["/openapi.yaml", "openapi.yaml", "application/yaml; charset=utf-8"],
  ])("200 %s is the one that is checked in", async (path, name, type) => {
    const { status, headers, text } = await service.request("GET", path);
    expect([status, headers.get("content-type")]).toEqual([200, type]);
    expect(text).toBe(checkedIn(name));
  });

  it("has examples that the service takes", async () => {
    const { examples } = JSON.parse(checkedIn("openapi.json")).components;
    const bodiesOf = (schema: string) =>
      Object.entries<{ value: object }>(examples)
        .filter(([name]) => name.startsWith(`${schema}.`))
        .map(([name, { value }]) => ({ name, value }));
    expect(bodiesOf("CreateSession").length * bodiesOf("UpdateSession").length).toBeGreaterThan(0);
    for (const { name, value } of bodiesOf("CreateSession")) {
      const { status, body } = await service.request("POST", "/sessions/", value, { prefer: "handling=strict" });
      expect(status, name).toBe(201);
      expect(body, name).toMatchObject(value);
    }
    for (const { name, value } of bodiesOf("UpdateSession")) {
      const path = `/sessions/${await service.create()}`;
      const { status, body } = await service.request("PATCH", path, value, { prefer: "handling=strict" });
      expect(status, name).toBe(200);
      expect(body, name).toMatchObject(value);
    }
  });

  it("names every member of a session, and no other", async () => {
    const { Session } = JSON.parse(checkedIn("openapi.json")).components.schemas;
    const path = `/sessions/${await service.create()}`;
    const told = await service.request("GET", `${path}?vocabulary=coding`);
    expect(Object.keys(told.body)).toEqual(Object.keys(Session.properties));
    const { body } = await service.request("GET", path);
    expect(Object.keys(body)).toEqual(Session.required);
    expect(Session.required).toEqual(Object.keys(Session.properties).filter((name) => name !== "state"));
  });
});

describe("the docs", () => {
  it.each(["/docs", "/docs/"])("200 %s, with all that it loads, from this service alone", async (path) => {
    const page = await service.request("GET", path);
    expect(page.status).toBe(200);
    expect(page.headers.get("content-type")).toMatch(/^text\/html/);
    expect(page.text).not.toMatch(/(href|src)\s*=\s*["'](https?:)?\/\//);
    const assets = [...page.text.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, asset = ""]) => asset);
    expect(assets.length).toBeGreaterThan(4);
    for (const asset of [...assets, "./json"]) {
      const url = new URL(asset, `${service.url}/docs/`);
      const { status, text, headers } = await service.request("GET", url.pathname);
      expect([asset, status]).toEqual([asset, 200]);
      expect(text.length, asset).toBeGreaterThan(0);
      // What a style sheet names is fetched; what a script names in a message or a namespace is not.
      if (headers.get("content-type")?.startsWith("text/css"))
        expect(text).not.toMatch(/(url\(|@import)\s*["']?(https?:)?\/\//);
    }
  });

  it("tells browsers to load nothing from anywhere else", async () => {
    const { headers } = await service.request("GET", "/docs");
    const policy = headers.get("content-security-policy") ?? "";
    expect(policy).toContain("default-src 'self'");
    expect(policy).not.toMatch(/https?:|\*|[a-z]\.[a-z]/);
  });

  it("asks no validator on another host", async () => {
    const { text } = await service.request("GET", "/docs/static/swagger-initializer.js");
    expect(text).toMatch(/validatorUrl"?:\s*null/);
    expect(text).not.toMatch(/validatorUrl"?:\s*["']/);
  });
});
