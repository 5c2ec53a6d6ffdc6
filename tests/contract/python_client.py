"""The older Python client, as its users have it: standard library alone; sends user_id and metadata, reads a bare array."""

import json
import sys
import urllib.error
import urllib.request

BASE = sys.argv[1]
AGENT = "550e8400-e29b-41d4-a716-446655440000"


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data=data, method=method)
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


STATUSES = {"active", "paused", "completed", "crashed"}
FIELDS = [
    "id", "agent_id", "session_type", "status", "context", "checkpoint", "runtime_backend", "runtime_metadata",
    "created_at", "updated_at",
]

status, session = call("POST", "/sessions/", {
    "agent_id": AGENT, "user_id": "user-456", "session_type": "conversation",
    "context": {"user_id": "user-456"}, "metadata": {"source": "python"}, "runtime_backend": None,
})
assert status == 201, (status, session)
assert all(field in session for field in FIELDS), session
assert session["status"] in STATUSES
assert session["runtime_backend"] == "unknown"

status, session = call("PATCH", "/sessions/" + session["id"], {
    "status": "paused", "user_id": "user-456", "metadata": {"source": "python"}, "context": None,
})
assert status == 200 and session["status"] == "paused", (status, session)
assert session["context"] == {"user_id": "user-456"}, session

status, again = call("PATCH", "/sessions/" + session["id"] + "/", {"metadata": {"other": True}})
assert status == 200, again
assert all(again[field] == session[field] for field in FIELDS if field != "updated_at"), again

status, sessions = call("GET", "/sessions/?agent_id=" + AGENT + "&limit=10")
assert status == 200 and isinstance(sessions, list), sessions
assert session["id"] in [one["id"] for one in sessions]
assert all(one["status"] in STATUSES for one in sessions)

status, problem = call("GET", "/sessions/00000000-0000-0000-0000-000000000000")
assert status == 404 and problem["detail"] == "Session not found", problem

print("ok")
