/** Filters that are given together: all must hold, whichever of them leads to the sessions. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

const few = "00000000-0000-4000-8000-000000000001";
const many = "00000000-0000-4000-8000-000000000002";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

async function namesBy(query: string): Promise<string[]> {
  const answer = await service.request("GET", `/sessions/?${query}`);
  expect(answer.status, answer.text).toBe(200);
  return answer.body.map((session: { name: string }) => session.name);
}

it("200 a value of metadata that a session has not is not overlooked beside one that it has", async () => {
  await service.create({ agent_id: few, name: "both", metadata: { team: "a", step: 1 } });
  await service.create({ agent_id: few, name: "one", metadata: { team: "a" } });
  expect(await namesBy(`agent_id=${few}&metadata.team=a&metadata.step=1`)).toEqual(["both"]);
  expect(await namesBy(`agent_id=${few}&metadata.team=a&metadata.step=null`)).toEqual([]);
});

it("200 no session has two values of one label, however they are asked for", async () => {
  const id = await service.create({ external_id: "PROJ-1", name: "b", labels: { team: "b" } });
  await service.create({ name: "a", labels: { team: "a" } });
  const twice = "label=team:a&label=team:b";
  for (const query of [
    twice,
    `${twice}&label=team:a`,
    `external_id=PROJ-1&${twice}`,
    `external_id=PROJ-1&label=team:b&${twice}`,
  ]) {
    expect(await namesBy(query), query).toEqual([]);
  }
  expect(await namesBy("external_id=PROJ-1&label=team:b&label=team:b")).toEqual(["b"]);
  expect(await namesBy("external_id=PROJ-1&label=team:b&label=team")).toEqual(["b"]);
  await service.request("DELETE", `/sessions/${id}`);
});

it("200 in a search a type with a comma is that type, and never two", async () => {
  await service.create({ name: "comma", session_type: "a,b" });
  await service.create({ name: "a", session_type: "a" });
  const found = await service.request("POST", "/sessions/search", { session_type: ["a,b"] });
  expect(found.body.map((session: { name: string }) => session.name)).toEqual(["comma"]);
});

it("200 what leaves few is found on the first page, although the other filter leaves thousands", async () => {
  const { sql } = service.database;
  await sql`
    with made as (
      insert into sessions (id, agent_id, details, created_at, updated_at, last_activity_at, phase_since)
      select gen_random_uuid(), ${many}, '{"name": "Untitled", "labels": {"env": "prod"}}', at, at, at, at
      from generate_series(1, 12000) n, lateral (select now() - n * interval '1 second') t (at)
      returning id, created_at
    )
    insert into session_labels (session_id, key, value, created_at) select id, 'env', 'prod', created_at from made`;
  // Older than all of them.
  const agent = "00000000-0000-4000-8000-000000000003";
  const id = await service.create({
    agent_id: agent,
    name: "Untitled",
    labels: { env: "prod", only: "x" },
    session_type: "rare",
    runtime_backend: "kubernetes",
  });
  await sql`update sessions set created_at = '2020-01-01' where id = ${id}`;
  await sql`update session_labels set created_at = '2020-01-01' where session_id = ${id}`;
  for (const query of [
    `agent_id=${agent}&label=env:prod`,
    `agent_id=${agent}&name=Untitled`,
    "label=env&label=only",
    "name=Untitled&label=only:x",
    "name=Untitled&session_type=rare",
    "name_prefix=Unt&runtime_backend=kubernetes",
    "label=env:prod&session_type=rare&status=active",
  ]) {
    const answer = await service.request("GET", `/sessions/?${query}&count=exact`);
    expect(answer.body, query).toMatchObject([{ id }]);
    expect(answer.headers.get("link"), query).toBeNull();
    expect(answer.headers.get("x-total-count"), query).toBe("1");
    const facets = await service.request("GET", `/sessions/facets?${query}`);
    expect(facets.body, query).toMatchObject({ total: 1, complete: true, session_type: { rare: 1 } });
  }
  const sorted = await service.request("GET", `/sessions/?agent_id=${agent}&label=env:prod&sort=-updated_at`);
  expect(sorted.body).toMatchObject([{ id }]);
});

it("200 counts what is too much for one statement, each session once", async () => {
  const { sql } = service.database;
  await sql`
    insert into sessions (id, agent_id, phase, session_type, created_at, updated_at, last_activity_at, phase_since)
    select gen_random_uuid(), ${many}, case when n % 3 = 0 then 'crashed' else 'running' end, 'counted', at, at, at, at
    from generate_series(1, 60000) n, lateral (select timestamptz '2021-01-01' + (n / 4) * interval '1 second') t (at)`;
  const counted = await service.request("GET", "/sessions/?session_type=counted&limit=1&count=exact");
  expect(counted.headers.get("x-total-count")).toBe("60000");
  const { body } = await service.request("GET", "/sessions/facets?session_type=counted");
  expect(body).toMatchObject({ total: 60_000, complete: true, phase: { crashed: 20_000, running: 40_000 } });
}, 30_000);

it("200 a page whose documents are read by several statements ends at 32 MiB, too", async () => {
  const { sql } = service.database;
  // Of 4,000 sessions one in 100 has a document of 1 MB.
  await sql`
    insert into sessions (id, agent_id, phase, session_type, context, context_bytes, created_at, updated_at,
      last_activity_at, phase_since)
    select gen_random_uuid(), ${few}, case when n % 100 = 0 then 'busy' else 'running' end, 'heavy',
      case when n % 100 = 0 then jsonb_build_object('text', repeat('x', 1000000)) else '{}' end,
      case when n % 100 = 0 then 1000012 else 2 end, at, at, at, at
    from generate_series(1, 4500) n, lateral (select timestamptz '2022-01-01' + n * interval '1 second') t (at)`;
  const seen: string[] = [];
  for (let path: string | undefined = "/sessions/?session_type=heavy&phase=busy&limit=60"; path !== undefined; ) {
    const answer = await service.request("GET", path);
    expect(answer.text.length).toBeLessThanOrEqual(32 * 1024 * 1024);
    seen.push(...answer.body.map((session: { id: string }) => session.id));
    path = /<([^>]+)>; rel="next"/.exec(answer.headers.get("link") ?? "")?.[1];
  }
  expect(new Set(seen).size).toBe(45);
  expect(seen).toHaveLength(45);
  const summary = await service.request("GET", "/sessions/?session_type=heavy&phase=busy&limit=60&view=summary");
  expect(summary.body).toHaveLength(45);
}, 30_000);
