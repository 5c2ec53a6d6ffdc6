import { EventSource, type MessageEvent } from "undici";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type EventStream, openStream, type StreamedEvent, type StreamRequest, told } from "../support/event-source.ts";
import { startProxy } from "../support/proxy.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const nobody = "00000000-0000-0000-0000-000000000000";

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ CORS_ORIGINS: "http://pages.example" });
});
afterAll(() => service.stop());

const open = (path: string, options?: StreamRequest) => openStream(`${service.url}${path}`, options);

const change = async (id: string, body: object) => {
  const answer = await service.request("PATCH", `/sessions/${id}`, body);
  expect(answer.status, answer.text).toBe(200);
};

const report = async (id: string, ...events: object[]) => {
  const answer = await service.request("POST", `/sessions/${id}/events`, events);
  expect(answer.status, answer.text).toBe(201);
};

/** The feed's last position, once all that is committed has one. */
async function settled(): Promise<string> {
  let last = "0";
  await until(async () => {
    const [row] = await service.database.sql`
      select settled::text, settled >= (select coalesce(max(position), 0) from events) as reached
      from relays where name = 'redis'`;
    last = row?.["settled"];
    return row?.["reached"] === true;
  }, "the feed to reach the last event");
  return last;
}

/** What a replay gives, up to the end of what there is. */
async function replay(path: string, count: number): Promise<readonly StreamedEvent[]> {
  await using stream = await open(path);
  expect(stream.status, stream.text()).toBe(200);
  await stream.count(count);
  return [...stream.events];
}

describe("200 GET /events/stream and /sessions/{id}/events/stream", () => {
  it("are event streams: each event with its position as id, its type, and the envelope that GET /events gives", async () => {
    const start = await settled();
    const id = await service.create({ context: { task: 'ünï\n"x"' } });
    await change(id, { status: "paused" });
    await report(id, { event_type: "thinking", payload: { iteration: 1.0, tools_used: ["a\r\nb"] } });
    await settled();
    const page = await service.request("GET", `/events?after=${start}`);
    expect(page.body).toHaveLength(3);
    for (const path of [`/events/stream?after=${start}`, `/sessions/${id}/events/stream/?after=${start}`]) {
      await using stream = await open(path);
      expect(stream.headers["content-type"]).toBe("text/event-stream; charset=utf-8");
      expect(stream.headers["cache-control"]).toMatch(/no-cache/);
      expect(stream.headers["x-request-id"]).toMatch(/./);
      await stream.count(3);
      expect(stream.retries).toEqual([2000]);
      for (const [at, event] of stream.events.entries()) {
        const expected = page.body[at];
        expect(event.id).toBe(expected.position);
        expect(event.event).toBe(expected.event_type);
        expect(page.text).toContain(event.data);
        expect(told(event)).toEqual(expected);
      }
    }
  });

  it("start with what happens from now on, when no position is given", async () => {
    const id = await service.create();
    await settled();
    await using all = await open("/events/stream");
    await using its = await open(`/sessions/${id}/events/stream`);
    await change(id, { checkpoint: { step: 1 } });
    for (const stream of [all, its]) {
      const [first] = await stream.count(1);
      expect(first && told(first)).toMatchObject({ aggregate_id: id, sequence: 2 });
    }
  });

  it("with after=0 replay everything, and go on live", async () => {
    const id = await service.create();
    for (let step = 0; step < 5; step++) await change(id, { checkpoint: { step } });
    await using stream = await open(`/sessions/${id}/events/stream?after=0`);
    await stream.count(6);
    await change(id, { checkpoint: { step: 5 } });
    await stream.count(7);
    expect(stream.events.map((event) => told(event).sequence)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    const history = (await service.request("GET", "/events?limit=1000")).body;
    const all = await replay("/events/stream?after=0", history.length);
    expect(all.map(told)).toEqual(history);
  });

  it("resume after Last-Event-ID, which comes before `after`; an empty one is none", async () => {
    const id = await service.create();
    for (let step = 0; step < 4; step++) await change(id, { checkpoint: { step } });
    const path = `/sessions/${id}/events/stream`;
    const events = await replay(`${path}?after=0`, 5);
    const third = events[2]?.id ?? "";
    await using resumed = await open(`${path}?after=0`, { headers: { "last-event-id": third } });
    await resumed.count(2);
    expect(resumed.events).toEqual(events.slice(3));
    await using whole = await open(`${path}?after=${third}`, { headers: { "last-event-id": "" } });
    await whole.count(2);
    expect(whole.events).toEqual(events.slice(3));
  });

  it("give what is posted, each on the streams of all and of its session, and of no other", async () => {
    const [id, other] = [await service.create(), await service.create()];
    await settled();
    await using all = await open("/events/stream");
    await using its = await open(`/sessions/${id}/events/stream`);
    await using others = await open(`/sessions/${other}/events/stream`);
    await report(id, { event_type: "terminal", payload: { command: "ls", exit_code: 0 } }, { event_type: "lunch" });
    await report(other, { event_type: "error", payload: { message: "no" } });
    await all.count(3);
    await its.count(2);
    await others.count(1);
    expect(all.events.map(({ event }) => event)).toEqual(["session.terminal", "session.lunch", "session.error"]);
    expect(its.events).toEqual(all.events.slice(0, 2));
    expect(others.events).toEqual(all.events.slice(2));
  });

  it("take the filters of GET /events, live and in a replay", async () => {
    const start = await settled();
    const [first, second, third] = [await service.create(), await service.create(), await service.create()];
    const paths = [
      "event_type=session.updated,terminal",
      "event_type=terminal&event_type=updated",
      `aggregate_id=${first}`,
      `aggregate_id=${first.toUpperCase()},${third}`,
      `event_type=updated&aggregate_id=${third}`,
    ];
    const live = await Promise.all(paths.map((query) => open(`/events/stream?after=${start}&${query}`)));
    for (const id of [first, second, third]) {
      await change(id, { status: "paused" });
      await report(id, { event_type: "terminal" }, { event_type: "thinking" });
    }
    await settled();
    const middle = (await service.request("GET", `/sessions/${second}`)).body.updated_at;
    for (const [at, query] of [
      ...paths,
      `created_after=${middle}`,
      `created_before=${middle}`,
      `created_after=${middle}&event_type=updated`,
    ].entries()) {
      const expected = (await service.request("GET", `/events?after=${start}&${query}`)).body;
      expect(expected.length, query).toBeGreaterThan(0);
      const replayed = await replay(`/events/stream?after=${start}&${query}`, expected.length);
      expect(replayed.map(told), query).toEqual(expected);
      await live[at]?.count(expected.length);
      if (live[at] !== undefined) expect(live[at].events.map(told), query).toEqual(expected);
    }
    for (const stream of live) stream.cut();
  });

  it("speak the coding vocabulary", async () => {
    const start = await settled();
    const id = await service.create();
    await change(id, { status: "paused" });
    await change(id, { checkpoint: { step: 1 } });
    await report(id, { event_type: "thinking", payload: { iteration: 1 } });
    await settled();
    const { body } = await service.request("GET", `/sessions/${id}/events?vocabulary=coding`);
    const events = await replay(`/sessions/${id}/events/stream?after=${start}&vocabulary=coding`, 4);
    expect(events.map(({ event }) => event)).toEqual([
      "session.created",
      "state_changed",
      "session.updated",
      "thinking",
    ]);
    expect(events.map(told)).toEqual(body);
    const changes = await replay(`/events/stream?after=${start}&vocabulary=coding&event_type=state_changed`, 1);
    expect(changes.map((event) => told(event).payload)).toEqual([{ from: "active", to: "paused", reason: null }]);
  });

  it("answer HEAD with the same head and nothing more", async () => {
    for (const path of ["/events/stream", `/sessions/${await service.create()}/events/stream`]) {
      await using head = await open(path, { method: "HEAD" });
      expect(head.status).toBe(200);
      expect(head.headers["content-type"]).toBe("text/event-stream; charset=utf-8");
      await until(() => head.ended() === "whole", "the end of the answer");
    }
  });

  it("are for clients that take event streams, whatever they call them", async () => {
    for (const accept of ["text/event-stream", "*/*", "text/*", "text/event-stream, application/json;q=0.5"]) {
      await using stream = await open("/events/stream", { headers: { accept } });
      expect([accept, stream.status]).toEqual([accept, 200]);
    }
  });

  it("are read by a standard client, which comes back by itself and goes on where it was", async () => {
    const id = await service.create();
    await settled();
    const { hostname, port } = new URL(service.url);
    await using road = await startProxy({ host: hostname, port: Number(port) });
    const source = new EventSource(`http://127.0.0.1:${road.port}/sessions/${id}/events/stream?after=0`);
    const received: StreamedEvent[] = [];
    for (const type of ["session.created", "session.updated"]) {
      source.addEventListener(type, (event) => {
        const { lastEventId, data } = event as unknown as MessageEvent<string>;
        received.push({ id: lastEventId, event: type, data });
      });
    }
    try {
      await change(id, { checkpoint: { step: 1 } });
      await until(() => received.length === 2, "what happened before the cut");
      road.cut();
      await change(id, { checkpoint: { step: 2 } });
      await until(() => received.length === 3, "what happened while it was away");
      await change(id, { checkpoint: { step: 3 } });
      await until(() => received.length === 4, "what happened since");
      expect(received.map((event) => told(event).sequence)).toEqual([1, 2, 3, 4]);
      expect(received.map((event) => told(event).position)).toEqual(received.map((event) => event.id));
    } finally {
      source.close();
    }
  });

  it("let the pages of CORS_ORIGINS read them, and no others", async () => {
    await using letIn = await open("/events/stream", { headers: { origin: "http://pages.example" } });
    expect(letIn.headers["access-control-allow-origin"]).toBe("http://pages.example");
    await using leftOut = await open("/events/stream", { headers: { origin: "http://others.example" } });
    expect(leftOut.headers["access-control-allow-origin"]).not.toBe("http://others.example");
  });
});

describe("GET /events/stream and /sessions/{id}/events/stream", () => {
  const problemOf = async (path: string, options?: StreamRequest) => {
    await using stream: EventStream = await open(path, options);
    await until(() => stream.ended() !== undefined, "the end of the problem");
    expect(stream.headers["content-type"]).toMatch(/^application\/problem\+json/);
    return { status: stream.status, ...JSON.parse(stream.text()) };
  };

  it("404 for a session that is unknown, malformed or deleted", async () => {
    const deleted = await service.create();
    expect((await service.request("DELETE", `/sessions/${deleted}`)).status).toBeLessThan(300);
    for (const id of [nobody, "nonsense", deleted]) {
      const problem = await problemOf(`/sessions/${id}/events/stream`);
      expect([id, problem.status, problem.detail]).toEqual([id, 404, "Session not found"]);
    }
  });

  it("406 for a client that takes JSON only", async () => {
    for (const accept of ["application/json", "text/html"]) {
      expect(await problemOf("/events/stream", { headers: { accept } })).toMatchObject({ status: 406 });
    }
  });

  it("410 for a position that no event ever had", async () => {
    const id = await service.create();
    const beyond = String(Number(await settled()) + 1_000_000);
    for (const position of [beyond, "999999999999999999", "nonsense", "-1", "1.5", "1e3", "007"]) {
      for (const path of ["/events/stream", `/sessions/${id}/events/stream`]) {
        for (const asked of [
          await problemOf(`${path}?after=${position}`),
          await problemOf(path, { headers: { "last-event-id": position } }),
        ]) {
          expect([position, asked.status, asked.code]).toEqual([position, 410, "position_gone"]);
        }
      }
    }
  });

  it("422 for filters that are none", async () => {
    for (const query of ["event_type=UPPER!", "aggregate_id=x", "created_after=yesterday", "vocabulary=latin"]) {
      expect(await problemOf(`/events/stream?${query}`)).toMatchObject({ status: 422, code: "validation_failed" });
    }
  });

  it("405 for other methods", async () => {
    const answer = await service.request("POST", "/events/stream", {});
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  });
});

describe("event streams with API keys", () => {
  it("401 without a key, 200 with one", async () => {
    await using guarded = await startTestService({ API_KEYS: "first-of-keys,second-of-keys" });
    const url = `${guarded.url}/events/stream`;
    await using without = await openStream(url);
    expect(without.status).toBe(401);
    for (const headers of [{ "x-api-key": "second-of-keys" }, { authorization: "Bearer first-of-keys" }]) {
      await using stream = await openStream(url, { headers });
      expect(stream.status).toBe(200);
    }
  });
});
