/**
 * Follows the sessions' changes on Redis, and prints each event once, in order for each session:
 *
 *     npx tsx examples/subscriber.ts                    all sessions
 *     npx tsx examples/subscriber.ts <session id>       one session, with what its runtime reports
 *
 * REDIS_URL, SERVICE_URL and API_KEY say where. Redis forgets whoever is not listening, and may deliver twice. So an
 * event is known by its id; a number that is skipped is read from the history, over HTTP; and so is, after every
 * connect, what was published in the meantime.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";

const { REDIS_URL = "redis://localhost:6379", SERVICE_URL = "http://localhost:8011", API_KEY } = process.env;
const [sessionId] = process.argv.slice(2);
const changes = "session.created,session.updated,session.deleted,session.restored,session.purged";
const channel = sessionId === undefined ? "events:session" : `events:session:${sessionId}`;
const history = sessionId === undefined ? "/events" : `/sessions/${sessionId}/events`;
/** What has no gaps: a session's versions over its changes, its sequence over all its events. */
const counter = sessionId === undefined ? "session_version" : "sequence";
const headers: Record<string, string> = API_KEY === undefined ? {} : { "X-API-Key": API_KEY };

interface Event {
  readonly event_id: string;
  readonly event_type: string;
  readonly aggregate_id: string;
  readonly session_version: number;
  readonly sequence: number;
  readonly position: string;
  readonly payload: unknown;
}

/** Where we are in the feed. Stored with your work, it is where you go on after a restart of your own. */
let position: string | undefined;
let isNew = true;
/** The last event of each session, and the ids of the latest 100,000: those that may come again. */
const last = new Map<string, Event>();
const seen = new Set<string>();

/** Your work goes here. */
function handle(event: Event): void {
  console.log(event.aggregate_id, event.sequence, event.event_type, JSON.stringify(event.payload));
}

/** Takes an event that nothing is missing before. */
function accept(event: Event): void {
  if (seen.has(event.event_id)) return;
  handle(event);
  last.set(event.aggregate_id, event);
  seen.add(event.event_id);
  for (const oldest of seen) {
    if (seen.size <= 100_000) break;
    seen.delete(oldest);
  }
}

async function receive(event: Event): Promise<void> {
  const before = last.get(event.aggregate_id);
  if (before !== undefined && event[counter] > before[counter] + 1 && !seen.has(event.event_id)) {
    for await (const missed of eventsAfter(`/sessions/${event.aggregate_id}/events`, before.position)) accept(missed);
  }
  accept(event);
  position = event.position;
}

/** Everything after a position, oldest first; after undefined: from the first event on. */
async function* eventsAfter(path: string, after: string | undefined): AsyncGenerator<Event> {
  const query = new URLSearchParams({ limit: "1000", include_deleted: "true" });
  if (after !== undefined) query.set("after", after);
  if (sessionId === undefined) query.set("event_type", changes);
  for (let page: string | undefined = `${path}?${query}`; page !== undefined; ) {
    const { events, next } = await get(page);
    yield* events;
    page = next;
  }
}

/** Tries until it has an answer. What is too old to be in the history (410) or gone with its session (404) is nothing. */
async function get(path: string): Promise<{ events: Event[]; next?: string | undefined }> {
  for (;;) {
    try {
      const answer = await fetch(`${SERVICE_URL}${path}`, { headers });
      const [, next] = /<([^>]*)>; *rel="next"/.exec(answer.headers.get("link") ?? "") ?? [];
      if (answer.ok) return { events: (await answer.json()) as Event[], next };
      console.error(`${path}: ${await answer.text()}`);
      if (answer.status < 500) return { events: [] };
    } catch (error) {
      console.error(`${path}: ${error}`);
    }
    await sleep(500);
  }
}

/** After the subscription, so that nothing falls in between: what is published from now on waits in the queue. */
async function catchUp(): Promise<void> {
  if (isNew) {
    const { events } = await get(`${history}?limit=1&order=desc`);
    position = events[0]?.position;
    isNew = false;
    return;
  }
  for await (const event of eventsAfter(history, position)) {
    accept(event);
    position = event.position;
  }
}

/** One thing after the other. */
let queue = Promise.resolve();
function enqueue(task: () => Promise<void>): void {
  queue = queue.then(task).catch((error) => console.error(String(error)));
}

const redis = new Redis(REDIS_URL, { autoResubscribe: false, retryStrategy: (times) => Math.min(times * 100, 2_000) });
redis.on("error", (error) => console.error(String(error)));
redis.on("message", (_, text) => enqueue(() => receive(JSON.parse(text))));
redis.on("ready", () =>
  enqueue(async () => {
    await redis.subscribe(channel);
    await catchUp();
  }),
);
