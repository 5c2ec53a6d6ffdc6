/** What the OpenAPI file shows of sessions: the calls of the original documentation, and an answer. */

export const exampleAgent = "550e8400-e29b-41d4-a716-446655440000";
export const exampleId = "0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10";
export const exampleContext = { working_directory: "/project", current_task: "Implement Steam Modal" };
export const exampleCheckpoint = { step: 5, resume_prompt: "Continue from step 5" };
export const exampleMetadata = { terminal_id: "term-123", pid: 12345 };

export const exampleSession = {
  id: exampleId,
  agent_id: exampleAgent,
  session_type: "development",
  status: "active",
  phase: "running",
  context: exampleContext,
  checkpoint: exampleCheckpoint,
  runtime_backend: "local",
  runtime_metadata: exampleMetadata,
  created_at: "2026-01-31T09:30:00.123456Z",
  updated_at: "2026-01-31T09:41:12.654321Z",
  version: 3,
  attempt: 1,
  context_bytes: 17,
  checkpoint_count: 1,
  started_at: "2026-01-31T09:30:00.123456Z",
  ended_at: null,
  last_activity_at: "2026-01-31T09:41:12.654321Z",
  deleted_at: null,
  stats: { iterations: 12, input_tokens: 48_210 },
  stats_max: {},
  scheduled_at: null,
  expires_at: null,
  timeout_seconds: 7_200,
  waiting_timeout_seconds: null,
  idle_timeout_seconds: 86_400,
  pending_timeout_seconds: null,
  auto_recover: true,
  max_attempts: 3,
  legal_hold: false,
  external_id: "PROJ-42",
  name: "Steam Modal",
  prompt: "Implement the modal.",
  model: null,
  repos: [{ url: "https://example.com/project.git", branch: "main" }],
  agents: [{ id: exampleAgent }],
  active_agent: null,
  interaction_mode: null,
  resources: null,
  guardrails: null,
  metadata: {},
  labels: { team: "search" },
  created_by: null,
  checkpoint_retention: null,
  status_reason: null,
  exit_requested: false,
  error: null,
  result: null,
  lease_owner: "worker-7",
  lease_expires_at: "2026-01-31T09:41:42.654321Z",
  auto_resume: false,
  next_attempt_at: null,
};

export const createExamples = {
  development: {
    summary: "An agent at work in an editor",
    value: {
      agent_id: exampleAgent,
      session_type: "development",
      context: exampleContext,
      runtime_backend: "local",
      runtime_metadata: exampleMetadata,
    },
  },
  conversation: {
    summary: "A conversation",
    value: {
      agent_id: exampleAgent,
      session_type: "conversation",
      context: { user_id: "user-456", topic: "code review", message_count: 0 },
    },
  },
  task: {
    summary: "A task",
    value: {
      agent_id: exampleAgent,
      session_type: "task",
      context: { task_id: "implement-modal" },
      runtime_backend: "local",
    },
  },
};

export const updateExamples = {
  pause: { summary: "Pause", value: { status: "paused" } },
  resume: { summary: "Resume", value: { status: "active" } },
  save_checkpoint: { summary: "Save a checkpoint", value: { checkpoint: exampleCheckpoint } },
  replace_context: {
    summary: "Replace the context",
    value: { context: { ...exampleContext, current_task: "Testing Steam Modal", progress: 0.75 } },
  },
  busy: { summary: "A step is done", value: { phase: "busy" } },
  complete: { summary: "Complete", value: { status: "completed" } },
  crash: { summary: "Report a crash", value: { status: "crashed" } },
};
