import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { openStream, type Told, told } from "../support/event-source.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const clients = 20;
const cutsOfEach = 50;

/** Writes until it is told to stop: changes, reports, and transactions that commit late or not at all. */
function write(service: TestService, ids: readonly string[], signal: AbortSignal): Promise<unknown> {
  const anyId = () => ids[Math.floor(Math.random() * ids.length)] ?? "";
  const again = async (work: () => Promise<unknown>) => {
    while (!signal.aborted) await work();
  };
  const changes = () => service.request("PATCH", `/sessions/${anyId()}`, { checkpoint: { at: Math.random() } });
  const reports = () =>
    service.request(
      "POST",
      `/sessions/${anyId()}/events`,
      Array.from({ length: Math.ceil(Math.random() * 10) }, () => ({ event_type: "thinking", payload: {} })),
    );
  const slow = () =>
    service.database.sql
      .begin(async (tx) => {
        await tx`
          with s as (update sessions set last_sequence = last_sequence + 1 where id = ${anyId()} returning *)
          insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
          select gen_random_uuid(), id, last_sequence, version, 'session.lunch', '{}', clock_timestamp() from s`;
        await sleep(Math.random() * 40);
        if (Math.random() < 0.3) throw new Error("changed my mind");
      })
      .catch(() => {});
  const writers = [changes, changes, changes, reports, slow];
  return Promise.all(writers.map(again));
}

interface Follower {
  readonly path: string;
  readonly seen: Told[];
  last: string;
}

/** Connects, resuming where it was, and leaves at some moment, mostly in the midst of what it is sent. */
async function connectAndLeave(service: TestService, follower: Follower): Promise<void> {
  const headers = { "last-event-id": follower.last };
  const stream = await openStream(`${service.url}${follower.path}`, { headers });
  if (stream.status !== 200) throw new Error(`${follower.path} after ${follower.last}: ${stream.status}`);
  await sleep(Math.random() < 0.3 ? 0 : Math.random() * 60);
  take(follower, stream);
}

function take(follower: Follower, stream: Awaited<ReturnType<typeof openStream>>): void {
  stream.cut();
  follower.seen.push(...stream.events.map(told));
  follower.last = stream.lastEventId() ?? follower.last;
}

it(`${clients * cutsOfEach} random reconnects under write load: what each client saw is the feed, in order, without a gap or a repeat`, async () => {
  await using service = await startTestService();
  const ids = await Promise.all(Array.from({ length: 6 }, () => service.create()));
  const stop = new AbortController();
  const writing = write(service, ids, stop.signal);
  const followers: Follower[] = Array.from({ length: clients }, (_, at) => ({
    path: at % 2 === 0 ? "/events/stream" : `/sessions/${ids[at % ids.length]}/events/stream`,
    seen: [],
    last: "0",
  }));
  await Promise.all(
    followers.map(async (follower) => {
      for (let cut = 0; cut < cutsOfEach; cut++) await connectAndLeave(service, follower);
    }),
  );
  stop.abort();
  await writing;

  const feed = await service.database.sql<{ event_id: string; session_id: string; position: string }[]>`
    select event_id, session_id, position::text from events order by events.position`;
  expect(feed.length).toBeGreaterThan(500);
  for (const follower of followers) {
    const expected = feed.filter(
      ({ session_id: id }) => follower.path.includes(id) || !follower.path.includes("/sessions"),
    );
    await using rest = await openStream(`${service.url}${follower.path}`, {
      headers: { "last-event-id": follower.last },
    });
    await until(() => follower.seen.length + rest.events.length >= expected.length, "the rest of the feed");
    take(follower, rest);
    const told = follower.seen.map(({ event_id: id, position }) => `${position} ${id}`);
    expect(told, follower.path).toEqual(expected.map(({ event_id: id, position }) => `${position} ${id}`));
  }
}, 120_000);
