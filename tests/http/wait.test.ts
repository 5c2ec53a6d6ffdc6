import diagnostics from "node:diagnostics_channel";
import type { IncomingMessage } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openStream } from "../support/event-source.ts";
import { redisGate } from "../support/redis-gate.ts";
import { startReplica } from "../support/replica.ts";
import { type Answer, send, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const nobody = "00000000-0000-0000-0000-000000000000";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const wait = (id: string, query: string) => service.request("GET", `/sessions/${id}/wait?${query}`);

const patch = async (id: string, body: object) => {
  const answer = await service.request("PATCH", `/sessions/${id}`, body);
  expect(answer.status, answer.text).toBe(200);
  return answer;
};

const timedOut = ({ headers }: Answer) => headers.get("wait-timed-out");

/** Waits until a wait that was asked for has begun, as nearly as can be seen: what is asked for later is answered. */
async function isFollowed(url = service.url): Promise<void> {
  for (let time = 0; time < 3; time++) await send(`${url}/sessions/${nobody}`, "GET");
}

/** The timers of this process, and so of the service in it: each wait has one. */
const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;

describe("200 GET /sessions/{id}/wait", () => {
  it("answers at once with the session when it is there already", async () => {
    const id = await service.create();
    await patch(id, { status: "completed" });
    for (const query of [
      "until=completed",
      "until=crashed,completed",
      "until=COMPLETED%20&timeout=300",
      "after_version=1",
    ]) {
      const startedAt = performance.now();
      const answer = await wait(id, query);
      expect([query, answer.status, timedOut(answer)]).toEqual([query, 200, null]);
      expect(performance.now() - startedAt).toBeLessThan(5_000);
      const now = await service.request("GET", `/sessions/${id}`);
      expect(answer.text).toBe(now.text);
      expect(answer.headers.get("etag")).toBe(now.headers.get("etag"));
    }
    const slashed = await service.request("GET", `/sessions/${id}/wait/?until=completed`);
    expect(slashed.status).toBe(200);
  });

  it("answers once the session gets there, soon after the change, and not before", async () => {
    const taken: number[] = [];
    for (let time = 0; time < 5; time++) {
      const id = await service.create();
      let answeredAt = 0;
      const waiting = wait(id, "until=completed,crashed&timeout=20").then((answer) => {
        answeredAt = performance.now();
        return answer;
      });
      await patch(id, { checkpoint: { step: 1 } });
      await patch(id, { status: "paused" });
      await isFollowed();
      expect(answeredAt).toBe(0);
      await patch(id, { status: "completed" });
      const changedAt = performance.now();
      const answer = await waiting;
      expect([answer.body.status, answer.body.version, timedOut(answer)]).toEqual(["completed", 4, null]);
      taken.push(answeredAt - changedAt);
    }
    expect(taken.sort((a, b) => a - b)[2]).toBeLessThan(100);
  });

  it("takes several words: statuses and phases, in any case, with commas or repeated", async () => {
    for (const [until, change] of [
      ["Crashed,PAUSED", { status: "paused" }],
      ["completed&until=stopped", { phase: "stopped" }],
      ["busy, waiting_input", { phase: "waiting_input" }],
      ["failed", { phase: "failed" }],
    ] as const) {
      const id = await service.create();
      const waiting = wait(id, `until=${until}&timeout=20`);
      await patch(id, change);
      const answer = await waiting;
      expect([until, answer.status, timedOut(answer)]).toEqual([until, 200, null]);
      expect(answer.body).toMatchObject(change);
    }
  });

  it("waits for a version after the given one; with `until`, for both", async () => {
    const id = await service.create();
    const next = wait(id, "after_version=1&timeout=20");
    const third = wait(id, "after_version=2&timeout=20");
    const both = wait(id, "after_version=2&until=active&timeout=20");
    await patch(id, { checkpoint: { step: 1 } });
    expect((await next).body.version).toBeGreaterThanOrEqual(2);
    await patch(id, { status: "paused" });
    expect((await third).body.version).toBe(3);
    await patch(id, { status: "active" });
    expect((await both).body).toMatchObject({ version: 4, status: "active" });
  });

  it("without either waits for any change, and not for what a runtime reports", async () => {
    const id = await service.create();
    const waiting = wait(id, "timeout=20");
    let answered = false;
    void waiting.then(() => {
      answered = true;
    });
    await isFollowed();
    await service.request("POST", `/sessions/${id}/events`, { event_type: "thinking", payload: {} });
    await isFollowed();
    expect(answered).toBe(false);
    await patch(id, { context: { changed: true } });
    const answer = await waiting;
    expect([answer.body.version, timedOut(answer)]).toEqual([2, null]);
  });

  it("after the timeout answers with the session as it is, and says so", async () => {
    const id = await service.create();
    for (const query of ["timeout=0&until=completed", "timeout=0.2&after_version=7", "timeout=0"]) {
      const answer = await wait(id, query);
      expect([query, answer.status, timedOut(answer), answer.body.version]).toEqual([query, 200, "true", 1]);
    }
  });

  it("answers 200 who wait for one session by one change", async () => {
    const id = await service.create();
    const waiting = Array.from({ length: 200 }, () => wait(id, "until=completed&timeout=30"));
    await isFollowed();
    await patch(id, { status: "completed" });
    const answers = await Promise.all(waiting);
    expect(new Set(answers.map((answer) => `${answer.status} ${answer.body.status} ${timedOut(answer)}`))).toEqual(
      new Set(["200 completed null"]),
    );
  });

  it("lets nobody wait in vain who asks while the change is made, 200 times", async () => {
    const ids = await Promise.all(Array.from({ length: 200 }, () => service.create()));
    const race = async (id: string) => {
      const changed = () => patch(id, { status: "completed" });
      const waited = () => wait(id, "until=completed&timeout=15");
      const [answer] =
        Math.random() < 0.5
          ? await Promise.all([waited(), changed()])
          : (await Promise.all([changed(), waited()])).reverse();
      return answer === undefined ? "none" : `${answer.body.status} ${timedOut(answer)}`;
    };
    const seen = new Set<string>();
    for (let at = 0; at < ids.length; at += 10) {
      for (const outcome of await Promise.all(ids.slice(at, at + 10).map(race))) seen.add(outcome);
    }
    expect(seen).toEqual(new Set(["completed null"]));
  });
});

describe("GET /sessions/{id}/wait", () => {
  it("keeps nothing of a client that has left", async () => {
    const id = await service.create();
    const leaving = new AbortController();
    const before = timers();
    const url = `${service.url}/sessions/${id}/wait?until=completed&timeout=300`;
    const waiting = Array.from({ length: 100 }, () => fetch(url, { signal: leaving.signal }).catch(() => "left"));
    await until(() => timers() >= before + 90, "them to wait");
    leaving.abort();
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(["left"]));
    await until(() => timers() < before + 10, "their timers to be gone");
  });

  it("404 for a session that is unknown, malformed or deleted, and for one that is deleted meanwhile", async () => {
    const [deleted, meanwhile] = [await service.create(), await service.create()];
    await service.request("DELETE", `/sessions/${deleted}`);
    for (const id of [nobody, "nonsense", deleted])
      expect([id, (await wait(id, "until=completed")).status]).toEqual([id, 404]);
    const waiting = wait(meanwhile, "until=completed&timeout=20");
    await isFollowed();
    await service.request("DELETE", `/sessions/${meanwhile}`);
    expect(await waiting).toMatchObject({ status: 404, body: { detail: "Session not found" } });
  });

  it("422 for a word that is none, with those there are", async () => {
    const id = await service.create();
    for (const query of ["until=finished", "until=completed,", "until="]) {
      const { status, body } = await wait(id, query);
      expect([query, status, body.code]).toEqual([query, 422, "validation_failed"]);
      expect(body.errors[0].detail).toMatch(/active, paused, completed, crashed.*waiting_input/);
    }
  });

  it("422 for a timeout that is out of range, and for a version that is none", async () => {
    const id = await service.create();
    for (const query of ["timeout=301", "timeout=-1", "timeout=soon", "timeout=1&timeout=2", "timeout=1e2", "timeout="])
      expect([query, (await wait(id, query)).status]).toEqual([query, 422]);
    for (const query of ["after_version=x", "after_version=-1", "after_version=1.5", "after_version=99999999999"])
      expect([query, (await wait(id, query)).status]).toEqual([query, 422]);
  });
});

describe("waiting on a replica", () => {
  it("is answered soon after a change that was made through another, with Redis and without", async () => {
    await using gate = await redisGate();
    for (const [redis, withinMs] of [
      [{}, 300],
      [{ REDIS_URL: gate.url }, 1_000],
    ] as const) {
      await using first = await startTestService(redis);
      await using second = await startReplica(first, { RELAY: "off" });
      const id = await first.create();
      for (const [status, here, there] of [
        ["paused", first.url, second.url],
        ["completed", second.url, first.url],
      ] as const) {
        let answeredAt = 0;
        const waiting = send(`${there}/sessions/${id}/wait?until=${status}&timeout=15`, "GET").then((answer) => {
          answeredAt = performance.now();
          return answer;
        });
        await isFollowed(there);
        await send(`${here}/sessions/${id}`, "PATCH", { status });
        const changedAt = performance.now();
        const answer = await waiting;
        expect([answer.body.status, timedOut(answer)]).toEqual([status, null]);
        expect(answeredAt - changedAt).toBeLessThan(withinMs);
      }
    }
  }, 60_000);
});

describe("the end of the service", () => {
  it("ends streams with a retry hint, and answers who wait at once, with the session as it is", async () => {
    const own = await startTestService();
    const id = await own.create();
    const streams = [
      await openStream(`${own.url}/events/stream?after=0`),
      await openStream(`${own.url}/sessions/${id}/events/stream?after=0`),
    ];
    for (const stream of streams) await stream.count(1);
    let arrived = 0;
    const count = (message: unknown) => {
      const { request } = message as { readonly request: IncomingMessage };
      if (request.url?.startsWith(`/sessions/${id}/wait`) === true) arrived++;
    };
    diagnostics.subscribe("http.server.request.start", count);
    const waiting = Array.from({ length: 50 }, () =>
      own.request("GET", `/sessions/${id}/wait?until=completed&timeout=300`),
    );
    await until(() => arrived === 50, "them to wait");
    diagnostics.unsubscribe("http.server.request.start", count);
    const stoppedAt = performance.now();
    await own.stop();
    expect(performance.now() - stoppedAt).toBeLessThan(5_000);
    for (const answer of await Promise.all(waiting))
      expect([answer.status, answer.body.status, timedOut(answer)]).toEqual([200, "active", "true"]);
    for (const stream of streams) {
      await until(() => stream.ended() !== undefined, "the end of the stream");
      expect([stream.ended(), stream.retries.length, stream.events.length]).toEqual(["whole", 2, 1]);
      expect(stream.retries[1]).toBeGreaterThanOrEqual(500);
      expect(stream.retries[1]).toBeLessThanOrEqual(2_500);
    }
  });
});
