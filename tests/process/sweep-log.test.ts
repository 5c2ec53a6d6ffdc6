import { afterEach, expect, it } from "vitest";
import { startPostgresServer } from "../support/postgres-server.ts";
import { dataFolder, startServiceProcess } from "../support/process.ts";
import { agentId, send } from "../support/service.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function scene() {
  const database = await startPostgresServer();
  undo.push(() => database[Symbol.asyncDispose]());
  const folder = dataFolder();
  undo.push(() => folder[Symbol.dispose]());
  const service = await startServiceProcess({
    settings: { DATABASE_URL: database.url, DATA_DIR: folder.path, LOG_LEVEL: "info", SWEEP_INTERVAL_MS: "50" },
  });
  undo.push(() => service.stop());
  const lines = (what: string) =>
    service
      .stderr()
      .split("\n")
      .filter((line) => line.includes(what))
      .map((line) => JSON.parse(line));
  const create = async (fields: object) => {
    const { body } = await send(`${service.url}/sessions/`, "POST", { agent_id: agentId, ...fields });
    return body.id as string;
  };
  const phaseOf = async (id: string) => (await send(`${service.url}/sessions/${id}`, "GET")).body?.phase;
  return { database, lines, create, phaseOf };
}

it("the log has one line for each session that a timer took to another phase, with the reason and without a request", async () => {
  const { lines, create } = await scene();
  const id = await create({ timeout_seconds: 1 });
  await until(() => lines(id).length > 0, "the line");
  expect(lines(id)).toMatchObject([
    { from: "running", to: "timed_out", reason: "timeout", request_id: null, msg: "session ended", attempt: 1 },
  ]);
  expect(lines(id)[0].duration_ms).toBeGreaterThanOrEqual(1_000);
}, 60_000);

it("a database that is away is one line in the log, not one for each sweep, and timers act when it is back", async () => {
  const { database, lines, create, phaseOf } = await scene();
  const complaints = () => lines("sessions whose timers are due wait").length;
  for (const time of [1, 2]) {
    const id = await create({ timeout_seconds: 1 });
    await database.stop("fast");
    await until(() => complaints() === time, "a line about it");
    const over = performance.now() + 2_000;
    await until(() => performance.now() > over, "many sweeps to fail");
    expect(complaints()).toBe(time);
    await database.start();
    await until(async () => (await phaseOf(id)) === "timed_out", "the timer to act");
  }
}, 60_000);
