/** Who may call: Host, Origin, keys. */

import { request as httpRequest } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentId, startTestService, type TestService } from "../support/service.ts";

interface Raw {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly body: string;
}

/** fetch refuses to send Host, Origin and Sec-Fetch-Site as it is told. */
function call(url: string, method: string, headers: Record<string, string>, body?: string): Promise<Raw> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { method, headers }, (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

const create = JSON.stringify({ agent_id: agentId });

describe("the Host of a request", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ ALLOWED_HOSTS: "sessions.internal" });
  });
  afterAll(() => service.stop());

  it("421 for a name that is not ours, on every path", async () => {
    for (const host of [
      "evil.example",
      "evil.example:8011",
      "127.0.0.1.evil.example",
      "localhost.evil.example",
      "[::2]",
    ]) {
      for (const path of ["/sessions/", "/health", "/nope", "/docs"]) {
        const answer = await call(`${service.url}${path}`, "GET", { host });
        expect(answer.status, `${host} ${path}`).toBe(421);
        expect(JSON.parse(answer.body).code).toBe("misdirected_request");
      }
    }
  });

  it("200 for loopback names and those that are allowed", async () => {
    for (const host of [
      "localhost",
      "localhost:8011",
      "LOCALHOST",
      "127.0.0.1:1",
      "127.1.2.3",
      "[::1]:80",
      "sessions.internal",
      "sessions.internal:80",
      "app.localhost",
    ]) {
      expect((await call(`${service.url}/health/live`, "GET", { host })).status, host).toBe(200);
    }
  });
});

describe("web pages", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ CORS_ORIGINS: "https://console.example.com" });
  });
  afterAll(() => service.stop());
  const own = () => service.url.slice("http://".length);

  it("403 to an unsafe request of a foreign one, whatever it calls its body", async () => {
    for (const headers of [
      { origin: "https://evil.example" },
      { origin: "null" },
      { origin: "http://127.0.0.1:1" },
      { "sec-fetch-site": "cross-site" },
      { "sec-fetch-site": "same-site" },
      { origin: "https://console.example.com.evil.example" },
    ] as Record<string, string>[]) {
      for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json"]) {
        const answer = await call(`${service.url}/sessions/`, "POST", { "content-type": type, ...headers }, create);
        expect(answer.status, JSON.stringify(headers)).toBe(403);
        expect(JSON.parse(answer.body).code).toBe("origin_forbidden");
      }
    }
    const [row] = await service.database.sql`select count(*)::int as sessions from sessions`;
    expect(row?.["sessions"]).toBe(0);
  });

  it("201 to its own pages, to allowed ones, and to what is no page", async () => {
    for (const headers of [
      {},
      { origin: `http://${own()}`, host: own() },
      { "sec-fetch-site": "same-origin" },
      { "sec-fetch-site": "none" },
      { origin: "https://console.example.com", "sec-fetch-site": "cross-site" },
    ] as Record<string, string>[]) {
      expect((await call(`${service.url}/sessions/`, "POST", headers, create)).status, JSON.stringify(headers)).toBe(
        201,
      );
    }
  });

  it("an allowed one gets CORS answers, another one none", async () => {
    const preflight = (origin: string) =>
      call(`${service.url}/sessions/`, "OPTIONS", {
        origin,
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "content-type,if-match",
      });
    const allowed = await preflight("https://console.example.com");
    expect(allowed).toMatchObject({
      status: 204,
      headers: { "access-control-allow-origin": "https://console.example.com" },
    });
    expect(allowed.headers["access-control-allow-methods"]).toMatch(/PATCH/);
    expect((await preflight("https://evil.example")).headers["access-control-allow-origin"]).toBeUndefined();
    const read = await call(`${service.url}/sessions/`, "GET", { origin: "https://console.example.com" });
    expect(read.headers["access-control-allow-origin"]).toBe("https://console.example.com");
    expect(read.headers["access-control-expose-headers"]).toMatch(/ETag/);
  });
});

describe("API keys", () => {
  const keys = ["first-key-123", "second-key-456"];
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ API_KEYS: keys.join(", "), CORS_ORIGINS: "https://console.example.com" });
  });
  afterAll(() => service.stop());

  it("401 without one, with a wrong one, and on unknown paths too", async () => {
    for (const headers of [
      {},
      { "x-api-key": "wrong" },
      { "x-api-key": "" },
      { authorization: "Bearer first-key-12" },
      { authorization: "Basic first-key-123" },
      { "x-api-key": `${keys[0]},${keys[1]}` },
    ] as Record<string, string>[]) {
      for (const path of ["/sessions/", "/nope", "/docs", "/openapi.json", "/healthy"]) {
        const answer = await service.request("GET", path, undefined, headers);
        expect(answer, path).toMatchObject({ status: 401, body: { code: "unauthorized" } });
        expect(answer.headers.get("www-authenticate")).toBe("Bearer");
      }
    }
  });

  it("200 with any of them, either way", async () => {
    for (const key of keys) {
      for (const headers of [
        { "x-api-key": key },
        { authorization: `Bearer ${key}` },
        { authorization: `bearer ${key}` },
      ] as Record<string, string>[]) {
        expect((await service.request("GET", "/sessions/", undefined, headers)).status).toBe(200);
      }
    }
  });

  it("health and preflights need none", async () => {
    for (const path of ["/health", "/health/", "/health/live", "/health/ready"]) {
      expect((await service.request("GET", path)).status, path).toBe(200);
    }
    const preflight = await call(`${service.url}/sessions/`, "OPTIONS", {
      origin: "https://console.example.com",
      "access-control-request-method": "POST",
    });
    expect(preflight.status).toBe(204);
  });
});
