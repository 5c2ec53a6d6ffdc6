import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { createClient } from "redis";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { type EmbeddedValkey, startEmbeddedValkey } from "../../src/embedded/valkey.ts";

const CHANNEL = "events:session";
const run = promisify(execFile);
const hasRedisCli = spawnSync("redis-cli", ["--version"]).status === 0;
const hasPythonRedis = spawnSync("/usr/bin/python3", ["-c", "import redis"]).status === 0;

let broker: EmbeddedValkey;
const died = vi.fn();
const cleanups: (() => unknown)[] = [];

beforeAll(async () => {
  broker = await startEmbeddedValkey({ port: 0, onFatal: died });
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  expect(died).not.toHaveBeenCalled();
});

afterAll(() => broker?.stop());

describe.each([2, 3] as const)("ioredis in RESP%i", (protocol) => {
  it("hears every message in the order of publishing, and unsubscribes", async () => {
    const [subscriber, publisher] = [ioredis({ protocol }), ioredis({ protocol })];
    const heard: string[] = [];
    subscriber.on("message", (_channel, message) => heard.push(message));
    await subscriber.subscribe(CHANNEL);
    const sent = Array.from({ length: 2_000 }, (_, i) => `${i} ünïcode\r\n$5\r\n${"x".repeat(i % 50)}`);

    await Promise.all(sent.map((message) => publisher.publish(CHANNEL, message)));

    await vi.waitFor(() => expect(heard.length).toBe(sent.length));
    expect(heard).toEqual(sent);
    await subscriber.unsubscribe(CHANNEL);
    expect(await publisher.publish(CHANNEL, "x")).toBe(0);
  });

  it("gets the entries of a stream that it waits for", async () => {
    const [reader, writer] = [ioredis({ protocol }), ioredis({ protocol })];
    await writer.del("waited");
    await writer.xgroup("CREATE", "waited", "group", "$", "MKSTREAM");
    const answer = reader.xreadgroup("GROUP", "group", "me", "BLOCK", 10_000, "STREAMS", "waited", ">");
    await vi.waitFor(async () => expect(await writer.info("clients")).toContain("blocked_clients:1"));

    const id = await writer.xadd("waited", "MAXLEN", "~", 1_000, "*", "k", "v");

    expect(JSON.stringify(await answer)).toContain(JSON.stringify([id, ["k", "v"]]));
    expect(await writer.xack("waited", "group", String(id))).toBe(1);
  });
});

describe.each([2, 3] as const)("node-redis in RESP%i", (RESP) => {
  it("hears every message in the order of publishing, and patterns too", async () => {
    const [subscriber, publisher] = [await nodeRedis(RESP), await nodeRedis(RESP)];
    const heard: string[] = [];
    let byPattern = 0;
    await subscriber.subscribe(CHANNEL, (message) => heard.push(message));
    await subscriber.pSubscribe("events:*", () => byPattern++);
    const sent = Array.from({ length: 2_000 }, (_, i) => `message ${i}`);

    await Promise.all(sent.map((message) => publisher.publish(CHANNEL, message)));

    await vi.waitFor(() => expect([heard.length, byPattern]).toEqual([sent.length, sent.length]));
    expect(heard).toEqual(sent);
  });
});

it.skipIf(!hasRedisCli)("redis-cli, if on PATH, hears what redis-cli publishes", async () => {
  const listener = child("redis-cli", ["-p", String(broker.port), "subscribe", CHANNEL]);
  await vi.waitFor(() => expect(listener.output()).toContain(`subscribe\n${CHANNEL}\n1`));

  await run("redis-cli", ["-p", String(broker.port), "publish", CHANNEL, "hello"]);

  await vi.waitFor(() => expect(listener.output()).toContain(`message\n${CHANNEL}\nhello`));
});

it.skipIf(!hasPythonRedis)("python's redis, if importable, hears what is published", async () => {
  const script = `import redis
r = redis.Redis(port=${broker.port}, decode_responses=True)
p = r.pubsub(ignore_subscribe_messages=True)
p.subscribe("${CHANNEL}")
while (m := p.get_message(timeout=20)) is None: pass
print(m["data"], r.ping())`;
  const listener = child("/usr/bin/python3", ["-c", script]);
  const publisher = ioredis();
  await vi.waitFor(async () => expect(await publisher.publish(CHANNEL, "hello")).toBe(1), 10_000);

  await vi.waitFor(() => expect(listener.output()).toBe("hello True\n"), 10_000);
});

it("answers clients that say who they are, and lists them", async () => {
  const redis = ioredis();
  expect(await redis.client("SETNAME", "session-service")).toBe("OK");
  expect(await redis.call("CLIENT", "SETINFO", "LIB-NAME", "ours")).toBe("OK");
  expect(await redis.call("CLIENT", "LIST")).toMatch(/name=session-service .*lib-name=ours/);
  expect(await redis.info("server")).toContain(`valkey_version:${broker.version}\r\n`);
  expect(await redis.info("server")).toContain(`tcp_port:${broker.port}\r\n`);
});

it("answers a command within a few milliseconds, not at the next tick of a clock", async () => {
  const redis = ioredis();
  await redis.ping();
  const started = performance.now();
  for (let i = 0; i < 100; i++) await redis.ping();
  // a reply that waits for the engine's clock takes 100 ms: 10 s in all
  expect(performance.now() - started).toBeLessThan(3_000);
});

it("carries a value of 24 MB in one command, and back", async () => {
  const redis = ioredis();
  const value = Buffer.alloc(24 * 1024 * 1024, "0123456789abcdef\r\n");
  await redis.set("big", value);
  const answer = await redis.getBuffer("big");
  await redis.del("big");
  expect(answer?.equals(value)).toBe(true);
});

it("answers 20,000 commands sent in one piece, in order", async () => {
  const { socket, heard } = await raw();
  socket.write(Array.from({ length: 20_000 }, (_, i) => `ECHO ${i}\r\n`).join(""));
  const expected = Array.from({ length: 20_000 }, (_, i) => `$${String(i).length}\r\n${i}\r\n`).join("");
  await vi.waitFor(() => expect(heard().length).toBe(expected.length), 10_000);
  expect(heard()).toBe(expected);
});

it("holds back a client that pipelines without reading, and then gives it every reply", async () => {
  const redis = ioredis();
  await redis.set("chunk", "x".repeat(100_000));
  const { socket } = await raw("CLIENT SETNAME greedy\r\n");
  socket.pause();
  for (let i = 0; i < 600; i++) socket.write("GET chunk\r\n");
  socket.write("PING done\r\n");
  // its 60 MB wait in the engine, which lets only subscribers be dropped for that
  await vi.waitFor(async () => expect(await outputHeldFor(redis, "greedy")).toBeGreaterThan(32 * 1024 * 1024), 10_000);

  let bytes = 0;
  let tail = "";
  socket.on("data", (text: string) => {
    bytes += text.length;
    tail = (tail + text).slice(-20);
  });
  socket.resume();

  await vi.waitFor(() => expect(tail).toContain("$4\r\ndone\r\n"), 10_000);
  expect(bytes).toBe(600 * ("$100000\r\n".length + 100_002) + "$4\r\ndone\r\n".length);
});

it.each([
  ["large", 1024 * 1024],
  ["small", 8 * 1024],
])("drops a subscriber that is too slow by 32 MB of %s messages, and no sooner", async (_size, bytes) => {
  const { socket } = await raw("SUBSCRIBE slow\r\n");
  socket.pause();
  const dropped = once(socket, "close");
  const publisher = ioredis();
  const message = Buffer.alloc(bytes, "x");
  let published = 0;
  while ((await publisher.publish("slow", message)) === 1 && published < 128 * 1024 * 1024) published += bytes;

  expect(published).toBeGreaterThan(30 * 1024 * 1024);
  expect(published).toBeLessThan(64 * 1024 * 1024);
  socket.resume();
  await dropped;
});

it("answers a client whose FIN has come before its commands were read", async () => {
  const [slow, other] = [ioredis(), ioredis()];
  await Promise.all([slow.ping(), other.ping()]);
  const { socket, heard } = await raw();
  const closed = once(socket, "close");
  // as long as one read of Node's, so that it finds the FIN in the same turn
  const commands = `${"PING\r\n".repeat(10_922)}\r\n\r\n`;
  expect(commands.length).toBe(64 * 1024);
  const busy = slow.eval("local n = 0; for i = 1, 40000000 do n = n + i end; return 1", 0);
  const unanswered = Symbol();
  const patience = () => new Promise((resolve) => setTimeout(resolve, 50, unanswered));
  while ((await Promise.race([other.ping(), patience()])) !== unanswered);
  socket.end(commands);
  await closed;
  await busy;
  expect(heard().match(/\+PONG\r\n/g)?.length).toBe(10_922);
});

it("answers a command that comes byte by byte", async () => {
  const { socket, heard } = await raw();
  socket.setNoDelay(true);
  for (const byte of "*2\r\n$4\r\nECHO\r\n$4\r\na\r\nb\r\n") {
    socket.write(byte);
    await new Promise(setImmediate);
  }
  await vi.waitFor(() => expect(heard()).toBe("$4\r\na\r\nb\r\n"));
});

it("says what is wrong to a client that speaks no RESP, and hangs up", async () => {
  const { socket, heard } = await raw();
  const closed = once(socket, "close");
  socket.write("*3\r\n$x\r\n");
  await closed;
  expect(heard()).toBe("-ERR Protocol error: invalid bulk length\r\n");
});

it("forgets subscribers that reset their connection", async () => {
  const publisher = ioredis();
  const subscribers = await Promise.all(Array.from({ length: 50 }, () => raw("SUBSCRIBE reset\r\n")));
  expect(await publisher.publish("reset", "x")).toBe(50);
  for (const { socket } of subscribers) socket.resetAndDestroy();
  await vi.waitFor(async () => expect(await publisher.publish("reset", "x")).toBe(0));
});

it("serves 8,000 connections one after the other: more than the engine has descriptors", async () => {
  const lane = async () => {
    for (let i = 0; i < 250; i++) {
      const socket = connect(broker.port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write("PING\r\n");
      expect(String((await once(socket, "data"))[0])).toBe("+PONG\r\n");
      if (i % 2 === 0) socket.destroy();
      else socket.resetAndDestroy();
    }
  };
  await Promise.all(Array.from({ length: 32 }, lane));
});

function ioredis(options: { protocol?: 2 | 3 } = {}): Redis {
  const redis = new Redis(broker.port, "127.0.0.1", options);
  cleanups.push(() => redis.disconnect());
  return redis;
}

async function nodeRedis(RESP: 2 | 3) {
  const client = createClient({ url: broker.url, RESP });
  client.on("error", () => {});
  await client.connect();
  cleanups.push(() => client.destroy());
  return client;
}

/** A socket that has sent `first` and, if that is not empty, has had an answer. */
async function raw(first = ""): Promise<{ socket: Socket; heard: () => string }> {
  const socket = connect(broker.port, "127.0.0.1");
  cleanups.push(() => socket.destroy());
  let text = "";
  socket.setEncoding("utf8");
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    text += chunk;
  });
  await once(socket, "connect");
  if (first !== "") {
    socket.write(first);
    await once(socket, "data");
  }
  return { socket, heard: () => text };
}

async function outputHeldFor(redis: Redis, name: string): Promise<number> {
  const list = String(await redis.call("CLIENT", "LIST"));
  return Number(new RegExp(`name=${name} .* omem=(\\d+)`).exec(list)?.[1] ?? 0);
}

function child(command: string, args: string[]): { output: () => string } {
  const process: ChildProcess = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  const gone = once(process, "close");
  let text = "";
  process.stdout?.setEncoding("utf8").on("data", (chunk) => {
    text += chunk;
  });
  cleanups.push(() => {
    process.kill();
    return gone;
  });
  return { output: () => text };
}
