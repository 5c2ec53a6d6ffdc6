import { crc32 } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, agentId, startTestService, type TestService } from "../support/service.ts";

const other = "00000000-0000-0000-0000-000000000000";

describe("GET /sessions/", () => {
  let service: TestService;
  const ids: string[] = [];
  beforeAll(async () => {
    service = await startTestService();
    for (let n = 0; n < 25; n++)
      ids.unshift(await service.create({ agent_id: n % 5 === 0 ? other : agentId, context: { n } }));
  });
  afterAll(() => service.stop());
  const list = (query: string) => service.request("GET", `/sessions/${query}`);
  const idsOf = (answer: Answer) => answer.body.map((session: { id: string }) => session.id);

  /** Follows the links to the end. */
  async function walk(query: string): Promise<string[]> {
    const seen: string[] = [];
    for (let path: string | undefined = `/sessions/${query}`; path !== undefined; ) {
      const answer: Answer = await service.request("GET", path);
      expect(answer.status).toBe(200);
      seen.push(...idsOf(answer));
      path = /<([^>]+)>; rel="next"/.exec(answer.headers.get("link") ?? "")?.[1];
    }
    return seen;
  }

  it("200 gives a bare array, newest first, of whole sessions", async () => {
    const answer = await list("");
    expect(idsOf(answer)).toEqual(ids);
    expect(answer.body[0]).toEqual((await service.request("GET", `/sessions/${ids[0]}`)).body);
    expect((await service.request("GET", "/sessions")).text).toBe(answer.text);
    expect(answer.headers.get("link")).toBeNull();
  });

  it("200 filters by agent, whatever its case", async () => {
    for (const agent of [agentId, agentId.toUpperCase()])
      expect((await list(`?agent_id=${agent}`)).body).toHaveLength(20);
    expect((await list("?agent_id=11111111-1111-1111-1111-111111111111")).text).toBe("[]");
  });

  it("200 walks all pages, each session once, in order", async () => {
    expect(await walk("?limit=4")).toEqual(ids);
    expect(await walk("?limit=25")).toEqual(ids);
    expect(await walk(`?limit=3&agent_id=${other}`)).toEqual(ids.filter((_, at) => (24 - at) % 5 === 0));
  });

  it("200 keeps sessions apart that were created in the same microsecond", async () => {
    await using own = await startTestService();
    for (let n = 0; n < 9; n++) await own.create();
    await own.database.sql`update sessions set created_at = '2026-01-01T00:00:00.000001Z'`;
    const seen: string[] = [];
    for (let path: string | undefined = "/sessions/?limit=2"; path !== undefined; ) {
      const answer: Answer = await own.request("GET", path);
      seen.push(...idsOf(answer));
      path = /<([^>]+)>/.exec(answer.headers.get("link") ?? "")?.[1];
    }
    expect(new Set(seen).size).toBe(9);
    expect(seen).toHaveLength(9);
  });

  it("200 serves 1,000 at most, and 100 unless asked", async () => {
    await using own = await startTestService();
    await own.database.sql`
      insert into sessions (id, agent_id, created_at, updated_at, last_activity_at, phase_since)
      select gen_random_uuid(), ${agentId}, now(), now(), now(), now() from generate_series(1, 1050)`;
    for (const [query, length] of [
      ["", 100],
      ["?limit=1000000000", 1000],
      ["?limit=1e9", 1000],
      ["?limit=1001", 1000],
      ["?limit=7", 7],
    ] as const) {
      const answer = await own.request("GET", `/sessions/${query}`);
      expect(answer.body, query).toHaveLength(length);
      expect(answer.headers.get("link")).toMatch(/rel="next"/);
    }
  });

  it("200 ends a page early when its documents are heavy, and links the rest", async () => {
    await using own = await startTestService();
    const context = { text: "x".repeat(7 * 1024 * 1024) };
    for (let n = 0; n < 6; n++) await own.create({ context });
    const first = await own.request("GET", "/sessions/?limit=10");
    expect(first.body).toHaveLength(4);
    const next = /<([^>]+)>/.exec(first.headers.get("link") ?? "")?.[1] ?? "";
    expect((await own.request("GET", next)).body).toHaveLength(2);
  });

  it("200 ignores parameters that it does not know, 422 names them to who asks for strictness", async () => {
    expect((await list("?foo=1")).status).toBe(200);
    const strict = await service.request("GET", "/sessions/?foo=1", undefined, { prefer: "handling=strict" });
    expect(strict).toMatchObject({ status: 422, body: { errors: [{ parameter: "foo" }] } });
  });

  it.each(["limit=0", "limit=-1", "limit=abc", "limit=", "limit=1.5", "limit=1&limit=2", "agent_id=abc", "agent_id="])(
    "422 for %s, and names the parameter",
    async (query) => {
      const answer = await list(`?${query}`);
      expect(answer).toMatchObject({ status: 422, body: { code: "validation_failed" } });
      expect(answer.body.errors[0].parameter).toBe(query.split("=")[0]);
    },
  );

  it("400 for a cursor that was altered, cut, or made for other filters", async () => {
    const link = (await list("?limit=2")).headers.get("link") ?? "";
    const cursor = /cursor=([^>&]+)/.exec(link)?.[1] ?? "";
    expect((await list(`?cursor=${cursor}`)).status).toBe(200);
    const altered = [...cursor].map(
      (char, at) => cursor.slice(0, at) + (char === "A" ? "B" : "A") + cursor.slice(at + 1),
    );
    const bad = [
      ...altered,
      cursor.slice(1),
      cursor.slice(0, -1),
      `${cursor}=`,
      "",
      "x",
      "%00",
      "a|b|c",
      `${cursor}&agent_id=${agentId}`,
    ];
    for (const one of bad)
      expect(await list(`?cursor=${one}`), one).toMatchObject({ status: 400, body: { code: "invalid_cursor" } });
  });

  it("400 for a cursor that somebody made, its checksum right", async () => {
    const made = (payload: string) =>
      Buffer.from(`${payload}|${crc32(`${payload}\n`).toString(36)}`).toString("base64url");
    const id = "00000000-0000-0000-0000-000000000000";
    expect((await list(`?cursor=${made(`2030-01-01T00:00:00.000000Z|${id}`)}`)).body).toHaveLength(25);
    for (const payload of [
      `yesterday|${id}`,
      `0000-01-01T00:00:00.000000Z|${id}`,
      `2026-02-31T00:00:00.000000Z|${id}`,
      `2026-01-01T25:00:00.000000Z|${id}`,
      "2030-01-01T00:00:00.000000Z|me",
      "|",
    ]) {
      expect(await list(`?cursor=${made(payload)}`), payload).toMatchObject({ status: 400 });
    }
  });
});
