/** The original clients' calls, verbatim (original-calls.sh), by the real curl against the real server. */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentId, type Subscription, startTestService, subscribe, type TestService } from "../support/service.ts";

const script = fileURLToPath(new URL("./original-calls.sh", import.meta.url));
const run = promisify(execFile);

/** On 8011 the calls go out exactly as they are written; not where somebody else has that port. */
const taken = await fetch("http://127.0.0.1:8011/").then(
  () => true,
  () => false,
);

describe.skipIf(taken).each(["8011"])("the original documentation's calls, as written, on port %s", itsCalls);
describe.each(["0"])("the original documentation's calls, on any port", itsCalls);

function itsCalls(port: string): void {
  let service: TestService;
  let events: Subscription;
  beforeAll(async () => {
    service = await startTestService({ PORT: port });
    events = await subscribe(service.redisUrl);
  });
  afterAll(async () => {
    await events[Symbol.asyncDispose]();
    await service.stop();
  });

  async function call(name: string, id = ""): Promise<{ status: number; body: ReturnType<typeof JSON.parse> }> {
    const origin = port === "8011" ? "http://localhost:8011" : service.url.replace("127.0.0.1", "localhost");
    const { stdout } = await run("bash", [script, name], { env: { ...process.env, ID: id, ORIGIN: origin } });
    const [body = "", status] = stdout.trimEnd().split(/\n(?=\d{3}$)/);
    return { status: Number(status), body: JSON.parse(body) };
  }

  it("create, each of the three ways, and read back", async () => {
    const development = await call("create-development");
    expect(development.status).toBe(201);
    expect(development.body).toMatchObject({
      agent_id: agentId,
      session_type: "development",
      status: "active",
      context: {
        working_directory: "/project",
        current_task: "Implement Steam Modal",
        files_open: ["SteamModal.tsx", "animations.ts"],
      },
      checkpoint: null,
      runtime_backend: "local",
      runtime_metadata: { terminal_id: "term-123", pid: 12345 },
    });
    const conversation = await call("create-conversation");
    expect(conversation).toMatchObject({
      status: 201,
      body: { session_type: "conversation", runtime_backend: "unknown", runtime_metadata: {} },
    });
    expect(await call("create-task")).toMatchObject({ status: 201, body: { session_type: "task" } });
    expect(await call("get", development.body.id)).toEqual({ status: 200, body: development.body });
    const [created] = await events.ofSession(conversation.body.id, 1);
    expect(created).toMatchObject({
      event_type: "session.created",
      aggregate_type: "session",
      aggregate_id: conversation.body.id,
      payload: { agent_id: agentId, session_type: "conversation", runtime_backend: "unknown" },
    });
  });

  it("pause, resume, checkpoint, context and completion, each with its event", async () => {
    const { id } = (await call("create-development")).body;
    const steps: [name: string, changed: object, updates: string[]][] = [
      ["pause", { status: "paused" }, ["status", "phase"]],
      ["resume", { status: "active" }, ["status", "phase"]],
      [
        "checkpoint-step-5",
        { checkpoint: { step: 5, state: { files: ["a.ts"] }, resume_prompt: "Continue from step 5" } },
        ["checkpoint"],
      ],
      ["checkpoint-step-3", { checkpoint: expect.objectContaining({ step: 3 }) }, ["checkpoint"]],
      ["checkpoint-recovery", { checkpoint: expect.objectContaining({ last_completed_step: 3 }) }, ["checkpoint"]],
      ["context", { context: expect.objectContaining({ progress: 0.75 }) }, ["context"]],
      ["complete", { status: "completed" }, ["status", "phase"]],
    ];
    for (const [name, changed] of steps) {
      expect(await call(name, id), name).toMatchObject({ status: 200, body: { id, ...changed } });
    }
    expect((await call("complete-bare", id)).status, "what is completed already").toBe(200);
    const seen = await events.ofSession(id, 1 + steps.length);
    expect(seen.slice(1).map((event) => [event.event_type, event.payload])).toEqual(
      steps.map(([, changed, updates]) => [
        "session.updated",
        expect.objectContaining({
          agent_id: agentId,
          status: "status" in changed ? changed.status : "active",
          updates,
        }),
      ]),
    );
    expect(seen.map((event) => event.sequence)).toEqual(seen.map((_, at) => at + 1));
  });

  it("crash", async () => {
    const { id } = (await call("create-task")).body;
    expect(await call("crash", id)).toMatchObject({ status: 200, body: { status: "crashed" } });
  });

  it("list, a bare array, newest first", async () => {
    await call("create-task");
    for (const name of ["list-agent-limit", "list-limit", "list-agent"]) {
      const { status, body } = await call(name);
      expect(status).toBe(200);
      expect(Array.isArray(body)).toBe(true);
      const times = body.map((session: { created_at: string }) => session.created_at);
      expect(times).toEqual([...times].sort().reverse());
    }
    expect((await call("list-agent-limit")).body.length).toBeLessThanOrEqual(10);
  });
}

it("the calls are the original ones, to the letter", () => {
  const calls = readFileSync(script, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("curl -") || line.startsWith("curl h") || line.startsWith('curl "'));
  expect(calls).toHaveLength(16);
  expect(createHash("sha256").update(calls.join("\n")).digest("hex")).toBe(
    "c34c1ee4fd0e42bb340d1e2e392495cd2f0c8b16c82aa0dd71970583b3e620d1",
  );
});
