/** Pages that are walked while sessions come, change and go: whoever stood still is seen exactly once. */

import { expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

const agents = [1, 2].map((n) => `00000000-0000-4000-8000-00000000000${n}`);

/** What every session of the test has, so that each of the walks could see it. */
const fields = (n: number) => ({
  agent_id: agents[n % 2],
  session_type: n % 2 === 0 ? "task" : "batch",
  runtime_backend: "local",
  name: "Walked",
  labels: { team: "search", n: String(n) },
});

const drivers = [
  `agent_id=${agents[0]}`,
  `agent_id=${agents.join()}`,
  "status=active",
  "status=active,paused,crashed",
  "phase=running",
  "session_type=task",
  "session_type=task,batch&status=active",
  "runtime_backend=local",
  "name=Walked",
  "name_prefix=Wal",
  "label=team",
  "label=team:search",
  `label=team:search&agent_id=${agents[1]}&session_type=batch`,
  "created_after=2020-01-01T00:00:00Z",
];

const walks = [
  ...drivers.flatMap((driver) => [`${driver}&sort=created_at`, `${driver}&sort=-created_at`]),
  `agent_id=${agents[0]}&sort=updated_at`,
  `agent_id=${agents[0]}&sort=-updated_at`,
  "label=team:search&sort=name",
  "name=Walked&sort=-name",
];

/** The ids in the order in which the pages give them. */
async function walk(service: TestService, query: string): Promise<string[]> {
  const seen: string[] = [];
  for (let path: string | undefined = `/sessions/?limit=7&${query}`; path !== undefined; ) {
    const answer = await service.request("GET", path);
    expect(answer.status, answer.text).toBe(200);
    seen.push(...answer.body.map((session: { id: string }) => session.id));
    path = /<([^>]+)>; rel="next"/.exec(answer.headers.get("link") ?? "")?.[1];
  }
  return seen;
}

/** Creates, changes and deletes by turns, until told to stop: as many go as come. */
async function write(service: TestService, number: number, restless: string[], isOver: () => boolean): Promise<number> {
  let writes = 0;
  for (let n = number; !isOver(); n++, writes++) {
    const id = restless[(n * 7 + number) % restless.length] ?? "";
    const step = n % 5;
    if (step === 0) restless.push(await service.create(fields(n)));
    else if (step === 1) await service.request("PATCH", `/sessions/${id}`, { status: n % 2 ? "paused" : "active" });
    else if (step === 2)
      await service.request("PATCH", `/sessions/${id}`, { labels: n % 3 ? { team: "search" } : { n: "0" } });
    else if (step === 3)
      await service.request("PATCH", `/sessions/${id}`, { name: n % 3 ? "Walked" : "Wandered", metadata: { n } });
    else await service.request("DELETE", `/sessions/${restless.shift()}`);
  }
  return writes;
}

it("sees whoever stood still exactly once, while four write", async () => {
  await using service = await startTestService();
  const still: string[] = [];
  const restless: string[] = [];
  for (let n = 0; n < 42; n++) (n % 3 === 0 ? restless : still).push(await service.create(fields(n)));
  const expected = new Map<string, string[]>();
  for (const query of walks) {
    const seen = new Set(await walk(service, query));
    expected.set(
      query,
      still.filter((id) => seen.has(id)),
    );
  }
  expect(Math.min(...[...expected.values()].map((ids) => ids.length))).toBeGreaterThan(10);
  let isOver = false;
  const writers = [0, 1, 2, 3].map((number) => write(service, number, restless, () => isOver));
  try {
    for (const query of walks) {
      const seen = await walk(service, query);
      const times = new Map<string, number>();
      for (const id of seen) times.set(id, (times.get(id) ?? 0) + 1);
      const told = expected.get(query) ?? [];
      expect(
        told.map((id) => times.get(id) ?? 0),
        query,
      ).toEqual(told.map(() => 1));
      // In the order of time nothing moves: not even those that change are seen twice.
      if (query.endsWith("created_at")) expect(Math.max(...times.values()), query).toBe(1);
    }
  } finally {
    isOver = true;
  }
  const writes = await Promise.all(writers);
  expect(Math.min(...writes)).toBeGreaterThan(10);
}, 60_000);
