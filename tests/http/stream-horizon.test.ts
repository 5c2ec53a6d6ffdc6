/** Event streams after old events were removed. */

import { expect, it } from "vitest";
import { openStream, told } from "../support/event-source.ts";
import { startTestService } from "../support/service.ts";
import { until } from "../support/until.ts";

it("410 before the horizon, 200 from it on; a replay that retention overtakes is cut off, never skipped ahead", async () => {
  await using own = await startTestService();
  const { sql } = own.database;
  const id = await own.create();
  // More than a client's connection holds, so that the replay is still under way.
  const payload = { output: "x".repeat(200_000) };
  for (let n = 0; n < 5; n++) {
    const events = Array.from({ length: 20 }, () => ({ event_type: "terminal", payload }));
    await own.request("POST", `/sessions/${id}/events`, events);
  }
  const all = `${own.url}/events/stream`;
  const its = `${own.url}/sessions/${id}/events/stream`;
  await using slow = await openStream(`${all}?after=0`);
  slow.pause();
  await using slowOfSession = await openStream(`${its}?after=0`);
  slowOfSession.pause();
  const [{ horizon = 0 } = {}] = await sql`select max(position)::float8 as horizon from events where sequence <= 90`;
  await until(async () => {
    const [row] = await sql`select position >= ${horizon} as published from relays`;
    return row?.["published"] === true;
  }, "what is removed to be published");
  await sql`update relays set horizon = ${horizon} where name = 'redis'`;
  await sql`delete from events where position <= ${horizon}`;
  for (const url of [all, its]) {
    await using early = await openStream(`${url}?after=${horizon - 1}`);
    expect(early.status).toBe(410);
    await using kept = await openStream(`${url}?after=${horizon}`);
    await kept.count(11);
    expect(kept.events.map((event) => told(event).sequence)).toEqual(Array.from({ length: 11 }, (_, n) => n + 91));
  }
  for (const stream of [slow, slowOfSession]) {
    stream.resume();
    await until(() => stream.ended() !== undefined || stream.events.length > 90, "the replay to break off");
    const sequences = stream.events.map((event) => told(event).sequence);
    expect([stream.ended(), sequences.length < 90]).toEqual(["broken", true]);
    expect(sequences).toEqual(sequences.map((_, at) => at + 1));
  }
});
