import { type IncomingMessage, request } from "node:http";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentId, startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

/** As it stands: the clients that know URLs would resolve the dots in it. */
async function ask(method: string, path: string, body?: object) {
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const asked = request(service.url, { method, path, headers: { "content-type": "application/json" } }, resolve);
    asked.on("error", reject).end(body && JSON.stringify(body));
  });
  const read = await text(answer);
  return { status: answer.statusCode, body: read === "" ? undefined : JSON.parse(read) };
}

/** Every byte of it as %XX. */
const encodedWhole = (externalId: string) => `%${Buffer.from(externalId).toString("hex").match(/../g)?.join("%")}`;

const externalIds = [
  "PROJ-42",
  "a/b",
  "/",
  "//",
  "a/",
  ".",
  "..",
  "../..",
  "%2F",
  "%",
  "100%",
  "%252F",
  "a+b c",
  " ",
  "a?b#c",
  "a;b=c&d",
  "\"quoted\" 'twice'",
  "back\\slash",
  "{a,b}",
  "%_*",
  "null",
  "events",
  "'; drop table sessions; --",
  "https://tracker.example/issue/42?x=y#z",
  "日本語",
  "é",
  "e\u0301",
  "👩🏽",
  "x".repeat(255),
  "👍".repeat(255),
];

describe("an external id in a path", () => {
  it("names the same session however it is encoded, with and without a slash behind it", async () => {
    const ids = new Set<string>();
    for (const externalId of externalIds) {
      const made = await ask("PUT", `/sessions/by-external-id/${encodedWhole(externalId)}`, { agent_id: agentId });
      expect([made.status, made.body.external_id], externalId).toEqual([201, externalId]);
      for (const spelled of [encodeURIComponent(externalId), encodedWhole(externalId).toUpperCase()]) {
        for (const slash of ["", "/"]) {
          const read = await ask("GET", `/sessions/by-external-id/${spelled}${slash}`);
          expect([read.status, read.body.id], `${externalId} as ${spelled}${slash}`).toEqual([200, made.body.id]);
        }
      }
      ids.add(made.body.id);
    }
    expect(ids.size).toBe(externalIds.length);
    for (const externalId of externalIds) {
      const path = `/sessions/by-external-id/${encodedWhole(externalId)}`;
      expect((await ask("DELETE", path)).status, externalId).toBe(204);
    }
  });

  it("400 when it is not encoded as it should be", async () => {
    for (const bad of ["%", "%zz", "a%2", "%E0%A4", "%ff", "%C0%AF", "%ED%A0%80"]) {
      for (const method of ["GET", "PUT", "DELETE"]) {
        const answer = await ask(method, `/sessions/by-external-id/${bad}`);
        expect(answer, `${method} ${bad}`).toMatchObject({ status: 400, body: { code: "malformed_request" } });
      }
    }
  });

  it("422 to a PUT, and 404 to others, when no session can have it; 414 when it is much too long", async () => {
    for (const bad of ["a\u0000b", "\n", "\u007f", "\u200e", "x".repeat(256), "👍".repeat(256)]) {
      const path = `/sessions/by-external-id/${encodeURIComponent(bad)}`;
      expect(await ask("PUT", path, { agent_id: agentId }), bad).toMatchObject({
        status: 422,
        body: { code: "validation_failed", errors: [{ parameter: "external_id" }] },
      });
      expect((await ask("GET", path)).status).toBe(404);
      expect((await ask("DELETE", path)).status).toBe(404);
    }
    expect((await ask("PUT", `/sessions/by-external-id/${"x".repeat(2_000)}`, {})).status).toBe(414);
  });

  it("404 when there is none, 405 to methods that it does not take", async () => {
    for (const path of ["/sessions/by-external-id", "/sessions/by-external-id/"]) {
      expect((await ask("PUT", path, { agent_id: agentId })).status).toBe(404);
      expect((await ask("GET", path)).status).toBe(404);
    }
    expect((await ask("POST", "/sessions/by-external-id/a", {})).status).toBe(405);
    expect((await ask("PATCH", "/sessions/by-external-id/a", {})).status).toBe(405);
  });
});
