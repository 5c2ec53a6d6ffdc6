/** Which sessions a list and a search are of: each filter against what a look at every session gives. */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, startTestService, type TestService } from "../support/service.ts";

const agents = [1, 2, 3].map((n) => `00000000-0000-4000-8000-00000000000${n}`);
const names = ["Fix the modal", "Fix_the%modal", "fix", "Fix", "Ünïcode 🎉", "z"];

describe("finding sessions", () => {
  let service: TestService;
  // biome-ignore lint/suspicious/noExplicitAny: answers are what is tested
  let all: any[];
  beforeAll(async () => {
    service = await startTestService();
    for (let n = 0; n < 60; n++) {
      const id = await service.create({
        agent_id: agents[n % 3],
        session_type: ["conversation", "task", "a,b"][n % 7] ?? "batch",
        runtime_backend: ["local", "kubernetes", "unknown"][n % 5],
        context: { user: { id: n % 4 }, tags: [n] },
        ...(n % 3 === 0 ? {} : { name: names[n % names.length] }),
        ...(n % 5 === 4 ? { external_id: `ticket ${n}/ü` } : {}),
        metadata: { team: { name: `team ${n % 2}` }, n },
        labels: {
          ...(n % 2 === 0 ? { team: n % 4 === 0 ? "search" : "ads:eu" } : {}),
          ...(n % 6 === 0 ? { "a:b": "" } : {}),
        },
      });
      if (n % 4 === 1)
        await service.request("PATCH", `/sessions/${id}`, { status: n % 8 === 1 ? "completed" : "crashed" });
      if (n % 10 === 9) await service.request("DELETE", `/sessions/${id}`);
      if (n % 9 === 2) await service.request("POST", `/sessions/${id}/lease`, { worker_id: `worker-${n % 2}` });
    }
    const rows = await service.database.sql`select id, deleted_at is not null as deleted from sessions`;
    const deleted = new Map(rows.map((row) => [row["id"], row["deleted"]]));
    await service.database
      .sql`create table kept_deleted as select id, deleted_at from sessions where deleted_at is not null`;
    await service.database.sql`update sessions set deleted_at = null`;
    all = (await service.request("GET", "/sessions/?limit=1000")).body.map((session: { id: string }) => ({
      ...session,
      deleted: deleted.get(session.id),
    }));
    await service.database.sql`update sessions s set deleted_at = k.deleted_at from kept_deleted k where k.id = s.id`;
  });
  afterAll(() => service.stop());

  const idsOf = (answer: Answer) => answer.body.map((session: { id: string }) => session.id);

  /** Follows the links to the end. */
  async function walk(query: string): Promise<string[]> {
    const seen: string[] = [];
    for (let path: string | undefined = `/sessions/${query}`; path !== undefined; ) {
      const answer: Answer = await service.request("GET", path);
      expect(answer, path).toMatchObject({ status: 200 });
      seen.push(...idsOf(answer));
      path = /<([^>]+)>; rel="next"/.exec(answer.headers.get("link") ?? "")?.[1];
    }
    return seen;
  }

  const middle = () => all[30].created_at as string;

  // biome-ignore lint/suspicious/noExplicitAny: answers are what is tested
  type Is = (session: any) => boolean;
  const ended = (session: { ended_at: string | null }) => session.ended_at ?? "";
  /** A query, what it is of, and whether it leaves few. */
  const filters: readonly { query: () => string; is: Is; selective?: true }[] = [
    { query: () => `agent_id=${agents[0]}`, is: (s) => s.agent_id === agents[0], selective: true },
    {
      query: () => `agent_id=${agents[0]}&agent_id=${agents[2]?.toUpperCase()}`,
      is: (s) => s.agent_id === agents[0] || s.agent_id === agents[2],
      selective: true,
    },
    { query: () => "status=active", is: (s) => s.status === "active" },
    { query: () => "status=crashed,completed", is: (s) => ["crashed", "completed"].includes(s.status) },
    { query: () => "phase=crashed", is: (s) => s.phase === "crashed" },
    { query: () => "session_type=task", is: (s) => s.session_type === "task" },
    { query: () => "session_type=batch&session_type=task", is: (s) => ["batch", "task"].includes(s.session_type) },
    { query: () => "runtime_backend=kubernetes", is: (s) => s.runtime_backend === "kubernetes" },
    { query: () => "runtime_backend=kubernetes,local", is: (s) => s.runtime_backend !== "unknown" },
    { query: () => "name=Fix", is: (s) => s.name === "Fix", selective: true },
    { query: () => "name_prefix=Fix", is: (s) => s.name?.startsWith("Fix") ?? false, selective: true },
    {
      query: () => `name_prefix=${encodeURIComponent("Fix_the%")}`,
      is: (s) => s.name === "Fix_the%modal",
      selective: true,
    },
    {
      query: () => `name_prefix=${encodeURIComponent("Ünïcode 🎉")}`,
      is: (s) => s.name === "Ünïcode 🎉",
      selective: true,
    },
    // One is deleted, the other is not.
    { query: () => "external_id=ticket%209%2F%C3%BC", is: (s) => s.external_id === "ticket 9/ü", selective: true },
    { query: () => "external_id=ticket%2014%2F%C3%BC", is: (s) => s.external_id === "ticket 14/ü", selective: true },
    { query: () => "lease_owner=worker-1", is: (s) => s.lease_owner === "worker-1", selective: true },
    { query: () => "label=team", is: (s) => "team" in s.labels, selective: true },
    { query: () => "label=team:search", is: (s) => s.labels.team === "search", selective: true },
    { query: () => "label=team:ads:eu", is: (s) => s.labels.team === "ads:eu", selective: true },
    { query: () => "label=a%5C:b", is: (s) => "a:b" in s.labels, selective: true },
    {
      query: () => "label=a%5C:b:&label=team:search",
      is: (s) => s.labels["a:b"] === "" && s.labels.team === "search",
      selective: true,
    },
    { query: () => "label=team&label=team:search", is: (s) => s.labels.team === "search", selective: true },
    { query: () => `created_after=${middle()}`, is: (s) => s.created_at >= middle() },
    { query: () => `created_before=${middle()}`, is: (s) => s.created_at < middle() },
    { query: () => `ended_after=${middle()}`, is: (s) => ended(s) >= middle() },
    { query: () => `ended_before=${middle()}`, is: (s) => ended(s) !== "" && ended(s) < middle() },
  ];
  const besides: readonly { query: () => string; is: Is }[] = [
    { query: () => `updated_after=${middle()}`, is: (s) => s.updated_at >= middle() },
    { query: () => `updated_before=${middle()}`, is: (s) => s.updated_at < middle() },
    { query: () => "metadata.team.name=team%201", is: (s) => s.metadata.team.name === "team 1" },
    { query: () => "metadata%5Bteam.name%5D=team%201", is: (s) => s.metadata.team.name === "team 1" },
    { query: () => "metadata.n=7&metadata.team.name=team%201", is: (s) => s.metadata.n === 7 },
    { query: () => `context_contains=${encodeURIComponent('{"user":{"id":2}}')}`, is: (s) => s.context.user.id === 2 },
  ];

  it("200 by each filter, and by any of them together, in pages of any size, each session once and in order", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.nat(filters.length - 1), { maxLength: 3 }),
        fc.uniqueArray(fc.nat(besides.length - 1), { maxLength: 2 }),
        fc.constantFrom("", "created_at", "-created_at", "updated_at", "-updated_at", "name", "-name"),
        fc.constantFrom(2, 7, 100),
        fc.boolean(),
        async (some, others, sort, limit, includeDeleted) => {
          const chosen = some.flatMap((at) => filters[at] ?? []);
          const names = new Set<string>();
          const isNew = ({ query }: { query: () => string }) => {
            const keys = [...new URLSearchParams(query()).keys()].map((key) => key.replace(/[.[].*/, ""));
            const isFresh = keys.every((key) => !names.has(key));
            for (const key of keys) names.add(key);
            return isFresh;
          };
          const given = chosen.filter(isNew);
          const isSelective = given.some(({ selective }) => selective);
          if (isSelective) given.push(...others.flatMap((at) => besides[at] ?? []).filter(isNew));
          const by = isSelective ? sort : sort.replace(/updated_at|name/, "created_at");
          const expected = all.filter((s) => (includeDeleted || !s.deleted) && given.every(({ is }) => is(s)));
          const key = (by.replace("-", "") || "created_at") as "name";
          const place = (s: { name: string | null; id: string }) => Buffer.from(`${s[key] ?? ""}\0${s.id}`);
          expected.sort((a, b) => Buffer.compare(place(a), place(b)));
          if (by === "" || by.startsWith("-")) expected.reverse();
          const query = [
            ...given.map((one) => one.query()),
            ...(by === "" ? [] : [`sort=${by}`]),
            ...(includeDeleted ? ["include_deleted=true"] : []),
            `limit=${limit}`,
          ].join("&");
          expect(await walk(`?${query}`), query).toEqual(expected.map(({ id }) => id));
          const counted = await service.request("GET", `/sessions/?${query}&count=exact`);
          expect(counted.headers.get("x-total-count"), query).toBe(String(expected.length));
          const facets = await service.request("GET", `/sessions/facets?${query}`);
          expect(facets.body, query).toMatchObject({ total: expected.length, complete: true });
          expect(Object.values(facets.body.phase).reduce((sum: number, n) => sum + Number(n), 0)).toBe(expected.length);
        },
      ),
      { numRuns: 80 },
    );
  }, 60_000);

  it("200 for each filter alone", async () => {
    for (const { query, is } of filters) {
      const expected = all.filter((s) => !s.deleted && is(s)).map(({ id }) => id);
      expect(await walk(`?${query()}`), query()).toEqual(expected);
    }
  });

  it("200 shows the fields that were asked for, in the order of the schema, and no others", async () => {
    const { body } = await service.request("GET", "/sessions/?fields=phase,id&fields=labels&limit=1");
    expect(Object.keys(body[0])).toEqual(["id", "phase", "labels"]);
    const whole = await service.request("GET", "/sessions/?limit=1&fields=context,metadata");
    const [first] = all.filter(({ deleted }) => !deleted);
    expect(whole.body).toEqual([{ context: first.context, metadata: first.metadata }]);
  });

  it("200 a summary has no large documents, but what they weigh, and nothing that is not set", async () => {
    const { body } = await service.request("GET", "/sessions/?view=summary&limit=1");
    const [first] = all.filter(({ deleted }) => !deleted);
    expect(body[0]).toMatchObject({
      id: first.id,
      phase: first.phase,
      context_bytes: first.context_bytes,
      checkpoint_bytes: 0,
      runtime_metadata_bytes: 2,
    });
    for (const name of ["context", "checkpoint", "runtime_metadata", "error", "model"])
      expect(body[0]).not.toHaveProperty(name);
  });

  it("200 a search finds what a list does, and leads to the next page by its cursor", async () => {
    const expected = all.filter((s) => !s.deleted && s.labels.team === "search").map(({ id }) => id);
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const answer: Answer = await service.request("POST", "/sessions/search", {
        label: ["team:search"],
        metadata: { "team.name": "team 0" },
        context_contains: { user: { id: 0 } },
        limit: 4,
        count: "exact",
        ...(cursor === undefined ? {} : { cursor }),
      });
      expect(answer.status, answer.text).toBe(200);
      expect(answer.headers.get("x-total-count")).toBe(String(expected.length));
      seen.push(...idsOf(answer));
      cursor = answer.headers.get("x-next-cursor") ?? undefined;
    } while (cursor !== undefined);
    expect(seen).toEqual(expected);
    const every = await service.request("POST", "/sessions/search", { all: true });
    expect(every.body).toHaveLength(all.filter((s) => !s.deleted).length);
  });

  it.each([
    ["sort=size", "sort"],
    ["sort=updated_at", "sort"],
    ["sort=-name&status=active", "sort"],
    ["fields=id,size", "fields"],
    ["view=short", "view"],
    ["count=about", "count"],
    ["created_after=yesterday", "created_after"],
    ["ended_before=2026-02-31T00:00:00Z", "ended_before"],
    ["updated_after=2026-01-01T00:00:00Z", "updated_after"],
    ["metadata.a=1", "metadata"],
    ["metadata.=1", "metadata"],
    ["metadata=1", "metadata"],
    ["context_contains=%7B%7D", "context_contains"],
    ["agent_id=00000000-0000-4000-8000-000000000001&context_contains=[]", "context_contains"],
    ["agent_id=00000000-0000-4000-8000-000000000001&context_contains=%7B", "context_contains"],
    ["runtime_backend=cloud", "runtime_backend"],
    ["name=", "name"],
    ["name=a&name=b", "name"],
    ["label=", "label"],
    ["label=:x", "label"],
    [`label=${Array.from({ length: 11 }, (_, at) => `l${at}`).join("&label=")}`, "label"],
    ["include_deleted=maybe", "include_deleted"],
    ["lease_owner=%00", "lease_owner"],
    ["name_prefix=%00", "name_prefix"],
    ["label=a:%00", "label"],
    ["session_type=%00", "session_type"],
  ])("422 for ?%s, and names the parameter", async (query, parameter) => {
    for (const path of ["/sessions/", "/sessions/facets"]) {
      if (path.endsWith("facets") && ["sort", "fields", "view", "count"].includes(parameter)) continue;
      const answer = await service.request("GET", `${path}?${query}`);
      expect(answer, answer.text).toMatchObject({ status: 422, body: { code: "validation_failed" } });
      expect(answer.body.errors[0].parameter, answer.text).toBe(parameter);
    }
  });

  it.each([
    [{}, "/all"],
    [{ include_deleted: true }, "/all"],
    [{ all: false }, "/all"],
    [{ agentid: agents[0] }, "/agentid"],
    [{ all: true, sort: "name" }, "/sort"],
    [{ all: true, context_contains: { a: 1 } }, "/context_contains"],
    [{ name: "z", context_contains: "x" }, "/context_contains"],
    [{ label: [1] }, "/label"],
    [{ name: 5 }, "/name"],
  ])("422 for a search by %j, and points at what is wrong", async (body, pointer) => {
    const answer = await service.request("POST", "/sessions/search", body);
    expect(answer, answer.text).toMatchObject({ status: 422 });
    expect(answer.body.errors.map((error: { pointer: string }) => error.pointer)).toContain(pointer);
  });

  it("422 for a search whose text the database can't keep, never 500", async () => {
    for (const body of [
      { name: "z", context_contains: { a: "\0" } },
      { name: "\0" },
      { label: ["a:\0"] },
      { name: "z", metadata: { a: "\0" } },
      { name: "z", metadata: { "a.\0": "b" } },
      { name: "\ud800" },
    ])
      expect((await service.request("POST", "/sessions/search", body)).status, JSON.stringify(body)).toBe(422);
  });

  it("400 for a cursor of another filter or order, or an altered one", async () => {
    const { headers } = await service.request("GET", `/sessions/?name_prefix=Fix&sort=name&limit=1`);
    const cursor = headers.get("x-next-cursor") ?? "";
    expect((await service.request("GET", `/sessions/?name_prefix=Fix&sort=name&cursor=${cursor}`)).status).toBe(200);
    for (const query of [
      `name_prefix=Fi&sort=name&cursor=${cursor}`,
      `name_prefix=Fix&sort=-name&cursor=${cursor}`,
      `name_prefix=Fix&cursor=${cursor}`,
      `name_prefix=Fix&sort=name&cursor=${cursor.slice(1)}`,
      `name_prefix=Fix&sort=name&cursor=x`,
    ])
      expect(await service.request("GET", `/sessions/?${query}`), query).toMatchObject({
        status: 400,
        body: { code: "invalid_cursor" },
      });
  });
});
