import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { afterEach, expect, it, vi } from "vitest";
import { MAX_CLIENTS, ValkeyBridge } from "../../src/embedded/valkey-bridge.ts";
import { bootEngine, type Engine } from "../../src/embedded/valkey-engine.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

it("pauses a client that sends faster than the engine reads, and loses none of its commands", async () => {
  const bridge = newBridge();
  const { client, accepted } = await pairOn(bridge);
  const value = "x".repeat(1024);
  const commands = 32 * 1024;
  client.write(`SET k ${value}\r\n`.repeat(commands));
  await vi.waitFor(() => expect(accepted.isPaused()).toBe(true));
  expect(accepted.bytesRead).toBeLessThan(4 * 1024 * 1024);

  let answered = 0;
  client.on("data", (chunk) => {
    answered += chunk.length;
  });
  bridge.run(await bootEngine(bridge.host, 6379));

  await vi.waitFor(() => expect(answered).toBe("+OK\r\n".length * commands), 10_000);
});

it("serves clients that came before the engine was there", async () => {
  const bridge = newBridge();
  const { client } = await pairOn(bridge);
  client.write("PING\r\n");
  bridge.run(await bootEngine(bridge.host, 6379));
  expect(String((await once(client, "data"))[0])).toBe("+PONG\r\n");
});

it("refuses, as Redis words it, the client after the last that the engine has room for", () => {
  const bridge = newBridge();
  for (let i = 0; i < MAX_CLIENTS; i++) bridge.connect(new SilentSocket() as unknown as Socket);
  const oneTooMany = new SilentSocket();
  bridge.connect(oneTooMany as unknown as Socket);
  expect(oneTooMany.heard).toBe("-ERR max number of clients reached\r\n");
});

it("boots without a word about WASI being experimental, and leaves other warnings to come", async () => {
  const warned = vi.spyOn(process, "emitWarning");
  cleanups.push(() => warned.mockRestore());
  const spied = process.emitWarning;
  await bootEngine(newBridge().host, 6379);
  expect(warned).not.toHaveBeenCalled();
  expect(process.emitWarning).toBe(spied);
});

it("says why the engine does not boot", async () => {
  const invalidPort = 70_000;
  await expect(bootEngine(newBridge().host, invalidPort)).rejects.toThrow(
    /exit code 1.*log lines:.*must be between 0 and 65535/s,
  );
});

it("reports an engine that crashes once, closes its clients, and never runs it again", async () => {
  const onCrash = vi.fn();
  const bridge = newBridge(onCrash);
  const { client } = await pairOn(bridge);
  const closed = once(client, "close");
  const step = vi.fn(() => {
    throw new Error("unreachable");
  });
  const engine: Engine = { step, memory: () => Buffer.alloc(0) };

  bridge.run(engine);

  await closed;
  expect(onCrash.mock.calls).toEqual([[new Error("unreachable")]]);
  expect(step).toHaveBeenCalledOnce();
});

it("runs the engine ten times a second for clients that wait, and once when there are none", () => {
  vi.useFakeTimers();
  cleanups.push(() => vi.useRealTimers());
  const bridge = newBridge();
  const step = vi.fn();
  bridge.run({ step, memory: () => Buffer.alloc(0) });

  const ticksOfASecond = () => {
    step.mockClear();
    vi.advanceTimersByTime(1_000);
    return step.mock.calls.length;
  };
  expect(ticksOfASecond()).toBe(2);
  bridge.connect(new SilentSocket() as unknown as Socket);
  // the arrival itself, then two passes a tick
  expect(ticksOfASecond()).toBe(21);
  expect(ticksOfASecond()).toBe(20);
});

/** What the bridge uses of a socket, without a descriptor of the system's. */
class SilentSocket extends Duplex {
  heard = "";
  override _read() {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void) {
    this.heard += chunk;
    done();
  }
  setTimeout() {}
  destroySoon() {}
}

function newBridge(onCrash: (error: unknown) => void = () => {}): ValkeyBridge {
  const bridge = new ValkeyBridge(onCrash);
  cleanups.push(() => bridge.close());
  return bridge;
}

async function pairOn(bridge: ValkeyBridge): Promise<{ client: Socket; accepted: Socket }> {
  const server = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  cleanups.push(() => server.close());
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const client = connect(address.port, "127.0.0.1");
  cleanups.push(() => client.destroy());
  const [accepted] = (await once(server, "connection")) as [Socket];
  bridge.connect(accepted);
  return { client, accepted };
}
