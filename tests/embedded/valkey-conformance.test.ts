import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type EmbeddedValkey, startEmbeddedValkey } from "../../src/embedded/valkey.ts";
import { freePort } from "../support/engines.ts";

/** Commands that one client sends together; the next step waits for their answers, unless they block. */
interface Step {
  client: string;
  send: string[][];
  blocks?: boolean;
}

const step = (client: string, ...send: string[]): Step => ({ client, send: send.map((line) => line.split(" ")) });
const blocking = (client: string, ...send: string[]): Step => ({ ...step(client, ...send), blocks: true });

const CONVERSATIONS: Record<string, Step[]> = {
  "channels and patterns": [
    step("sub", "SUBSCRIBE events:session events:other"),
    step("pat", "PSUBSCRIBE events:*"),
    step("pub", "PUBLISH events:session hello", "PUBLISH nobody x", "PUBSUB NUMSUB events:session", "PUBSUB NUMPAT"),
    step("sub", "GET x", "PING", "UNSUBSCRIBE events:session"),
    step("pub", "PUBLISH events:session again", "PUBLISH", "PUBSUB CHANNELS"),
    step("sub", "UNSUBSCRIBE", "GET x"),
    step("pat", "PUNSUBSCRIBE", "GET x"),
  ],
  "channels in RESP3": [
    step("sub", "HELLO 3", "SUBSCRIBE events:session", "GET x", "SET x 1", "GET x", "PSUBSCRIBE events:*"),
    step("pub", "PUBLISH events:session hello"),
    step("sub", "HGETALL nothing", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SMEMBERS nothing", "RESET"),
  ],
  streams: [
    step("a", "XADD s 1-1 k v", "XADD s 1-1 k v", "XADD s 0-0 k v", "XADD s NOMKSTREAM 2-* k w", "XLEN s"),
    step(
      "a",
      "XADD s MAXLEN ~ 1000 3-1 k v",
      "XADD s MAXLEN 2 3-2 k v",
      "XLEN s",
      "XRANGE s - +",
      "XREVRANGE s + - COUNT 1",
    ),
    step(
      "a",
      "XREAD COUNT 2 STREAMS s 0",
      "XREAD STREAMS s 9",
      "XTRIM s MINID 3-2",
      "XDEL s 3-1 3-2",
      "XLEN s",
      "XLEN none",
    ),
    step("a", "SET text x", "XADD text * k v", "XADD s 1-1 k", "XREAD STREAMS s"),
  ],
  "consumer groups": [
    step(
      "a",
      "XGROUP CREATE g grp $",
      "XGROUP CREATE g grp $ MKSTREAM",
      "XGROUP CREATE g grp $",
      "XADD g 1-1 a 1",
      "XADD g 1-2 a 2",
    ),
    step(
      "a",
      "XREADGROUP GROUP grp c1 COUNT 1 STREAMS g >",
      "XREADGROUP GROUP grp c2 STREAMS g >",
      "XREADGROUP GROUP grp c1 STREAMS g 0",
    ),
    step(
      "a",
      "XPENDING g grp",
      "XACK g grp 1-1 7-7",
      "XAUTOCLAIM g grp c1 0 0",
      "XAUTOCLAIM g grp c1 0 0 COUNT 1 JUSTID",
      "XPENDING g grp",
    ),
    step(
      "a",
      "XCLAIM g grp c2 0 1-2 JUSTID",
      "XREADGROUP GROUP none c STREAMS g >",
      "XGROUP DELCONSUMER g grp c1",
      "XGROUP DESTROY g grp",
    ),
  ],
  "blocking reads": [
    step(
      "a",
      "XGROUP CREATE b grp $ MKSTREAM",
      "XREADGROUP GROUP grp c BLOCK 10 STREAMS b >",
      "XREAD BLOCK 10 STREAMS b $",
    ),
    blocking("b", "XREADGROUP GROUP grp c BLOCK 0 STREAMS b >", "PING after"),
    step("a", "XADD b 5-5 k v"),
    step("b", "XLEN b"),
    blocking("b", "XREAD BLOCK 0 STREAMS b $"),
    step("a", "XADD b 6-6 k v"),
    step("b", "BLPOP list 0.01"),
  ],
  "keys and expiry": [
    step(
      "a",
      "SET k v NX PX 100000",
      "SET k w NX PX 100000",
      "GET k",
      "SET k w XX GET",
      "SET k v PX 0",
      "SET k v PX",
      "TTL k",
      "TTL none",
    ),
    step(
      "a",
      "EXPIRE k 100",
      "EXPIRE none 100",
      "PERSIST k",
      "SETEX k 100 v",
      "GETDEL k",
      "GET k",
      "DEL k none",
      "EXISTS k",
      "INCR k",
      "INCR text",
    ),
    step("a", "HSET h a 1 b 2", "HGETALL h", "LPUSH h x", "SET gone v PX 1", "TYPE h", "UNLINK h", "DBSIZE"),
  ],
  transactions: [
    step("a", "MULTI", "SET t 1", "INCR t", "GET t", "EXEC"),
    step("a", "MULTI", "NOSUCH", "SET t 5", "EXEC", "GET t"),
    step("a", "MULTI", "LPUSH t x", "INCR t", "EXEC", "EXEC", "DISCARD"),
    step("a", "WATCH t"),
    step("b", "SET t 9"),
    step("a", "MULTI", "SET t 10", "EXEC", "GET t"),
  ],
  "Lua scripts": [
    step("a", "EVAL return{KEYS[1],ARGV[1],1+1} 1 key arg", "EVAL return#ARGV 0 1 2 3", "EVAL return{err='MINE'} 0"),
    step("a", "EVAL return{redis.call('set',KEYS[1],ARGV[1]),redis.call('get',KEYS[1])} 1 lua v"),
    step(
      "a",
      "SCRIPT LOAD return(1)",
      "EVALSHA 4d2fb5b93d4a7e4e8d8b5c6f1c8a77a8f0a5d0b7 0",
      "EVAL return(cjson.encode({1,2})) 0",
    ),
  ],
  connections: [
    step(
      "a",
      "PING",
      "PING hi",
      "ECHO hi",
      "SELECT 1",
      "SELECT 99",
      "CLIENT SETNAME svc",
      "CLIENT GETNAME",
      "CLIENT SETNAME a\nb",
    ),
    step(
      "a",
      "AUTH secret",
      "AUTH nobody secret",
      "HELLO 4",
      "HELLO 3 AUTH nobody secret",
      "CLIENT NOSUCH",
      "NOSUCH a b",
      "GET",
    ),
    step("a", "CLIENT NO-EVICT on", "CLIENT REPLY ON", "COMMAND COUNT x", "WAIT 0 10", "RESET", "QUIT"),
  ],
};

let embedded: EmbeddedValkey;
let real: { port: number; stop: () => Promise<void> };
const realIsHere = spawnSync("redis-server", ["--version"]).status === 0;

beforeAll(async () => {
  if (!realIsHere) return;
  embedded = await startEmbeddedValkey({ port: 0 });
  real = await startRealRedis();
});

afterAll(async () => {
  await embedded?.stop();
  await real?.stop();
});

describe.skipIf(!realIsHere)(
  "with redis-server on PATH, the embedded Valkey answers as real Redis does, byte for byte",
  () => {
    it.each(Object.entries(CONVERSATIONS))("%s", async (_name, steps) => {
      const ours = await transcript(embedded.port, steps);
      expect(ours).toEqual(await transcript(real.port, steps));
    });
  },
);

/** All that each client heard. */
async function transcript(port: number, steps: Step[]): Promise<Record<string, string>> {
  const clients = new Map<string, Listener>();
  try {
    const control = await listenTo(port);
    clients.set("", control);
    await control.ask([["FLUSHALL"]]);
    for (const { client, send, blocks } of steps) {
      const listener = clients.get(client) ?? (await listenTo(port));
      clients.set(client, listener);
      if (blocks) {
        listener.say(send);
        await until(async () => (await control.ask([["INFO", "clients"]])).includes("blocked_clients:1"));
      } else {
        await listener.ask(send);
      }
    }
    clients.delete("");
    control.socket.destroy();
    return Object.fromEntries([...clients].map(([name, { heard }]) => [name, withoutIdentity(heard())]));
  } finally {
    for (const { socket } of clients.values()) socket.destroy();
  }
}

/** Leaves out the known differences: what HELLO tells of the server, and the wording after NOSCRIPT. */
function withoutIdentity(text: string): string {
  return text
    .replace(/(\$2\r\nid\r\n):\d+/, "$1(id)")
    .replace(/(\$7\r\nversion\r\n)\$\d+\r\n[\d.]+/, "$1(version)")
    .replace(/(\$6\r\nserver\r\n)\$\d+\r\n(redis|valkey)/, "$1(name)")
    .replace(/(\$7\r\nmodules\r\n).*?(?=>)/s, "$1(modules)")
    .replace(" Please use EVAL.", "");
}

interface Listener {
  socket: Socket;
  heard(): string;
  say(commands: string[][]): void;
  ask(commands: string[][]): Promise<string>;
}

async function listenTo(port: number): Promise<Listener> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  let text = "";
  let asked = 0;
  let closed = false;
  socket.setEncoding("utf8");
  socket.on("data", (chunk) => {
    text += chunk;
  });
  socket.on("close", () => {
    closed = true;
  });
  const say = (commands: string[][]) => {
    socket.write(commands.map(encode).join(""));
  };
  return {
    socket,
    heard: () => text,
    say,
    ask: async (commands) => {
      const from = text.length;
      const marker = `answered-${++asked}`;
      say([...commands, ["PING", marker]]);
      await until(() => text.includes(marker, from) || closed);
      return text.slice(from);
    },
  };
}

function encode(command: string[]): string {
  return `*${command.length}\r\n${command.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`;
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 2));
}

async function startRealRedis() {
  const folder = mkdtempSync(join(tmpdir(), "real-redis-"));
  const port = await freePort();
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder];
  const server: ChildProcess = spawn("redis-server", args, { stdio: "ignore" });
  const exited = once(server, "exit");
  await until(() => answers(port));
  return {
    port,
    stop: async () => {
      server.kill();
      await exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
