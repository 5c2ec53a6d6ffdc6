/** Events as the clients of subscribers see them: redis-cli, ioredis, node-redis and Python's redis. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createClient } from "redis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentId, startTestService, subscribe, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const channel = "events:session";
const hasRedisCli = spawnSync("redis-cli", ["--version"]).status === 0;
/** Debian's python3-redis belongs to the system's own python. */
const python = ["/usr/bin/python3", "python3"].find((name) => spawnSync(name, ["-c", "import redis"]).status === 0);

describe("events on the channel events:session", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  /** Creates and pauses a session, and gives the two messages that a subscriber must have received by then. */
  async function expectEvents(received: () => string[]): Promise<void> {
    const id = await service.create({ session_type: "development", runtime_backend: "local" });
    await service.request("PATCH", `/sessions/${id}`, { status: "paused", checkpoint: { step: "ünï" } });
    const its = () => received().filter((message) => message.includes(id));
    await until(() => its().length === 2, "both events");
    const [created, updated] = its().map((message) => JSON.parse(message));
    expect(created).toMatchObject({
      event_type: "session.created",
      aggregate_type: "session",
      aggregate_id: id,
      payload: { agent_id: agentId, session_type: "development", runtime_backend: "local" },
      sequence: 1,
      session_version: 1,
      schema_version: 1,
    });
    expect(updated).toMatchObject({
      event_type: "session.updated",
      aggregate_type: "session",
      aggregate_id: id,
      payload: {
        agent_id: agentId,
        status: "paused",
        updates: ["status", "phase", "checkpoint"],
        phase: "paused",
        from: "running",
        to: "paused",
      },
      sequence: 2,
      session_version: 2,
    });
    expect(Object.keys(updated).slice(0, 4)).toEqual(["event_type", "aggregate_type", "aggregate_id", "payload"]);
  }

  /** Runs a subscriber that prints what it receives, once it says that it listens. */
  async function withSubscriber(child: ChildProcess, listens: RegExp, check: (output: () => string) => Promise<void>) {
    let output = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    try {
      await until(() => listens.test(output), "the subscriber to listen");
      await check(() => output);
    } finally {
      child.kill("SIGKILL");
    }
  }

  it.skipIf(!hasRedisCli)("reach redis-cli subscribe", async () => {
    const child = spawn("redis-cli", ["-u", service.redisUrl, "subscribe", channel]);
    await withSubscriber(child, /subscribe/, (output) =>
      expectEvents(() =>
        output()
          .split("\n")
          .filter((line) => line.startsWith("{")),
      ),
    );
  });

  it("reach ioredis", async () => {
    await using subscription = await subscribe(service.redisUrl);
    await expectEvents(() => subscription.events.map((event) => JSON.stringify(event)));
  });

  it.each([2, 3] as const)("reach node-redis, RESP%i", async (RESP) => {
    const client = createClient({ url: service.redisUrl, RESP });
    const messages: string[] = [];
    await client.connect();
    try {
      await client.subscribe(channel, (message) => messages.push(message));
      await expectEvents(() => messages);
    } finally {
      client.destroy();
    }
  });

  it.skipIf(python === undefined)("reach Python's redis client", async () => {
    const script = `
import redis, sys
subscriber = redis.Redis.from_url(sys.argv[1]).pubsub()
subscriber.subscribe("${channel}")
for message in subscriber.listen():
    print(message["type"] if message["type"] != "message" else message["data"].decode(), flush=True)
`;
    const child = spawn(python ?? "", ["-c", script, service.redisUrl]);
    await withSubscriber(child, /subscribe/, (output) =>
      expectEvents(() =>
        output()
          .split("\n")
          .filter((line) => line.startsWith("{")),
      ),
    );
  });
});
