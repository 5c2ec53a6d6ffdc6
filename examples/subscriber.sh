#!/bin/sh
# Follows the sessions' changes on Redis, and prints each event once, in order for each session:
#
#     sh examples/subscriber.sh                    all sessions
#     sh examples/subscriber.sh <session id>       one session, with what its runtime reports
#
# Needs redis-cli, curl, and python3 to read JSON. REDIS_URL, SERVICE_URL and API_KEY say where. Redis forgets whoever is
# not listening, and may deliver twice. So an event is known by its id; a number that is skipped is read from the history,
# over HTTP; and so is, after every connect, what was published in the meantime. With STATE_DIR set to a folder that is
# kept, it also goes on where it was after a restart of its own.

set -u
: "${REDIS_URL:=redis://localhost:6379}" "${SERVICE_URL:=http://localhost:8011}" "${API_KEY:=}"
state=${STATE_DIR:-$(mktemp -d)}
[ -n "${STATE_DIR:-}" ] || trap 'rm -rf "$state"' EXIT
mkdir -p "$state/seen" "$state/last"
if [ $# -gt 0 ]; then
  channel=events:session:$1 history=/sessions/$1/events counter=sequence types=
else
  channel=events:session history=/events counter=session_version
  types=session.created,session.updated,session.deleted,session.restored,session.purged
fi

# Your work goes here.
handle() { printf '%s %s %s %s\n' "$session" "$sequence" "$type" "$payload"; }

# Lines of JSON, each an event or an array of events, become lines of fields; other lines are left out, but for the one by
# which redis-cli says that it is subscribed. The number has no gaps: a session's versions over its changes, its sequence
# over all its events.
fields() {
  python3 -uc '
import json, sys
for line in sys.stdin:
    if line == "subscribe\n":
        print("subscribed", *"------", sep="\t")
    if line[:1] in "{[":
        read = json.loads(line)
        for e in read if isinstance(read, list) else [read]:
            print(e["event_id"], e["aggregate_id"], e[sys.argv[1]], e["position"], e["sequence"], e["event_type"],
                  json.dumps(e["payload"]), sep="\t")
' "$counter"
}

# What the service answers to a path, as lines of fields. It is asked again while it is away; what is too old to be in its
# history (410), or gone with its session (404), is nothing.
get() {
  : >"$state/headers"
  curl -fsS --retry 100 --retry-delay 1 --retry-connrefused ${API_KEY:+-H "X-API-Key: $API_KEY"} \
    -D "$state/headers" "$SERVICE_URL$1" | fields
}

# Everything of a path that comes after a position, oldest first; after nothing: from the first event on.
events_after() {
  page="$1?limit=1000&include_deleted=true${2:+&after=$2}${types:+&event_type=$types}"
  while [ -n "$page" ]; do
    get "$page"
    page=$(sed -n 's/^[Ll]ink: <\([^>]*\)>; *rel="next".*/\1/p' "$state/headers" | tail -n 1)
  done
}

tab=$(printf '\t')
next() { IFS=$tab read -r id session number position sequence type payload; }

# Takes an event that nothing is missing before.
accept() {
  if [ -e "$state/seen/$id" ]; then return; fi
  handle
  : >"$state/seen/$id" # Old ones may be removed: find "$state/seen" -mtime +7 -delete
  printf '%s %s\n' "$number" "$position" >"$state/last/$session"
}

receive() {
  if [ -e "$state/last/$session" ] && [ ! -e "$state/seen/$id" ]; then
    read -r last_number last_position <"$state/last/$session"
    if [ "$number" -gt $((last_number + 1)) ]; then
      events_after "/sessions/$session/events" "$last_position" | while next; do accept; done
    fi
  fi
  accept
  printf '%s\n' "$position" >"$state/position"
}

# After the subscription, so that nothing falls in between: what is published from now on waits in the pipe.
catch_up() {
  if [ ! -e "$state/position" ]; then
    get "$history?limit=1&order=desc" | cut -f 4 >"$state/position"
    return
  fi
  events_after "$history" "$(cat "$state/position")" | while next; do
    accept
    printf '%s\n' "$position" >"$state/position"
  done
}

while :; do
  redis-cli -u "$REDIS_URL" SUBSCRIBE "$channel" </dev/null
  sleep 0.5
done | fields | while next; do
  if [ "$id" = subscribed ]; then catch_up; else receive; fi
done
