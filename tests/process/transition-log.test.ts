import { expect, inject, it } from "vitest";
import { createDatabase } from "../support/database.ts";
import { startServiceProcess } from "../support/process.ts";
import { agentId, send } from "../support/service.ts";
import { until } from "../support/until.ts";

it("the log has one line for each transition of a session, and for its end how long it took", async () => {
  const database = await createDatabase();
  const settings = { DATABASE_URL: database.url, REDIS_URL: inject("redisUrl"), LOG_LEVEL: "info" };
  const service = await startServiceProcess({ settings });
  try {
    const { body } = await send(`${service.url}/sessions/`, "POST", { agent_id: agentId });
    const change = (fields: object) =>
      send(`${service.url}/sessions/${body.id}`, "PATCH", fields, { "x-request-id": "change-1" });
    await change({ checkpoint: { step: 1 } });
    await change({ status: "paused" });
    await change({ status: "paused" });
    await change({ status: "active" });
    const pause = () => send(`${service.url}/sessions/${body.id}/pause`, "POST", {}, { "idempotency-key": "once" });
    await pause();
    await pause();
    await change({ status: "active" });
    await change({ status: "completed" });
    const lines = () =>
      service
        .stderr()
        .split("\n")
        .filter((line) => line.includes(body.id) && line.includes('"to"'))
        .map((line) => JSON.parse(line));
    await until(() => lines().length >= 5, "the lines");
    expect(lines().map(({ from, to, reason, request_id: id, msg }) => [from, to, reason, id, msg])).toEqual([
      ["running", "paused", null, "change-1", "session changed"],
      ["paused", "running", null, "change-1", "session changed"],
      // With an Idempotency-Key it is done once, and told once.
      ["running", "paused", null, expect.not.stringMatching("change-1"), "session changed"],
      ["paused", "running", null, "change-1", "session changed"],
      ["running", "completed", null, "change-1", "session ended"],
    ]);
    const ended = lines().at(-1);
    expect(ended).toMatchObject({ session_id: body.id, attempt: 1 });
    expect(ended.duration_ms).toBeGreaterThan(0);
  } finally {
    await service.stop();
    await database.drop();
  }
});
