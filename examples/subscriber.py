"""Follows the sessions' changes on Redis, and prints each event once, in order for each session:

    pip install redis
    python3 examples/subscriber.py                    all sessions
    python3 examples/subscriber.py <session id>       one session, with what its runtime reports

REDIS_URL, SERVICE_URL and API_KEY say where. Redis forgets whoever is not listening, and may deliver twice. So an event
is known by its id; a number that is skipped is read from the history, over HTTP; and so is, after every connect, what was
published in the meantime.
"""

import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import redis

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379")
SERVICE_URL = os.environ.get("SERVICE_URL", "http://localhost:8011")
HEADERS = {"X-API-Key": os.environ["API_KEY"]} if "API_KEY" in os.environ else {}
SESSION = sys.argv[1] if len(sys.argv) > 1 else None
CHANGES = {"event_type": "session.created,session.updated,session.deleted,session.restored,session.purged"}
CHANNEL = f"events:session:{SESSION}" if SESSION else "events:session"
HISTORY = f"/sessions/{SESSION}/events" if SESSION else "/events"
# What has no gaps: a session's versions over its changes, its sequence over all its events.
COUNTER = "sequence" if SESSION else "session_version"

# Where we are in the feed. Stored with your work, it is where you go on after a restart of your own.
position = None
is_new = True
# The last event of each session, and the ids of the latest 100,000 (a dict keeps its order): those that may come again.
last = {}
seen = {}


def handle(event):
    """Your work goes here."""
    print(event["aggregate_id"], event["sequence"], event["event_type"], json.dumps(event["payload"]), flush=True)


def accept(event):
    """Takes an event that nothing is missing before."""
    if event["event_id"] in seen:
        return
    handle(event)
    last[event["aggregate_id"]] = event
    seen[event["event_id"]] = True
    while len(seen) > 100_000:
        del seen[next(iter(seen))]


def receive(event):
    global position
    before = last.get(event["aggregate_id"])
    if before and event[COUNTER] > before[COUNTER] + 1 and event["event_id"] not in seen:
        for missed in events_after(f"/sessions/{event['aggregate_id']}/events", before["position"]):
            accept(missed)
    accept(event)
    position = event["position"]


def events_after(path, after):
    """Everything after a position, oldest first; after None: from the first event on."""
    query = {"limit": 1000, "include_deleted": "true", **({"after": after} if after else {}), **({} if SESSION else CHANGES)}
    page = f"{path}?{urllib.parse.urlencode(query)}"
    while page:
        events, page = get(page)
        yield from events


def get(path):
    """Tries until it has an answer. What is too old to be in the history (410) or gone with its session (404) is nothing."""
    request = urllib.request.Request(SERVICE_URL + path, headers=HEADERS)
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                link = re.search('<([^>]*)>; *rel="next"', answer.headers.get("Link", ""))
                return json.load(answer), link and link[1]
        except urllib.error.HTTPError as error:
            print(path, error.code, error.read().decode(), file=sys.stderr)
            if error.code < 500:
                return [], None
        except OSError as error:
            print(path, error, file=sys.stderr)
        time.sleep(0.5)


def catch_up():
    """After the subscription, so that nothing falls in between: what is published from now on waits in the socket."""
    global position, is_new
    if is_new:
        newest, _ = get(HISTORY + "?limit=1&order=desc")
        position = newest[0]["position"] if newest else None
        is_new = False
        return
    for event in events_after(HISTORY, position):
        accept(event)
        position = event["position"]


def main():
    while True:
        try:
            subscriber = redis.Redis.from_url(REDIS_URL, socket_keepalive=True, health_check_interval=15).pubsub()
            subscriber.subscribe(CHANNEL)
            for message in subscriber.listen():
                if message["type"] == "subscribe":  # Also when the client has connected anew by itself.
                    catch_up()
                elif message["type"] == "message":
                    receive(json.loads(message["data"]))
        except redis.RedisError as error:
            print(error, file=sys.stderr)
            time.sleep(0.5)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
