import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { openStream, told } from "../support/event-source.ts";
import { startTestService } from "../support/service.ts";
import { startStreamStage } from "../support/stream-stage.ts";
import { until } from "../support/until.ts";

const kib = 1024;

const numbers = (count: number) => Array.from({ length: count }, (_, at) => at);

describe("many open streams", () => {
  it("300 of them all get an event, and a burst of several MB cuts none of them", async () => {
    // Far less than all their writes together: what waits for several of them counts once.
    await using stage = await startStreamStage({ keepAliveMs: 1_000, backlogBytes: 1024 * kib });
    const streams = await Promise.all(numbers(300).map(() => openStream(`${stage.url}/`)));
    const id = randomUUID();
    await stage.write(id, 1, 100);
    for (const stream of streams) await stream.count(1);
    await stage.write(id, 200, 4 * kib, 2);
    for (const stream of streams) await stream.count(201, 30_000);
    expect(stage.streams.size).toBe(300);
    for (const { events } of streams) expect(events.findIndex((event, at) => told(event).sequence !== at + 1)).toBe(-1);
    for (const stream of streams) stream.cut();
  }, 60_000);

  it("leave nothing behind when their clients leave, also before they were answered", async () => {
    await using stage = await startStreamStage();
    for (const path of ["/", `/?session=${randomUUID()}`, "/?after=0"]) {
      const streams = await Promise.all(numbers(100).map(() => openStream(`${stage.url}${path}`)));
      expect(stage.streams.size).toBe(100);
      for (const stream of streams) stream.cut();
      await until(() => stage.streams.size === 0, "the streams to be gone");
    }
    const release = stage.hold();
    const leaving = new AbortController();
    const asked = numbers(20).map(() => fetch(`${stage.url}/`, { signal: leaving.signal }).catch(() => "left"));
    const last = fetch(`${stage.url}/`);
    leaving.abort();
    expect(new Set(await Promise.all(asked))).toEqual(new Set(["left"]));
    release();
    const answer = await last;
    expect(stage.streams.size).toBe(1);
    await answer.body?.cancel();
    await until(() => stage.streams.size === 0, "the last stream to be gone");
  });
});

describe("a client that reads", () => {
  it("is not cut off by a burst of 200 events of 200 KiB, and gets all of them", async () => {
    await using service = await startTestService();
    const id = await service.create();
    const streams = [
      await openStream(`${service.url}/events/stream?after=0`),
      await openStream(`${service.url}/sessions/${id}/events/stream?after=0`),
    ];
    const payload = { output: "x".repeat(200 * kib) };
    for (let batch = 0; batch < 8; batch++) {
      const events = numbers(25).map(() => ({ event_type: "terminal", payload }));
      const answer = await service.request("POST", `/sessions/${id}/events`, events);
      expect(answer.status, answer.text).toBe(201);
    }
    for (const stream of streams) {
      await stream.count(201, 30_000);
      expect(stream.ended()).toBeUndefined();
      expect(stream.events.findIndex((event, at) => told(event).sequence !== at + 1)).toBe(-1);
      stream.cut();
    }
  }, 90_000);
});
