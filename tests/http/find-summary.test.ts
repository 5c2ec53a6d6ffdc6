/** A table of sessions is light, however heavy the sessions are. */

import { expect, it } from "vitest";
import { agentId, startTestService } from "../support/service.ts";

it("200 a summary of 1,000 sessions of 100 KB each is 1 MB at most", async () => {
  await using service = await startTestService();
  const id = await service.create({
    context: { text: "x".repeat(100_000) },
    checkpoint: { step: 1 },
    name: "Fix the modal",
    labels: { team: "search" },
  });
  const { sql } = service.database;
  // As the service has made the first.
  await sql`
    insert into sessions (id, agent_id, context, context_bytes, checkpoint, checkpoint_bytes, checkpoint_count, details,
      details_bytes, created_at, updated_at, last_activity_at, phase_since, started_at)
    select gen_random_uuid(), agent_id, context, context_bytes, checkpoint, checkpoint_bytes, checkpoint_count, details,
      details_bytes, created_at - n * interval '1 second', updated_at, last_activity_at, phase_since, started_at
    from sessions s, generate_series(1, 999) n where s.id = ${id}`;
  const answer = await service.request("GET", `/sessions/?agent_id=${agentId}&view=summary&limit=1000`);
  expect(answer.body).toHaveLength(1_000);
  expect(answer.headers.get("link")).toBeNull();
  expect(Buffer.byteLength(answer.text)).toBeLessThanOrEqual(1_000_000);
  for (const session of [answer.body[0], answer.body[999]]) {
    expect(session).toMatchObject({ name: "Fix the modal", context_bytes: 100_012, checkpoint_bytes: 11 });
  }
  const { text } = await service.request("GET", `/sessions/?agent_id=${agentId}&fields=id,phase&limit=1000`);
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(80_000);
}, 30_000);

it("200 shows fields as the session itself shows them, each alone and all together", async () => {
  await using service = await startTestService();
  await service.create({
    external_id: "PROJ-1",
    name: "x",
    metadata: { n: 1.0 },
    labels: { a: "b" },
    stats: { tokens: 1 },
  });
  const busy = await service.create({ scheduled_at: "2030-01-01T00:00:00Z", auto_recover: true, max_attempts: 5 });
  await service.request("POST", `/sessions/${busy}/lease`, { worker_id: "worker-1" });
  await service.request("PATCH", `/sessions/${busy}`, { status: "crashed", error: { message: "x" }, result: [1] });
  const whole = await service.request("GET", "/sessions/?vocabulary=container");
  expect(whole.status, whole.text).toBe(200);
  const names = Object.keys(whole.body[0]).filter((name) => name !== "state");
  const all = await service.request("GET", `/sessions/?fields=${names}&limit=2`);
  expect(all.text).toBe((await service.request("GET", "/sessions/")).text);
  for (const name of names) {
    const { body } = await service.request("GET", `/sessions/?fields=${name}`);
    expect(body, name).toEqual(whole.body.map((session: Record<string, unknown>) => ({ [name]: session[name] })));
  }
});
