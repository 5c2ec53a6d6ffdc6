/**
 * What a team writes whose client is generated from our OpenAPI file: the original documentation's calls, with the types
 * that the file gives and no cast. Usage: node client.js http://localhost:8011; it prints what it got as JSON.
 */

import createClient from "openapi-fetch";
import type { components, paths } from "./generated.ts";

type Session = components["schemas"]["Session"];
type NewSession = components["schemas"]["CreateSession"];
type Change = components["schemas"]["UpdateSession"];
type Problem = components["schemas"]["Problem"];

const [baseUrl = "http://localhost:8011"] = process.argv.slice(2);
const agentId = "550e8400-e29b-41d4-a716-446655440000";
const client = createClient<paths>({ baseUrl });

function told(problem: Problem): Error {
  return new Error(`${problem.code}: ${problem.detail}`);
}

async function create(body: NewSession): Promise<Session> {
  const { data, error, response } = await client.POST("/sessions/", { body });
  if (error) throw told(error);
  if (response.headers.get("location") !== `/sessions/${data.id}`) throw new Error("no Location");
  return data;
}

async function read(id: string): Promise<Session> {
  const { data, error } = await client.GET("/sessions/{id}", { params: { path: { id } } });
  if (error) throw told(error);
  return data;
}

async function change(id: string, body: Change): Promise<Session> {
  const { data, error } = await client.PATCH("/sessions/{id}", { params: { path: { id } }, body });
  if (error) throw told(error);
  return data;
}

async function list(query: NonNullable<paths["/sessions/"]["get"]["parameters"]["query"]>): Promise<Session[]> {
  const { data, error } = await client.GET("/sessions/", { params: { query } });
  if (error) throw told(error);
  return data;
}

async function health(): Promise<components["schemas"]["HealthStatus"]> {
  const { data } = await client.GET("/health");
  return data?.status ?? "unavailable";
}

const development = await create({
  agent_id: agentId,
  session_type: "development",
  context: {
    working_directory: "/project",
    current_task: "Implement Steam Modal",
    files_open: ["SteamModal.tsx", "animations.ts"],
  },
  runtime_backend: "local",
  runtime_metadata: { terminal_id: "term-123", pid: 12345 },
});
const conversation = await create({
  agent_id: agentId,
  session_type: "conversation",
  context: { user_id: "user-456", topic: "code review", message_count: 0 },
});
const task = await create({
  agent_id: agentId,
  session_type: "task",
  context: { task_id: "implement-modal" },
  runtime_backend: "local",
});

const { id } = development;
const reread = await read(id);
const paused = await change(id, { status: "paused" });
const resumed = await change(id, { status: "active" });
const atStep5 = await change(id, {
  checkpoint: { step: 5, state: { files: ["a.ts"] }, resume_prompt: "Continue from step 5" },
});
const atStep3 = await change(id, {
  checkpoint: {
    step: 3,
    completed_actions: ["analyze", "design", "implement"],
    pending_actions: ["test", "review"],
    state_snapshot: { files_modified: ["a.ts", "b.ts"], test_results: null },
    resume_prompt: "Run tests and complete code review",
  },
});
const recovery = await change(id, {
  checkpoint: {
    last_completed_step: 3,
    files_modified: ["a.ts", "b.ts"],
    pending_actions: ["run tests", "commit"],
    recovery_prompt: "Continue implementing modal from step 4",
  },
});
const testing = await change(id, {
  context: {
    working_directory: "/project",
    current_task: "Testing Steam Modal",
    files_open: ["SteamModal.test.tsx"],
    progress: 0.75,
  },
});
const ofAgent = await list({ agent_id: agentId, limit: 10 });
const latest = await list({ limit: 20 });
const all = await list({ agent_id: agentId });
const completed = await change(id, { status: "completed" });
const completedAgain = await change(id, { status: "completed" });
const crashed = await change(task.id, { status: "crashed" });

// Problems have types too: the code is one of those that the file lists.
const { error: refusal } = await client.PATCH("/sessions/{id}", {
  params: { path: { id }, header: { "If-Match": '"1"' } },
  body: { context: {} },
});
const refused: components["schemas"]["ProblemCode"] | undefined = refusal?.code;

console.log(
  JSON.stringify({
    created: [development, conversation, task].map((session) => [session.session_type, session.runtime_backend]),
    reread: reread.context["current_task"],
    statuses: [paused, resumed, completed, completedAgain, crashed].map((session) => session.status),
    checkpoints: [atStep5, atStep3, recovery].map((session) => session.checkpoint),
    progress: testing.context["progress"],
    listed: [ofAgent, latest, all].map((sessions) => sessions.map((session) => session.session_type)),
    refused,
    health: await health(),
  }),
);
