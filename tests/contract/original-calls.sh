#!/usr/bin/env bash
# The calls of the original documentation, as they stand there. Clients make exactly these: they may never change.
# Usage: original-calls.sh NAME, with ID set for the calls that need a session. ORIGIN replaces http://localhost:8011.
set -euo pipefail

# Every call goes through here, so that a test can run it on another port.
curl() {
  local args=()
  for arg in "$@"; do args+=("${arg/http:\/\/localhost:8011/${ORIGIN:-http://localhost:8011}}"); done
  command curl -sS -w '\n%{http_code}\n' "${args[@]}"
}

case "$1" in
create-development)
curl -X POST http://localhost:8011/sessions/ -H "Content-Type: application/json" -d '{"agent_id":"550e8400-e29b-41d4-a716-446655440000","session_type":"development","context":{"working_directory":"/project","current_task":"Implement Steam Modal","files_open":["SteamModal.tsx","animations.ts"]},"runtime_backend":"local","runtime_metadata":{"terminal_id":"term-123","pid":12345}}'
;;
create-conversation)
curl -X POST http://localhost:8011/sessions/ -H "Content-Type: application/json" -d '{"agent_id":"550e8400-e29b-41d4-a716-446655440000","session_type":"conversation","context":{"user_id":"user-456","topic":"code review","message_count":0}}'
;;
create-task)
curl -X POST http://localhost:8011/sessions/ -H "Content-Type: application/json" -d '{"agent_id":"550e8400-e29b-41d4-a716-446655440000","session_type":"task","context":{"task_id":"implement-modal"},"runtime_backend":"local"}'
;;
get)
curl http://localhost:8011/sessions/$ID
;;
pause)
curl -X PATCH http://localhost:8011/sessions/$ID -d '{"status": "paused"}'
;;
resume)
curl -X PATCH http://localhost:8011/sessions/$ID -d '{"status": "active"}'
;;
checkpoint-step-5)
curl -X PATCH http://localhost:8011/sessions/$ID -d '{"checkpoint":{"step":5,"state":{"files":["a.ts"]},"resume_prompt":"Continue from step 5"}}'
;;
checkpoint-step-3)
curl -X PATCH http://localhost:8011/sessions/$ID -H "Content-Type: application/json" -d '{"checkpoint":{"step":3,"completed_actions":["analyze","design","implement"],"pending_actions":["test","review"],"state_snapshot":{"files_modified":["a.ts","b.ts"],"test_results":null},"resume_prompt":"Run tests and complete code review"}}'
;;
checkpoint-recovery)
curl -X PATCH http://localhost:8011/sessions/$ID -H "Content-Type: application/json" -d '{"checkpoint":{"last_completed_step":3,"files_modified":["a.ts","b.ts"],"pending_actions":["run tests","commit"],"recovery_prompt":"Continue implementing modal from step 4"}}'
;;
context)
curl -X PATCH http://localhost:8011/sessions/$ID -H "Content-Type: application/json" -d '{"context":{"working_directory":"/project","current_task":"Testing Steam Modal","files_open":["SteamModal.test.tsx"],"progress":0.75}}'
;;
list-agent-limit)
curl "http://localhost:8011/sessions/?agent_id=550e8400-e29b-41d4-a716-446655440000&limit=10"
;;
list-limit)
curl "http://localhost:8011/sessions/?limit=20"
;;
list-agent)
curl "http://localhost:8011/sessions/?agent_id=550e8400-e29b-41d4-a716-446655440000"
;;
complete)
curl -X PATCH http://localhost:8011/sessions/$ID -H "Content-Type: application/json" -d '{"status": "completed"}'
;;
complete-bare)
curl -X PATCH http://localhost:8011/sessions/$ID -d '{"status": "completed"}'
;;
crash)
curl -X PATCH http://localhost:8011/sessions/$ID -d '{"status": "crashed"}'
;;
esac
