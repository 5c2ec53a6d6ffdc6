/** HTTP as it should be, on every path alike. */

import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { listen } from "../../src/http/server.ts";
import { agentId, send, startTestService, type TestService } from "../support/service.ts";

/** Sends bytes as they are, and gives all that comes back until the connection is closed. */
function raw(url: string, text: string, { trickle = "" } = {}): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => socket.write(text));
    const drip = trickle === "" ? undefined : setInterval(() => socket.write(trickle), 50);
    let received = "";
    socket.on("data", (chunk) => {
      received += chunk.toString();
    });
    socket.on("error", reject);
    socket.on("close", () => {
      clearInterval(drip);
      resolve(received);
    });
  });
}

describe("every path", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  it("404 names the path that nothing answers", async () => {
    for (const path of ["/", "/nope", "/sessions/a/b/c", "/healthz"]) {
      expect(await service.request("GET", path), path).toMatchObject({
        status: 404,
        body: { status: 404, instance: path, code: "route_not_found" },
      });
    }
  });

  it("405 says in Allow what the path takes", async () => {
    const id = await service.create();
    for (const [method, path, allow] of [
      ["DELETE", "/sessions/", "GET, HEAD, POST"],
      ["PUT", "/sessions", "GET, HEAD, POST"],
      ["POST", `/sessions/${id}`, "DELETE, GET, HEAD, PATCH, PUT"],
      ["POST", `/sessions/${id}/`, "DELETE, GET, HEAD, PATCH, PUT"],
      ["DELETE", "/health/live", "GET, HEAD"],
    ] as const) {
      const answer = await service.request(method, path);
      expect(answer, `${method} ${path}`).toMatchObject({ status: 405, body: { code: "method_not_allowed" } });
      expect(answer.headers.get("allow")).toBe(allow);
    }
    expect(
      await raw(service.url, "PROPFIND /sessions/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    ).toMatch(/^HTTP\/1.1 405 /);
  });

  it("406 to a client that takes no JSON", async () => {
    const get = (accept: string) => service.request("GET", "/sessions/", undefined, { accept });
    for (const accept of ["text/html", "application/xml, text/*;q=0.5", "application/json;q=0"]) {
      expect(await get(accept), accept).toMatchObject({ status: 406, body: { code: "not_acceptable" } });
    }
    for (const accept of [
      "*/*",
      "application/*",
      "application/json",
      "text/html, application/json;q=0.1",
      "text/html,*/*;q=0.8",
    ]) {
      expect((await get(accept)).status, accept).toBe(200);
    }
  });

  it("a request's id is the client's if it is sane, else a new one", async () => {
    const id = async (given: string) =>
      (await service.request("GET", "/health/live", undefined, { "x-request-id": given })).headers.get("x-request-id");
    expect(await id("abc-123/4.5:6")).toBe("abc-123/4.5:6");
    for (const bad of ["a b", "x".repeat(129), '"', "ä", ""]) expect(await id(bad), bad).toMatch(/^[0-9a-f-]{36}$/);
  });

  it.each([
    "application/json",
    "application/json; charset=utf-8",
    "APPLICATION/JSON",
    "text/plain",
    "text/plain;charset=UTF-8",
    "application/x-www-form-urlencoded",
  ])("reads %s as JSON", async (type) => {
    const answer = await service.request("POST", "/sessions/", { agent_id: agentId }, { "content-type": type });
    expect(answer.status).toBe(201);
  });

  it("reads a body without any type as JSON", async () => {
    const body = JSON.stringify({ agent_id: agentId });
    const answer = await raw(
      service.url,
      `POST /sessions/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    expect(answer).toMatch(/^HTTP\/1.1 201 /);
  });

  it("400 to a POST without a body", async () => {
    expect(await service.request("POST", "/sessions/")).toMatchObject({
      status: 400,
      body: { code: "malformed_json" },
    });
  });

  it("400 to what is not HTTP, 431 to endless headers", async () => {
    expect(await raw(service.url, "hello\r\n\r\n")).toMatch(/^HTTP\/1.1 400 [\s\S]*"code":"malformed_request"/);
    expect(await raw(service.url, "GET / HTTP/1.1\r\n\r\n")).toMatch(/^HTTP\/1.1 400 /);
    const headers = Array.from({ length: 400 }, (_, n) => `X-${n}: ${"x".repeat(100)}\r\n`).join("");
    expect(await raw(service.url, `GET / HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`)).toMatch(
      /^HTTP\/1.1 431 [\s\S]*"code":"headers_too_large"/,
    );
  });

  it("404 or 414, never 500, for paths that are odd", async () => {
    for (const path of [
      "/sessions/%",
      "/sessions/%ff",
      "/sessions/%E0%A4%A",
      `/sessions/${"x".repeat(5_000)}`,
      "/sessions/../sessions/",
      "/sessions/;a=b",
      "//",
      "/sessions/\u0000",
    ]) {
      const answer = await raw(service.url, `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
      expect(answer, path).toMatch(/^HTTP\/1.1 4\d\d /);
      expect(answer, path).toContain("application/problem+json");
      expect(answer, path).toMatch(/x-request-id: [0-9a-f-]{36}/i);
    }
  });

  it("the docs and the OpenAPI file are served", async () => {
    expect((await service.request("GET", "/openapi.json")).body.openapi).toMatch(/^3\.1/);
    expect((await service.request("GET", "/openapi.yaml")).text).toMatch(/^openapi: ["']?3\.1/);
    const docs = await fetch(`${service.url}/docs`);
    expect(docs.status).toBe(200);
    expect(docs.headers.get("content-type")).toMatch(/html/);
  });
});

describe("slow clients", () => {
  it("408 ends headers and bodies that trickle", async () => {
    const server = await listen("127.0.0.1", 0, {
      headersTimeout: 300,
      requestTimeout: 600,
      connectionsCheckingInterval: 50,
    });
    server.serve((request, response) => {
      request.resume().on("end", () => response.end("ok"));
    });
    try {
      const headers = await raw(server.url, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", { trickle: "x" });
      expect(headers).toMatch(/^HTTP\/1.1 408 [\s\S]*"code":"request_timeout"/);
      const body = await raw(server.url, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", {
        trickle: "x",
      });
      expect(body).toMatch(/^HTTP\/1.1 408 [\s\S]*"code":"request_timeout"/);
    } finally {
      await server.drain(0);
    }
  });

  it("503 while the service is starting, and it lives", async () => {
    const server = await listen("127.0.0.1", 0);
    try {
      const answer = await send(`${server.url}/sessions/`, "GET");
      expect(answer).toMatchObject({ status: 503, body: { code: "starting" } });
      expect(answer.headers.get("retry-after")).toBe("1");
      expect((await send(`${server.url}/health/ready`, "GET")).status).toBe(503);
      expect((await send(`${server.url}/health/live`, "GET")).status).toBe(200);
    } finally {
      await server.drain(0);
    }
  });
});
