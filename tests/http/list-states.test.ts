/** GET /sessions/ filtered by status, phase and state. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Phase } from "../../src/sessions/lifecycle.ts";
import { designFields, designRows, designVocabularies, designWords } from "../support/phases.ts";
import { type Answer, agentId, startTestService, type TestService } from "../support/service.ts";

const other = "00000000-0000-0000-0000-000000000000";

interface Listed {
  readonly id: string;
  readonly agent_id: string;
  readonly phase: Phase;
  readonly state?: string;
}

describe("GET /sessions/ by the words for a state", () => {
  let service: TestService;
  let all: readonly Listed[];
  beforeAll(async () => {
    service = await startTestService();
    const phases = designRows.map(({ phase }) => phase);
    // Five of each phase, mixed, some of them of the same microsecond; every fourth is another agent's.
    await service.database.sql`
      insert into sessions (id, agent_id, phase, created_at, updated_at, last_activity_at, phase_since)
      select gen_random_uuid(), case when n % 4 = 0 then ${other}::uuid else ${agentId}::uuid end,
        (${phases}::text[])[1 + n * 7 % 15], at, at, at, at
      from generate_series(0, 74) n, lateral (select timestamptz '2026-01-01T00:00:00Z' + n / 2 * interval '1 second') t (at)`;
    await service.database.sql`
      insert into sessions (id, agent_id, phase, created_at, updated_at, last_activity_at, phase_since, deleted_at)
      select gen_random_uuid(), ${agentId}, unnest(${phases}::text[]), now(), now(), now(), now(), now()`;
    all = (await list("limit=1000")).body;
    expect(all).toHaveLength(75);
  });
  afterAll(() => service.stop());
  const list = (query: string) => service.request("GET", `/sessions/?${query}`);
  const ids = (sessions: readonly Listed[]) => sessions.map(({ id }) => id);
  const within = (...means: readonly (readonly Phase[])[]) =>
    all.filter(({ phase }) => means.every((set) => set.includes(phase)));
  const phasesOf = (field: (typeof designFields)[number], word: string) =>
    designWords(field).find((known) => known.word === word)?.means ?? [];
  const nextOf = (answer: Answer) => /<([^>]+)>; rel="next"/.exec(answer.headers.get("link") ?? "")?.[1];

  /** Follows the links to the end. */
  async function walk(query: string): Promise<Listed[]> {
    const seen: Listed[] = [];
    for (let path: string | undefined = `/sessions/?${query}`; path !== undefined; ) {
      const answer: Answer = await service.request("GET", path);
      expect(answer.status, answer.text).toBe(200);
      seen.push(...answer.body);
      path = nextOf(answer);
    }
    return seen;
  }

  it.each(designFields)("200 a word of the filter %s means its phases, in any case", async (field) => {
    for (const { word, means } of designWords(field)) {
      const expected = ids(within(means));
      expect(expected.length, word).toBeGreaterThan(0);
      expect(ids((await list(`${field}=${word}`)).body), word).toEqual(expected);
      expect(ids((await list(`${field}=%20${word.toUpperCase()}`)).body), word).toEqual(expected);
    }
  });

  it("200 any of several words of a filter will do, repeated or with commas; of several filters all must hold", async () => {
    const paused = phasesOf("status", "paused");
    for (const [query, expected] of [
      ["status=paused,completed", within([...paused, "completed"])],
      ["status=paused&status=completed&status=paused", within([...paused, "completed"])],
      ["status=crashed,failed", within(phasesOf("status", "crashed"))],
      ["status=active&phase=busy,paused", within(["busy"])],
      ["status=active&state=READY", within(["running", "ready", "stopping"])],
      ["state=IDLE&status=paused,completed&phase=stopped,completed,busy", within(["stopped", "completed"])],
      ["status=active,paused,completed,crashed", all],
      ["status=active&phase=crashed", []],
      ["phase=Timeout&state=ERROR", within(["timed_out"])],
    ] as const) {
      expect(ids((await list(query)).body), query).toEqual(ids(expected));
    }
  });

  it("200 walks all pages, each session once, newest first, with every combination of filters", async () => {
    for (const state of [
      "status=crashed",
      "phase=busy,waiting_input",
      "state=READY,IDLE",
      "status=active,paused,completed",
    ]) {
      const [field = "status", words = ""] = state.split("=") as [(typeof designFields)[number], string];
      const expected = within(words.split(",").flatMap((word) => phasesOf(field, word)));
      for (const agent of [undefined, agentId, other]) {
        const mine = ids(expected.filter(({ agent_id: of }) => agent === undefined || of === agent));
        const query = agent === undefined ? state : `${state}&agent_id=${agent}`;
        for (const limit of [1, 4, mine.length, 1_000])
          expect(ids(await walk(`${query}&limit=${limit}`)), `${query} ${limit}`).toEqual(mine);
      }
    }
  });

  it("200 the link keeps the filters and the vocabulary", async () => {
    const link =
      nextOf(await list("STATUS=x&status=Crashed&status=busy&state=error,busy&vocabulary=container&limit=2")) ?? "";
    const parameters = Object.fromEntries(new URL(link, service.url).searchParams);
    expect(parameters).toEqual({
      status: "Crashed,busy",
      state: "error,busy",
      vocabulary: "container",
      limit: "2",
      cursor: expect.any(String),
    });
  });

  it.each(designVocabularies)(
    "200 gives each session its word of the vocabulary %s, on every page",
    async (vocabulary) => {
      const words = Object.fromEntries(designRows.map((row) => [row.phase, row[vocabulary]]));
      const seen = await walk(`status=active,crashed&limit=7&vocabulary=${vocabulary}`);
      expect(seen.map(({ phase, state }) => [phase, state])).toEqual(seen.map(({ phase }) => [phase, words[phase]]));
      expect(seen).toHaveLength(55);
    },
  );

  it("200 the same filter in other words goes on from the same cursor; 400 with another filter", async () => {
    const cursor = new URL(nextOf(await list("status=crashed&limit=2")) ?? "", service.url).searchParams.get("cursor");
    const rest = ids(within(phasesOf("status", "crashed"))).slice(2);
    for (const query of ["status=crashed", "state=ERROR", "phase=expired,timed_out,crashed,failed"])
      expect(ids((await list(`${query}&cursor=${cursor}`)).body), query).toEqual(rest);
    for (const query of ["", "status=failed", "status=crashed,completed", `status=crashed&agent_id=${agentId}`]) {
      const answer = await list(`${query}&cursor=${cursor}`);
      expect([query, answer]).toMatchObject([query, { status: 400, body: { code: "invalid_cursor" } }]);
    }
  });

  it("200 ends a page early when its documents are heavy, and links the rest", async () => {
    await using own = await startTestService();
    const context = { text: "x".repeat(7 * 1024 * 1024) };
    for (let n = 0; n < 6; n++) await own.create({ context, status: n % 2 === 0 ? "active" : "pending" });
    await own.create({ agent_id: other });
    const first = await own.request("GET", `/sessions/?limit=10&status=active&agent_id=${agentId}`);
    expect(first.body).toHaveLength(4);
    expect((await own.request("GET", nextOf(first) ?? "")).body).toHaveLength(2);
  });

  it.each(designFields)("422 for a %s that is no word, with those there are", async (field) => {
    for (const text of ["", "done", "__proto__", "paused,", "paused,,active", "active;paused", "crashed*"]) {
      const answer = await list(`${field}=${encodeURIComponent(text)}`);
      expect([text, answer]).toMatchObject([text, { status: 422, body: { errors: [{ parameter: field }] } }]);
      const words = designWords(field).map(({ word }) => word);
      const named = answer.body.errors[0].detail.replace("must be of ", "").split(", ");
      expect(new Set(named)).toEqual(new Set(words));
    }
  });
});
